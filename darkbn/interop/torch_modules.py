"""Darknet's layers as PyTorch modules. Imports torch: only `darkbn.interop.torch` imports this, when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkbn.activations import CODES, mixes_channels
from darkbn.backend import to_host
from darkbn.conventions import BatchNormConvention
from darkbn.gaussian import OBJECTNESS
from darkbn.layers import weighted
from darkbn.layers.antialiasing import AntialiasedLayer

_CHANNEL_EPSILON = 1e-4

#: Activations that work on single values; formulas as in `darkbn.reference.activation`.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": torch.sigmoid,
    "loggy": lambda x: torch.tanh(x / 2),
    "relu": torch.relu,
    "elu": F.elu,
    "selu": lambda x: 1.0507 * torch.where(x >= 0, x, 1.6732 * torch.expm1(x.clamp(max=0))),
    "relie": lambda x: F.leaky_relu(x, 0.01),
    "plse": lambda x: torch.where(x < -4, 0.01 * (x + 4), torch.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)),
    "hardtan": F.hardtanh,
    "lhtan": lambda x: torch.where(x < 0, 0.001 * x, torch.where(x > 1, 0.001 * (x - 1) + 1, x)),
    "linear": lambda x: x,
    "ramp": lambda x: torch.relu(x) + 0.1 * x,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "stair": lambda x: _stair(x),
    "swish": F.silu,
    "mish": F.mish,
    "hard_mish": lambda x: torch.where(x > 0, x, x.clamp(-2, 0) * (x.clamp(-2, 0) / 2 + 1)),
    "relu6": F.relu6,
    "gelu": lambda x: x * torch.sigmoid(2 * x * (0.797885 + 0.035677 * x * x)),
    "revleaky": lambda x: F.leaky_relu(x, 0.1),
}


def _stair(x: Tensor) -> Tensor:
    below, step = x.floor(), (x / 2).floor()
    return torch.where(2 * step == below, step, (x - below) + step)


def activate(name: str, x: Tensor) -> Tensor:
    """The value of an activation at x; those that mix channels take them along axis 1."""
    if not mixes_channels(CODES[name]):
        return ACTIVATIONS[name](x)
    if name == "normalize_channels":
        parts = x.relu()
    elif name == "normalize_channels_softmax":
        parts = x.exp()
    else:
        parts = (x - x.amax(1, keepdim=True)).exp()
    return parts / (_CHANNEL_EPSILON + parts.sum(1, keepdim=True))


def tensor(array: Any) -> Tensor:
    """A float32 copy of one of darkbn's arrays."""
    array = to_host(array)
    return torch.from_numpy(np.array(array, dtype=np.float32))


# -- batch normalization -----------------------------------------------------------------------------------------------


class _Normalize(torch.autograd.Function):
    """Batch normalization with the batch's statistics and a convention's own gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: Tensor, biases: Tensor, mean: Tensor, variance: Tensor, convention: Any
    ) -> Tensor:
        ctx.save_for_backward(x, scales, mean, variance)
        ctx.convention = convention
        shape = _shape(x)
        normalized = (x - mean.view(shape)) * _inverse_root(variance, convention).view(shape)
        return normalized * scales.view(shape) + biases.view(shape)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Any:
        """As in `darkbn.reference.batchnorm.backward`."""
        x, scales, mean, variance = ctx.saved_tensors
        convention: BatchNormConvention = ctx.convention
        constants, shape = convention.gradient_constants(), _shape(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        size = x.numel() // x.shape[1]
        centered = x - mean.view(shape)
        total, product = delta.sum(axes), (delta * centered).sum(axes)
        epsilon, outside = constants.statistics_epsilon, constants.statistics_epsilon_outside
        root = _root(variance, epsilon, outside)
        slope = -0.5 / (variance.sqrt() * root**2) if outside else -0.5 * root**-3
        mean_delta, variance_delta = -scales * total / root, scales * product * slope
        own = (
            variance.sqrt() + constants.epsilon if constants.epsilon_outside else (variance + constants.epsilon).sqrt()
        )
        gradient = delta * (scales / own).view(shape) + (mean_delta / size).view(shape)
        gradient = gradient + centered * (variance_delta * 2 / (size - constants.ddof)).view(shape)
        scale_gradient = product * _inverse_root(variance, convention) if convention.trains_scales else None
        return gradient, scale_gradient, total if convention.trains_biases else None, None, None, None


def _shape(x: Tensor) -> list[int]:
    return [1, -1] + [1] * (x.dim() - 2)


def _root(variance: Tensor, epsilon: float, outside: bool) -> Tensor:
    return variance.sqrt() + epsilon if outside else (variance + epsilon).sqrt()


def _inverse_root(variance: Tensor, convention: BatchNormConvention) -> Tensor:
    root: Tensor = convention.inverse_root(variance)
    return root


class DarknetBatchNorm(nn.Module):
    """Batch normalization by one of darkbn's conventions, forward, backward and rolling statistics.

    Parameters and buffers have PyTorch's names: weight (scales), bias (biases), running_mean, running_var.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, convention: BatchNormConvention) -> None:
        super().__init__()
        self.convention = convention
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.full((channels,), convention.initial_rolling_variance))

    def forward(self, x: Tensor) -> Tensor:
        c, shape = self.convention, _shape(x)
        if not self.training:
            normalized = (x - self.running_mean.view(shape)) * _inverse_root(self.running_var, c).view(shape)
            return normalized * self.weight.view(shape) + self.bias.view(shape)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        size = x.numel() // x.shape[1]
        if size < 2:
            raise ValueError("batch normalization over one value per channel means nothing: train with larger batches")
        with torch.no_grad():
            mean = x.mean(axes)
            squares = (x - mean.view(_shape(x))).square().sum(axes)
            rest = 1 - c.rolling_decay
            self.running_mean.mul_(c.rolling_decay).add_(mean, alpha=rest)
            self.running_var.mul_(c.rolling_decay).add_(squares / (size - c.rolling_ddof), alpha=rest)
        result: Tensor = _Normalize.apply(x, self.weight, self.bias, mean, squares / (size - c.ddof), c)
        return result

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, convention={self.convention.name!r}"


def is_native(convention: BatchNormConvention) -> bool:
    """Whether PyTorch's own batch normalization computes the same, forward and backward."""
    return (
        (convention.ddof, convention.rolling_ddof, convention.epsilon_outside) == (0, 1, False)
        and convention.gradient is None
        and convention.trains_biases
        and convention.trains_scales
    )


def norm_of(layer: Any, axes: int) -> nn.Module:
    """A layer's batch normalization with its parameters; `axes` follow the channels."""
    convention, channels = layer.convention, len(layer.scales)
    if is_native(convention):
        kind = nn.BatchNorm2d if axes == 2 else nn.BatchNorm1d
        norm: Any = kind(channels, eps=convention.epsilon, momentum=1 - convention.rolling_decay)
    else:
        norm = DarknetBatchNorm(channels, convention)
    with torch.no_grad():
        for name, own in (("scales", "weight"), ("biases", "bias"), *_STATISTICS):
            getattr(norm, own).copy_(tensor(getattr(layer, name)))
    result: nn.Module = norm
    return result


_STATISTICS = (("rolling_mean", "running_mean"), ("rolling_variance", "running_var"))


# -- layers ------------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """One of Darknet's layers. `forward` takes its input and the outputs of all layers before."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.kind = layer.type
        self.image = (layer.c, layer.h, layer.w)
        self.channels = layer.out_c
        self.activation = getattr(layer, "activation", "linear")

    def as_image(self, x: Tensor) -> Tensor:
        """The input with an image's axes."""
        return x if x.dim() == 4 else x.reshape(len(x), *self.image)


class Weighted(Block):
    """Convolutions and products: a native module with the weights (`conv`), normalization (`norm`), activation."""

    def __init__(self, layer: Any, conv: nn.Module, axes: int, shared: Weighted | None = None) -> None:
        super().__init__(layer)
        self.conv: Any = shared.conv if shared else conv
        self.norm: Any = None
        if layer.batch_normalize:
            self.norm = shared.norm if shared else norm_of(layer, axes)
        if shared is None:
            with torch.no_grad():
                self.conv.weight.copy_(tensor(layer.weights))
                if self.conv.bias is not None:
                    self.conv.bias.copy_(tensor(layer.biases))

    def finish(self, x: Tensor) -> Tensor:
        """What follows the product."""
        return activate(self.activation, x if self.norm is None else self.norm(x))


class Convolution(Weighted):
    """[convolutional]; `blur` is what follows with antialiasing=."""

    def __init__(self, layer: Any, blocks: list[Any]) -> None:
        l = layer.host if isinstance(layer, AntialiasedLayer) else layer
        pad, reach = l.pad * l.dilation, l.dilation * (l.size - 1) + 1
        conv = nn.Conv2d(
            l.c,
            l.n,
            l.size,
            (l.stride_y, l.stride_x),
            padding=0 if l.dilation > 1 else pad,
            dilation=l.dilation,
            groups=l.groups,
            bias=not l.batch_normalize,
        )
        shared = blocks[l.share_layer.context.index] if l.share_layer is not None else None
        super().__init__(l, conv, 2, shared)
        self.geometry = (l.stride_y, l.stride_x), (0 if l.dilation > 1 else pad), l.dilation, l.groups
        # Darknet's output size leaves the dilation out; zeros are added, or rows cut off, behind the image.
        self.pads: list[int] | None = None
        if l.dilation > 1:
            ends = [
                (out - 1) * stride + reach - pad - length
                for out, stride, length in ((l.out_w, l.stride_x, l.w), (l.out_h, l.stride_y, l.h))
            ]
            self.pads = [pad, ends[0], pad, ends[1]]
        self.blur = Blur(layer.input_layer) if isinstance(layer, AntialiasedLayer) else None

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        x = self.as_image(x)
        x = x if self.pads is None else F.pad(x, self.pads)
        y = self.finish(F.conv2d(x, self.conv.weight, self.conv.bias, *self.geometry))
        return y if self.blur is None else self.blur(y)


class Blur(nn.Module):
    """The fixed blur behind layers with antialiasing=."""

    weights: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.register_buffer("weights", tensor(layer.weights), persistent=False)
        self.stride, self.pad = (layer.options.stride_y, layer.options.stride_x), layer.pad

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weights, None, self.stride, self.pad, groups=len(self.weights))


class Deconvolution(Weighted):
    """[deconvolutional]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        bias = not l.batch_normalize
        super().__init__(l, nn.ConvTranspose2d(l.c, l.n, l.size, l.stride, padding=l.pad, bias=bias), 2)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        return self.finish(self.conv(self.as_image(x)))


class Connected(Weighted):
    """[connected]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l, nn.Linear(l.inputs, l.outputs, bias=not l.batch_normalize), 0)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        return self.finish(self.conv(x.flatten(1)))


class Local(Block):
    """[local]: a product of its own at every place. weights (places, n, c*size*size), biases (n, out_h, out_w)."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.weights, self.biases = nn.Parameter(tensor(l.weights)), nn.Parameter(tensor(l.biases))
        ends = [
            max((out - 1) * l.stride + l.size - l.pad - length, 0) for out, length in ((l.out_w, l.w), (l.out_h, l.h))
        ]
        self.pads, self.size, self.stride = [l.pad, ends[0], l.pad, ends[1]], l.size, l.stride
        self.shape = (l.n, l.out_h, l.out_w)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        windows = F.unfold(F.pad(self.as_image(x), self.pads), self.size, stride=self.stride)
        weights = self.weights.reshape(-1, self.shape[0], windows.shape[1])
        product = torch.einsum("bpl,lnp->bnl", windows, weights)
        return activate(self.activation, product.reshape(-1, *self.shape) + self.biases)


class BatchNorm(Block):
    """[batchnorm]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.norm = norm_of(l, 2 if l.c else 0)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        result: Tensor = self.norm(self.as_image(x) if self.image[0] else x)
        return result


class Implicit(Block):
    """[implicit]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.weights, self.shape = nn.Parameter(tensor(l.weights)), (l.out_c, l.out_h, l.out_w)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        return self.weights.reshape(1, *self.shape).expand(len(x), *self.shape)


class Pool(Block):
    """[maxpool] and [local_avgpool]."""

    def __init__(self, layer: Any, blocks: list[Any]) -> None:
        l = layer.host if isinstance(layer, AntialiasedLayer) else layer
        super().__init__(l)
        o = l.options
        self.size, self.strides = o.size, (o.stride_y, o.stride_x)
        before = o.padding // 2
        self.pads = [before, o.padding - before] * 2
        self.depth = l.out_c if getattr(l, "maxpool_depth", False) else 0
        self.blur = Blur(layer.input_layer) if isinstance(layer, AntialiasedLayer) else None

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        x = self.as_image(x)
        lowest = torch.finfo(x.dtype).min
        if self.depth:
            missing = -x.shape[1] % self.depth
            groups = F.pad(x, (0, 0, 0, 0, 0, missing), value=lowest)
            return groups.reshape(len(x), -1, self.depth, *x.shape[2:]).amax(1)
        if self.kind == "maxpool":
            y = F.max_pool2d(F.pad(x, self.pads, value=lowest), self.size, self.strides)
            return y if self.blur is None else self.blur(y)
        sums = F.avg_pool2d(F.pad(x, self.pads), self.size, self.strides)
        shares = F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), self.pads), self.size, self.strides)
        return sums / shares.clamp(min=1 / self.size**2)


class Function(Block):
    """A layer without parameters, computed by a function of its input."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.compute = FUNCTIONS[l.type](l)

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        return self.compute(self.as_image(x) if self.image[0] else x)


class Dropout(Block):
    """[dropout]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.probability = l.probability

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        return F.dropout(x, self.probability, self.training)


class Route(Block):
    """[route]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.sources = [(s.context.index, (s.out_c, s.out_h, s.out_w)) for s in l.sources]
        self.groups, self.group = l.groups, l.group_id

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        parts = []
        for index, shape in self.sources:
            part = outputs[index]
            part = part.reshape(len(part), *(shape if part.dim() == 2 else part.shape[1:])) if self.channels else part
            part = part if self.channels else part.flatten(1)
            parts.append(part.chunk(self.groups, 1)[self.group])
        return torch.cat(parts, 1)


class Shortcut(Block):
    """[shortcut]; `weights` where it has learned ones."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.sources = [layer.context.index for layer in l.from_layers]
        self.alpha, self.beta = l.alpha, l.beta
        self.weights = nn.Parameter(tensor(l.weights)) if l.weighted else None
        self.normalization = weighted.NORMALIZATIONS[l.options.weights_normalization]

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        x = self.as_image(x)
        others = [outputs[index] for index in self.sources]
        if self.weights is not None:
            return activate(self.activation, self._weighted(x, others))
        total = x
        for number, other in enumerate(others):
            alpha = self.alpha if number == 0 else 1.0
            total = _add_where_they_meet(total, other, alpha, self.beta)
        return activate(self.activation, total)

    def _weighted(self, x: Tensor, others: list[Tensor]) -> Tensor:
        assert self.weights is not None
        weights = self.weights.reshape(len(others) + 1, -1)
        if self.normalization:
            relu = self.normalization == 1
            parts = weights.relu() if relu else (weights - weights.amax(0, keepdim=True)).exp()
            weights = parts / (_CHANNEL_EPSILON + parts.sum(0))
        total = x * weights[0].reshape(1, -1, 1, 1)
        for other, row in zip(others, weights[1:], strict=True):
            common = min(other.shape[1], x.shape[1])
            shares = row if len(row) == 1 else row[:common]
            part = other[:, :common] * shares.reshape(1, -1, 1, 1)
            total = total + F.pad(part, (0, 0, 0, 0, 0, x.shape[1] - common))
        return total


def _add_where_they_meet(x: Tensor, other: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha*x + beta*other in their common channels and pixels, x elsewhere."""
    common = min(x.shape[1], other.shape[1])
    rows, columns = (_steps(x.shape[axis], other.shape[axis]) for axis in (2, 3))
    mine = (slice(None), slice(common), rows[0], columns[0])
    result = x.clone()
    result[mine] = alpha * x[mine] + beta * other[:, :common, rows[1], columns[1]]
    return result


def _steps(a: int, b: int) -> tuple[slice, slice]:
    count, step_a, step_b = min(a, b), max(a // b, 1), max(b // a, 1)
    return slice(0, count * step_a, step_a), slice(0, count * step_b, step_b)


class Product(Block):
    """[sam] and [scale_channels]."""

    def __init__(self, l: Any, blocks: list[Any]) -> None:
        super().__init__(l)
        self.source = l.source.context.index

    def forward(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        source = outputs[self.source]
        if self.kind == "scale_channels" and x.dim() == 2:
            x = x.reshape(*x.shape, 1, 1)
        return activate(self.activation, x.reshape(source.shape) * source if self.kind == "sam" else x * source)


# -- layers without parameters -----------------------------------------------------------------------------------------


Compute = Callable[[Tensor], Tensor]


def _upsample(l: Any) -> Compute:
    if l.reverse:
        return lambda x: F.avg_pool2d(x, l.stride) * (l.scale * l.stride**2)
    return lambda x: F.interpolate(x, scale_factor=float(l.stride), mode="nearest") * l.scale


def _to_depth(x: Tensor, s: int) -> Tensor:
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // s, s, w // s, s)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(b, s * s * c, h // s, w // s)


def _to_space(x: Tensor, s: int) -> Tensor:
    b, c, h, w = x.shape
    blocks = x.reshape(b, s, s, c // (s * s), h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(b, c // (s * s), h * s, w * s)


def _reorg(l: Any) -> Compute:
    s, shape = l.stride, (l.out_c, l.out_h, l.out_w)
    if l.extra:
        return lambda x: F.pad(x.flatten(1), (0, l.extra))
    if l.flatten:
        rows = (l.h * l.w, l.c) if l.reverse else (l.c, l.h * l.w)
        return lambda x: x.reshape(len(x), *rows).transpose(1, 2).reshape(len(x), *shape)
    if l.reverse:
        return lambda x: _to_space(x, s).reshape(len(x), *shape)
    return lambda x: _to_depth(x.reshape(len(x), l.c // s**2, l.h * s, l.w * s), s).reshape(len(x), *shape)


def _reorg3d(l: Any) -> Compute:
    stride, turn = l.options.stride, _to_space if l.options.reverse else _to_depth
    return lambda x: turn(x, stride)


def _softmax(l: Any) -> Compute:
    if l.spatial:
        return lambda x: (x / l.temperature).softmax(1)
    return lambda x: (x.reshape(len(x), l.groups, -1) / l.temperature).softmax(2).reshape(x.shape)


def _normalization(l: Any) -> Compute:
    o = l.options
    k, j = np.mgrid[: l.c, : l.c]
    inside = (k - (o.size - 1) // 2 <= j) & (j <= k + o.size // 2)
    window = tensor(inside * 1.0 - (j == o.size // 2))

    def compute(x: Tensor) -> Tensor:
        sums = torch.einsum("kj,bjhw->bkhw", window.to(x), x * x)
        return x * (o.kappa + o.alpha * sums) ** -o.beta

    return compute


def _l2norm(x: Tensor) -> Tensor:
    length = x.square().sum(1, keepdim=True).sqrt()
    return x / torch.where(length > 0, length, 1.0)


def _crop(l: Any) -> Compute:
    top, left = (l.h - l.out_h) // 2, (l.w - l.out_w) // 2
    return lambda x: x[:, :, top : top + l.out_h, left : left + l.out_w] * l.scale + l.translate


def _entries(n: int, total: int, chosen: Any) -> Tensor:
    flags = torch.zeros(total, dtype=torch.bool)
    flags[list(chosen)] = True
    return flags.repeat(n).reshape(1, -1, 1, 1)


def _activated_map(l: Any, places: Any, untouched: Any) -> Compute:
    raw, moved = _entries(l.n, l.entries, untouched), _entries(l.n, l.entries, places)
    spread = l.options.scale_x_y

    def compute(x: Tensor) -> Tensor:
        y = torch.where(raw.to(x.device), x, x.sigmoid())
        return torch.where(moved.to(x.device), y * spread - 0.5 * (spread - 1), y)

    return compute


def _yolo(l: Any) -> Compute:
    return _activated_map(l, (0, 1), range(l.entries) if l.options.new_coords else (2, 3))


def _gaussian_yolo(l: Any) -> Compute:
    assert OBJECTNESS == 8
    return _activated_map(l, (0, 2), (4, 6))


def _region(l: Any) -> Compute:
    softmax, cells = l.options.softmax, l.in_cells
    background = not cells and l.options.background

    def compute(x: Tensor) -> Tensor:
        y = x.reshape(len(x), l.n, l.entries, -1)
        place, size, objectness, classes = y[:, :, :2], y[:, :, 2:4], y[:, :, 4:5], y[:, :, 5:]
        if background and softmax:
            objectness, classes = y[:, :, 4:].softmax(2).split([1, l.classes], 2)
        else:
            objectness = objectness if background else objectness.sigmoid()
            classes = classes.softmax(2) if softmax else classes if cells else classes.sigmoid()
        parts = torch.cat([place if cells else place.sigmoid(), size, objectness, classes], 2)
        return (parts.permute(0, 3, 1, 2) if cells else parts).reshape(x.shape)

    return compute


def _detection(l: Any) -> Compute:
    def compute(x: Tensor) -> Tensor:
        x = x.flatten(1)
        if not l.options.softmax:
            return x
        classes, rest = x[:, : l.cells * l.classes], x[:, l.cells * l.classes :]
        return torch.cat([classes.reshape(len(x), l.cells, -1).softmax(2).flatten(1), rest], 1)

    return compute


def _iseg(l: Any) -> Compute:
    return lambda x: torch.cat([x[:, : l.classes].sigmoid(), x[:, l.classes :]], 1)


def _unchanged(l: Any) -> Compute:
    return lambda x: x


def _activation(l: Any) -> Compute:
    return lambda x: activate(l.activation, x)


#: How to compute the layers that have no parameters and only one input.
FUNCTIONS: dict[str, Callable[[Any], Compute]] = {
    "upsample": _upsample,
    "reorg": _reorg,
    "reorg3d": _reorg3d,
    "softmax": _softmax,
    "normalization": _normalization,
    "l2norm": lambda l: _l2norm,
    "crop": _crop,
    "avgpool": lambda l: lambda x: x.mean((2, 3), keepdim=True),
    "activation": _activation,
    "logistic": lambda l: torch.sigmoid,
    "cost": _unchanged,
    "empty": _unchanged,
    "contrastive": _unchanged,
    "iseg": _iseg,
    "yolo": _yolo,
    "Gaussian_yolo": _gaussian_yolo,
    "region": _region,
    "detection": _detection,
}

#: The block of each section type.
BLOCKS: dict[str, Callable[[Any, list[Any]], Block]] = {
    **dict.fromkeys(FUNCTIONS, Function),
    "convolutional": Convolution,
    "deconvolutional": Deconvolution,
    "connected": Connected,
    "local": Local,
    "batchnorm": BatchNorm,
    "implicit": Implicit,
    "maxpool": Pool,
    "local_avgpool": Pool,
    "dropout": Dropout,
    "route": Route,
    "shortcut": Shortcut,
    "sam": Product,
    "scale_channels": Product,
}


class DarknetModule(nn.Module):
    """A Darknet network as a PyTorch module. Made by `darkbn.interop.torch.to_module`.

    `forward` takes (batch, c, h, w), or (batch, inputs), float32, and returns the output layer's value, with several
    detection heads a tuple of theirs, shaped and activated as `Layer.output` is. It holds no reference to the network.

    Attributes:
        layers: one block per layer of the network, by its index.
        seen: images seen in training, as the .weights file says; who trains adds to it.
    """

    def __init__(self, blocks: list[Block], results: list[int], seen: int, limit: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.results, self.seen, self.input_shape = results, seen, limit

    def forward(self, x: Tensor) -> Any:
        outputs: list[Tensor] = []
        for block in self.layers:
            x = block(x, outputs)
            outputs.append(x)
        found = [outputs[index] for index in self.results]
        return found[0] if len(found) == 1 else tuple(found)
