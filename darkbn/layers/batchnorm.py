"""[batchnorm], and the batch normalization inside convolutional and connected layers.

    x_norm = (x - mean) / root(variance),  output = scales * x_norm + biases

with the statistics of the batch in training and the rolling ones otherwise. The convention (`darkbn.conventions`) says
how the variance is divided, where epsilon goes, how fast the rolling statistics follow, and which gradient is taken.

Cross-iteration batch normalization (batch_normalize=2 or cbn=1 of a [convolutional], dialect alexeyab; Yao et al. 2020
in the simplified form of AlexeyAB's CUDA code): mean and mean square are averaged over the passes (subdivisions) of an
iteration so far, variance = average of the mean square - mean^2, and the rolling statistics follow after every pass.
The gradient is that of ordinary batch normalization with these statistics. It holds on every backend (Darknet's CPU
code takes it for 1); the mean square is divided by N (ab-cbn-divides-by-n-minus-1).

Departures from Darknet: the standalone layer learns its scales in both dialects (pj-standalone-batchnorm-not-updated;
its biases stay in dialect darknet, whose files have no room for them), and adds its gradient to the layer before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darkbn.activations import CODES
from darkbn.conventions import BatchNormConvention
from darkbn.errors import DtypeError, NonFiniteError, ShapeError, TrainingError
from darkbn.layers.base import Buffer, Context, Layer, Role, apply_updates
from darkbn.state import NetworkState, UpdateArgs

#: The arrays as they follow each other in a .weights file.
FILE_ORDER = ("scales", "rolling_mean", "rolling_variance")


class BatchNormalized(Layer):
    """A layer that can normalize its output. Arrays, one value per channel: scales, mean, variance, rolling_mean,
    rolling_variance, scale_updates, mean_delta, variance_delta; `x`, the values before, shaped like output."""

    #: Whether its statistics are averaged over the passes of an iteration (batch_normalize=2).
    cross_iteration: bool = False
    #: Name of the activation that follows the normalization.
    activation: str = "linear"
    #: Whether normalization and activation are one pass in training; set by layers that ask `activated`.
    joins_activation: bool = False
    _joined: bool = False

    @property
    def activated(self) -> bool:
        """Whether the activation was part of the last pass of normalization, and is of the way back through it."""
        return self._joined

    @property
    def convention(self) -> BatchNormConvention:
        """The convention of batch normalization that this layer follows."""
        return self.context.convention

    @property
    def x_norm(self) -> Any:
        """(x - mean) / root(variance) of the last training pass, shaped like output; computed on access."""
        x = _by_channel(self, self.x)
        out = self.backend.empty(x.shape)
        c = self.convention
        self.backend.batchnorm.normalize(x, out, self.mean, self.variance, c.epsilon, int(c.epsilon_outside), 1)
        return out.reshape(self.output_shape)


def channel_buffers(n: int, convention: BatchNormConvention) -> list[Buffer]:
    """The arrays with one value per channel."""
    return [
        Buffer("scales", (n,), Role.PARAMETER, fill=1.0),
        Buffer("scale_updates", (n,), Role.UPDATE, training=True),
        Buffer("rolling_mean", (n,), Role.STATISTIC),
        Buffer("rolling_variance", (n,), Role.STATISTIC, fill=convention.initial_rolling_variance),
        *(Buffer(name, (n,), Role.SCRATCH, training=True) for name in ("mean", "variance")),
        *(Buffer(name, (n,), Role.SCRATCH, training=True) for name in ("mean_delta", "variance_delta")),
    ]


def sample_buffers(shape: tuple[int, ...]) -> list[Buffer]:
    """The values before normalization, which its gradient needs."""
    return [Buffer("x", shape, Role.SCRATCH, training=True)]


def cross_iteration_buffers(n: int) -> list[Buffer]:
    """Means of the statistics over the passes of an iteration: of the mean, and of the mean square."""
    names = ("m_cbn_avg", "v_cbn_avg")
    return [Buffer(name, (n,), Role.ITERATION, training=True, dtype="float64") for name in names]


def _by_channel(l: Layer, array: Any) -> Any:
    return array.reshape(l.batch, l.out_c or l.outputs, -1)


class BatchnormLayer(BatchNormalized):
    """Batch normalization of the input, channel by channel (value by value without image shape)."""

    type = "batchnorm"
    sections = ("batchnorm",)
    _input: Any = None

    def shape(self) -> None:
        if self.inputs < 1:
            raise self.context.error("needs an input")
        if self.batch < 1:
            raise self.context.error(f"batch must be at least 1, found {self.batch}")
        self.out_h, self.out_w, self.out_c, self.outputs = self.h, self.w, self.c, self.inputs
        self.channels = self.out_c or self.outputs

    @property
    def x(self) -> Any:
        """The values that it normalizes: the input of the last pass."""
        return self._input

    def buffers(self) -> list[Buffer]:
        return [
            Buffer("biases", (self.channels,), Role.PARAMETER),
            Buffer("bias_updates", (self.channels,), Role.UPDATE, training=True),
            *channel_buffers(self.channels, self.convention),
            *self.output_buffers(),
        ]

    def weights_order(self) -> tuple[str, ...]:
        return FILE_ORDER if self.context.dialect == "darknet" else ("biases", *FILE_ORDER)

    def forward(self, net: NetworkState) -> None:
        forward_batchnorm_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_batchnorm_layer(self, net)

    def update(self, args: UpdateArgs) -> None:
        update_batchnorm_layer(self, args)

    @property
    def flops(self) -> int:
        return 2 * self.outputs


def make_batchnorm_layer(batch: int, w: int, h: int, c: int, **context: Any) -> BatchnormLayer:
    """A batch normalization layer outside a network, ready to train.

    Args:
        batch, w, h, c: input shape.
        context: further fields of `Context` (backend, dialect, convention).
    """
    l = BatchnormLayer(BatchnormLayer.options_class(), Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, **context))
    l.allocate(training=True)
    return l


def forward_batchnorm_layer(l: BatchNormalized, net: NetworkState) -> None:
    """Normalize into l.output.

    A [batchnorm] layer reads net.input. Inside another layer the values are in l.x when training, else in l.output.
    """
    if isinstance(l, BatchnormLayer):
        x = l._input = _own_input(l, net)
    else:
        x = l.x if net.batch_statistics else l.output
    source, out, c = _by_channel(l, x), _by_channel(l, l.output), l.convention
    l._joined = False
    if not net.batch_statistics:
        statistics, root = (l.rolling_mean, l.rolling_variance), (c.epsilon, int(c.epsilon_outside))
        l.backend.batchnorm.forward(source, out, *statistics, l.scales, l.biases, *root, net.threads)
        return
    l._joined = l.joins_activation
    _require_several_values(l, source)
    kept = (l.rolling_mean, l.rolling_variance, *((l.m_cbn_avg, l.v_cbn_avg) if l.cross_iteration else ()))
    with _finite(l, net, "x", (l.mean, l.variance), kept):
        _normalize_by_batch(l, source, out, net)


def _normalize_by_batch(l: Any, source: Any, out: Any, net: NetworkState) -> None:
    c = l.convention
    root = (c.epsilon, int(c.epsilon_outside))
    if l.cross_iteration:
        _average_statistics(l, source, net)
        l.backend.batchnorm.forward(source, out, l.mean, l.variance, l.scales, l.biases, *root, net.threads)
        return
    l.backend.batchnorm.forward_train(
        source,
        out,
        l.mean,
        l.variance,
        l.rolling_mean,
        l.rolling_variance,
        l.scales,
        l.biases,
        net.rolling_decay(c.rolling_decay),
        c.ddof,
        c.rolling_ddof,
        *root,
        _activation(l),
        net.threads,
    )


def _activation(l: BatchNormalized) -> int:
    """Code of the activation that is part of the kernel."""
    return CODES[l.activation] if l.activated else CODES["linear"]


def _own_input(l: BatchnormLayer, net: NetworkState) -> Any:
    """net.input as the layer's input; raises DtypeError or ShapeError when it cannot be."""
    x, where = net.input, f"layer {l.context.index} [batchnorm]: the input"
    if not isinstance(x, l.backend.xp.ndarray):
        raise DtypeError(f"{where} must be an array of {l.backend.dtype}, found {type(x).__name__}")
    if x.dtype != l.backend.dtype:
        raise DtypeError(f"{where} must be of {l.backend.dtype}, found {x.dtype}")
    if x.shape[:1] != (l.batch,) or x.size != l.batch * l.inputs:
        raise ShapeError(f"{where} must have shape {l.output_shape}, found {x.shape}")
    if not x.flags.c_contiguous:
        raise ShapeError(f"{where} of shape {x.shape} must be C-contiguous")
    return x.reshape(l.output_shape)


@contextmanager
def _finite(
    l: BatchNormalized, net: NetworkState, name: str, sums: tuple[Any, ...], kept: tuple[Any, ...]
) -> Iterator[None]:
    """Raise NonFiniteError, with `kept` as before, when sums over the values of `name` tell of NaN or infinity."""
    if not net.check_finite:
        yield
        return
    before = [array.copy() for array in kept]
    yield
    xp = l.backend.xp
    finite = xp.isfinite(sums[0]) & xp.isfinite(sums[1])
    if finite.all():
        return
    for array, old in zip(kept, before, strict=True):
        array[...] = old
    index, channel = l.context.index, int(finite.argmin())
    raise NonFiniteError(
        f"layer {index} [{l.type}] batch normalization: NaN or infinity in channel {channel} of {name}",
        layer=index,
        type=l.type,
        array=name,
    )


def _average_statistics(l: Any, x: Any, net: NetworkState) -> None:
    """mean and variance over the passes of this iteration so far; the rolling ones follow them."""
    c, kernels = l.convention, l.backend.batchnorm
    kernels.mean(x, l.mean, net.threads)
    kernels.variance(x, l.mean, l.variance, 0, net.threads)
    mean = l.mean.astype("float64")
    share = 1 / (net.subdivision + 1)
    for average, value in ((l.m_cbn_avg, mean), (l.v_cbn_avg, l.variance + mean**2)):
        average[...] = value if net.subdivision == 0 else (1 - share) * average + share * value
    l.mean[...] = l.m_cbn_avg
    l.variance[...] = (l.v_cbn_avg - l.m_cbn_avg**2).clip(0)
    decay = net.rolling_decay(c.rolling_decay)
    for rolling, value in ((l.rolling_mean, l.mean), (l.rolling_variance, l.variance)):
        rolling[...] = decay * rolling + (1 - decay) * value


def _require_several_values(l: Layer, x: Any) -> None:
    values = x.shape[0] * x.shape[2]
    if values < 2:
        raise TrainingError(
            f"layer {l.context.index} [{l.type}]: batch normalization has one value per channel (batch {x.shape[0]},"
            f" {x.shape[2]} positions), so its variance means nothing: train with batch/subdivisions of at least 2"
        )


def backward_batchnorm_layer(l: BatchNormalized, net: NetworkState) -> None:
    """l.delta becomes the gradient before normalization; scale_updates and bias_updates are added to.

    A [batchnorm] layer then adds it to net.delta.
    """
    c, g = l.convention, l.convention.gradient_constants()
    x = _own_input(l, net) if isinstance(l, BatchnormLayer) else l.x
    with _finite(l, net, "delta", (l.mean_delta, l.variance_delta), (l.scale_updates, l.bias_updates)):
        l.backend.batchnorm.backward(
            _by_channel(l, x),
            _by_channel(l, l.delta),
            l.mean,
            l.variance,
            l.scales,
            l.biases,
            l.scale_updates if c.trains_scales else None,
            l.bias_updates if c.trains_biases else None,
            l.mean_delta,
            l.variance_delta,
            c.epsilon,
            int(c.epsilon_outside),
            g.epsilon,
            int(g.epsilon_outside),
            g.statistics_epsilon,
            int(g.statistics_epsilon_outside),
            g.ddof,
            _activation(l),
            net.threads,
        )
    if isinstance(l, BatchnormLayer) and net.delta is not None:
        l.backend.vector.axpy(l.delta.reshape(-1), net.delta.reshape(-1), 1.0, net.threads)


def update_batchnorm_layer(l: BatchnormLayer, args: UpdateArgs) -> None:
    """One step of gradient descent with momentum, without weight decay."""
    if l.context.dialect == "darknet":
        l.bias_updates.fill(0)  # the file has no biases: they stay at zero
    apply_updates(l, args)


def resize_batchnorm_layer(l: BatchnormLayer, w: int, h: int) -> None:
    """Take an input of w x h."""
    l.resize(w, h)
