"""The layer: sizes first, then declared buffers, then passes."""

from __future__ import annotations

import builtins
import enum
import functools
import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from darkbn.backend import Backend, get_backend
from darkbn.cfg import Section
from darkbn.conventions import BatchNormConvention, get_convention
from darkbn.errors import CfgError, DarkbnError
from darkbn.options import Options, option
from darkbn.state import NetworkState, UpdateArgs
from darkbn.steps import ParameterStep, take_step


class Role(enum.Enum):
    """What an array is for. Decides who allocates, saves, updates, moves and counts it."""

    PARAMETER = "parameter"  # learned; in the weights file
    UPDATE = "update"  # accumulated gradient of the parameter of the same name
    OPTIMIZER = "optimizer"  # means that Adam keeps of an update
    AVERAGE = "average"  # moving average of a parameter
    STATISTIC = "statistic"  # rolling statistics; in the weights file, not learned
    ACTIVATION = "activation"  # depends on the input; per sample
    SCRATCH = "scratch"  # kept between forward and backward
    STATE = "state"  # carried from one pass to the next
    ITERATION = "iteration"  # gathered over the passes of one iteration


@dataclass(frozen=True)
class Buffer:
    """One array of a layer.

    Attributes:
        name: attribute of the layer that holds it.
        shape: its shape.
        role: see Role.
        training: whether only training needs it.
        dtype: element type; None = the backend's float type.
        fill: initial value.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    training: bool = False
    dtype: str | None = None
    fill: float = 0.0

    def nbytes(self, float_dtype: str) -> int:
        """Bytes it takes; exact for any size (Python integers)."""
        return math.prod(self.shape) * np.dtype(self.dtype or float_dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class LayerOptions(Options):
    """Options that every section understands."""

    truth: bool = option(False, only="darknet")
    onlyforward: bool = option(False)
    stopbackward: int = option(0)
    dontsave: bool = option(False, only="darknet")
    dontload: bool = option(False)
    numload: int = option(0, only="darknet", minimum=0)
    dontloadscales: bool = option(False)
    learning_rate: float = option(1.0)
    smooth: float = option(0.0, only="darknet")
    clip: float = option(0.0, only="alexeyab")
    dont_update: int = option(0, only="alexeyab")
    burnin_update: int = option(0, only="alexeyab")
    train_only_bn: bool = option(False, only="alexeyab")


@dataclass(frozen=True)
class Context:
    """Everything a layer is built from besides its options.

    Attributes:
        batch: samples per pass (batch / subdivisions * time_steps).
        h, w, c: image shape of the input; 0 when it has none (after connected layers).
        inputs: values per sample of the input.
        backend: where its arrays live.
        dialect: "darknet" or "alexeyab".
        convention: of batch normalization.
        time_steps: samples of the batch that follow each other in time.
        layers: the layers before this one.
        index: its own index.
        section: its text, for messages; None when built by a make_ function.
        net_h, net_w: size of the network's input.
        adam: whether training is with Adam.
        average: whether training keeps moving averages of the parameters (ema_alpha).
        warnings: where a layer reports what is odd but can be meant; see `warn`.
    """

    batch: int
    h: int = 0
    w: int = 0
    c: int = 0
    inputs: int = 0
    backend: Backend = field(default_factory=lambda: get_backend("cpu"))
    dialect: str = "darknet"
    convention: BatchNormConvention = field(default_factory=lambda: get_convention("darknet"))
    time_steps: int = 1
    layers: Sequence[Layer] = ()
    index: int = 0
    section: Section | None = None
    net_h: int = 0
    net_w: int = 0
    adam: bool = False
    average: bool = False
    warnings: list[str] = field(default_factory=list)

    def warn(self, problem: str, *, key: str | None = None) -> None:
        """Report something odd, with file, line, section and layer."""
        self.warnings.append(str(self.error(problem, key=key)))

    def error(self, problem: str, *, key: str | None = None) -> DarkbnError:
        """A CfgError that names file, line, section and layer, or just the problem without a section."""
        if self.section is None:
            return CfgError(problem, key=key, index=self.index, file="<arguments>")
        return self.section.error(problem, key=key, index=self.index)

    def find_layer(self, index: int, *, key: str = "from") -> Layer:
        """The layer that an index in the cfg means: absolute, or counted back from this one where negative.

        Raises CfgError unless it comes before this one.
        """
        target = index if index >= 0 else self.index + index
        if not 0 <= target < self.index:
            valid = f"0 to {self.index - 1} or -1 to -{self.index}" if self.index else "none, this is the first one"
            raise self.error(f"{index} means layer {target}, but it must come before this one: {valid}", key=key)
        return self.layers[target]

    def require_image(self, what: str) -> None:
        """Raise CfgError unless the input is an image."""
        if not (self.h and self.w and self.c):
            before = (
                f"layer {self.index - 1} gives {self.inputs} values without image shape"
                if self.index
                else "[net] gives no width, height and channels"
            )
            subject = "" if self.section else f"{what} "
            raise self.error(f"{subject}needs an input with width, height and channels; {before}")


class Layer:
    """Base of all layers.

    A subclass sets `type`, `options_class`, computes sizes in `shape()`, declares `buffers()` and implements `forward`,
    `backward`. Arrays become attributes when `allocate` is called.

    Attributes:
        type: Darknet's name of the section.
        batch, h, w, c, inputs: input shape per sample; out_h, out_w, out_c, outputs: output shape.
        output: (batch, out_c, out_h, out_w), or (batch, outputs) without image shape.
        delta: gradient with respect to output (descent direction), same shape; only when training.
        cost: loss of the last training pass for layers with a loss, else None; read off the device when asked for.
        train_only_bn: only what batch normalization has learns: scales and biases behind it.
    """

    type: ClassVar[str]
    sections: ClassVar[tuple[str, ...]]
    options_class: ClassVar[builtins.type[LayerOptions]] = LayerOptions
    #: Whether training passes compute a loss (`cost`) and write `delta` themselves.
    has_cost: ClassVar[bool] = False
    #: Whether detections are read from its output.
    is_head: ClassVar[bool] = False
    #: Whether backward asks `NetworkState.replaces` for every delta of another layer that it writes.
    replaces_deltas: bool = False
    #: Whether `clip` bounds its weights after each step; in Darknet only some layers look at it.
    bounds_weights: ClassVar[bool] = False

    def __init__(self, options: Any, context: Context) -> None:
        self.options: Any = options
        self.context = context
        self.backend = context.backend
        self.batch = context.batch
        self.h, self.w, self.c, self.inputs = context.h, context.w, context.c, context.inputs
        self.out_h = self.out_w = self.out_c = 0
        self.outputs = 0
        self._cost: float | None = None
        self._left: tuple[Any, ...] = ()
        self.trainable = self.train_only_bn = False
        self.output: Any = None
        self.delta: Any = None
        if options.clip and not self.bounds_weights:
            context.warn("bounds the weights of [convolutional] and [implicit] only: ignored", key="clip")
        self.shape()

    @classmethod
    def build(cls, options: Any, context: Context) -> Layer:
        """The layer that a section's options ask for: of this class, unless an option wants another."""
        return cls(options, context)

    def __getattr__(self, name: str) -> Any:
        # Reached only for attributes that do not exist: arrays are set by `allocate`.
        kind = "is not allocated (it exists after allocate(), or in training only)"
        if name.startswith("__") or "options" not in self.__dict__ or name not in {b.name for b in self.all_buffers()}:
            kind = "does not exist"
        raise AttributeError(f"{name} of {self.type} layer {kind}")

    # -- sizes ---------------------------------------------------------------------------------------------------

    def shape(self) -> None:
        """Compute out_h, out_w, out_c and outputs from the input's sizes; raise CfgError when they cannot be."""
        raise NotImplementedError

    def set_output(self, h: int, w: int, c: int) -> None:
        """Give the output an image shape."""
        if h < 1 or w < 1 or c < 1:
            raise self.context.error(
                f"the output would be {w} x {h} x {c} (width, height, channels);"
                f" the input is {self.w} x {self.h} x {self.c}"
            )
        self.out_h, self.out_w, self.out_c, self.outputs = h, w, c, h * w * c

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of `output`."""
        if self.out_h and self.out_w and self.out_c:
            return (self.batch, self.out_c, self.out_h, self.out_w)
        return (self.batch, self.outputs)

    def reshape(self, w: int, h: int, c: int, inputs: int) -> None:
        """Compute the sizes anew for an input of another size; arrays stay as they are until `allocate`.

        Raises CfgError when the sizes cannot be.
        """
        self.w, self.h, self.c, self.inputs = w, h, c, inputs
        self.shape()

    def resize(self, w: int, h: int) -> None:
        """Take an input of w x h with as many channels: arrays that depend on it are made anew.

        Parameters and statistics keep their values. Raises CfgError when the sizes cannot be.
        """
        old = (self.w, self.h, self.c, self.inputs)
        try:
            self.reshape(w, h, self.c, w * h * self.c)
        except DarkbnError:
            self.reshape(*old)
            raise
        if self.output is not None:
            self.allocate(self.trainable)

    # -- arrays --------------------------------------------------------------------------------------------------

    def buffers(self) -> list[Buffer]:
        """All arrays of the layer, each declared once."""
        return self.output_buffers()

    def all_buffers(self) -> list[Buffer]:
        """`buffers()`, and what optimizer and moving averages keep for the parameters among them."""
        own = self.buffers()
        return own + optimizer_buffers(own, self.context)

    @functools.cached_property
    def updates(self) -> tuple[str, ...]:
        """Names of its accumulated gradients."""
        return tuple(b.name for b in self.buffers() if b.role is Role.UPDATE)

    def output_buffers(self) -> list[Buffer]:
        """The declarations of output and delta."""
        return [
            Buffer("output", self.output_shape, Role.ACTIVATION),
            Buffer("delta", self.output_shape, Role.ACTIVATION, training=True),
        ]

    @property
    def gradient_sources(self) -> Sequence[Layer]:
        """Earlier layers, besides the one before, to whose deltas backward adds."""
        return ()

    @property
    def sublayers(self) -> dict[str, Layer]:
        """Layers inside this one, by their Darknet names (recurrent layers have them)."""
        return {}

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all inside it, with dotted name prefixes ("", "input_layer.", ...)."""
        yield prefix, self
        for name, layer in self.sublayers.items():
            yield from layer.walk(f"{prefix}{name}.")

    def allocate(self, training: bool) -> None:
        """Make the declared arrays; those that exist with the right shape keep their values."""
        self.trainable = training
        for buffer in self.all_buffers():
            if buffer.training and not training:
                continue
            old = getattr(self, buffer.name, None)
            if old is None or old.shape != buffer.shape:
                setattr(self, buffer.name, self.backend.zeros(buffer.shape, buffer.dtype))
                if buffer.fill:
                    getattr(self, buffer.name).fill(buffer.fill)
        for layer in self.sublayers.values():
            layer.allocate(training)

    def release(self, roles: Container[Role] = tuple(Role)) -> None:
        """Let go of the arrays that have these roles; `allocate` makes them anew."""
        for buffer in self.all_buffers():
            if buffer.role in roles and buffer.name in vars(self):
                delattr(self, buffer.name)
                if buffer.name in ("output", "delta"):
                    setattr(self, buffer.name, None)
        for layer in self.sublayers.values():
            layer.release(roles)

    def nbytes(self, training: bool) -> int:
        """Bytes of all declared arrays."""
        own = sum(b.nbytes(self.backend.dtype) for b in self.all_buffers() if training or not b.training)
        return own + sum(layer.nbytes(training) for layer in self.sublayers.values())

    def initialize(self, rng: np.random.Generator) -> None:
        """Give the parameters their initial random values."""
        for layer in self.sublayers.values():
            layer.initialize(rng)

    def weights_order(self) -> tuple[str, ...]:
        """Names of the arrays as they follow each other in a .weights file of this dialect."""
        return ()

    def untrainable(self) -> list[str]:
        """Why the layer cannot be trained; empty when it can."""
        reasons: list[str] = self.options.untrainable(self.context.dialect)
        return reasons

    # -- losses --------------------------------------------------------------------------------------------------

    @property
    def cost(self) -> float | None:
        """Loss of the last training pass."""
        take_losses((self,))
        return self._cost

    @cost.setter
    def cost(self, value: float | None) -> None:
        self._cost, self._left = value, ()

    def leave_loss(self, *arrays: Any) -> None:
        """What the loss of this pass is made of. The arrays stay where they are until somebody asks for the cost: on a
        GPU the host need not wait for it layer by layer."""
        self._left = arrays

    def summarize(self, *arrays: Any) -> None:
        """Set `cost`, and what else there is to say of a pass, from the NumPy arrays that `leave_loss` was given."""
        self.cost = float(arrays[0].sum())

    # -- passes --------------------------------------------------------------------------------------------------

    def forward(self, net: NetworkState) -> None:
        """Compute output from net.input."""
        raise NotImplementedError

    def backward(self, net: NetworkState) -> None:
        """Accumulate updates from delta and add the input's gradient to net.delta (when it is not None)."""
        raise NotImplementedError

    def update(self, args: UpdateArgs) -> None:
        """Apply the accumulated updates to the parameters (layers without parameters do nothing)."""
        apply_updates(self, args)
        for layer in self.sublayers.values():
            layer.update(args)

    def reset_state(self, sample: int | None = None) -> None:
        """Forget what earlier passes left behind, for one sample of a step or for all. Most layers keep nothing."""
        for buffer in self.buffers():
            if buffer.role is Role.STATE:
                getattr(self, buffer.name)[slice(None) if sample is None else sample].fill(0)

    @property
    def flops(self) -> int:
        """Multiplications and additions of one forward pass of one sample, as Darknet counts them."""
        return 0

    def describe(self) -> tuple[str, str]:
        """What `summary` shows as filters and size: ("32", "3 x 3 / 1") for a convolution."""
        return "", ""

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in (self.out_w, self.out_h, self.out_c) if n) or str(self.outputs)
        return f"<{self.type} layer {self.context.index}: {shape}>"


def take_losses(layers: Iterable[Layer]) -> None:
    """Let layers make their costs of what their losses left on the device, all carried off it at once."""
    waiting = [(l, l._left) for l in layers if l._left]
    if not waiting:
        return
    values = iter(waiting[0][0].backend.read([array for _, left in waiting for array in left]))
    for l, left in waiting:
        l._left = ()
        l.summarize(*[next(values) for _ in left])


#: Parameter, its accumulated gradient, and the means that Adam keeps of that and of its square, by Darknet's names.
UPDATES = (
    ("weights", "weight_updates", "m", "v"),
    ("biases", "bias_updates", "bias_m", "bias_v"),
    ("scales", "scale_updates", "scale_m", "scale_v"),
)


def optimizer_buffers(own: Sequence[Buffer], context: Context) -> list[Buffer]:
    """What training keeps beside a layer's parameters and updates: means for Adam, moving averages."""
    shapes = {b.name: b.shape for b in own if b.role is Role.UPDATE}
    found = []
    for parameter, updates, *moments in UPDATES:
        if updates not in shapes:
            continue
        if context.adam:
            found += [Buffer(name, shapes[updates], Role.OPTIMIZER, training=True) for name in moments]
        if context.average:
            found.append(Buffer(f"{parameter}_ema", shapes[updates], Role.AVERAGE, training=True))
    return found


def apply_updates(l: Layer, args: UpdateArgs) -> None:
    """One step of the optimizer on whichever of weights, biases and scales the layer has.

    Gradient descent with momentum is Darknet's: updates -= decay * batch * weights; weights += learning_rate / batch *
    updates; updates *= momentum; it decays weights but neither biases nor scales. With `args.adam` see
    `darkbn.reference.optimizer.adam`, which decays all of them. Then `clip` bounds the weights.
    """
    for step in parameter_steps(l, args):
        if args.queue is not None:
            args.queue.add(step)
        else:
            take_step(step, l.backend, args)
    bound = l.options.clip or args.clip
    if bound and l.bounds_weights and args.queue is not None:
        args.queue.bound(l.weights.reshape(-1), bound, args)
    elif bound and l.bounds_weights:
        l.backend.vector.constrain(l.weights, bound, args.threads)


def parameter_steps(l: Layer, args: UpdateArgs) -> Iterator[ParameterStep]:
    """The steps of the layer's own parameters."""
    rate, decay = args.learning_rate * l.options.learning_rate, args.decay * args.batch
    for parameter, updates, m, v in UPDATES:
        if updates not in vars(l) or (l.train_only_bn and (parameter == "weights" or not hasattr(l, "scales"))):
            continue
        own, gradient = getattr(l, parameter).reshape(-1), getattr(l, updates).reshape(-1)
        if args.adam is None:
            decayed = decay if parameter == "weights" else 0.0
            yield ParameterStep(own, gradient, (), rate / args.batch, decayed)
        elif m in vars(l):  # a layer that shares another one's parameters has none: they take one step only
            moments = (getattr(l, m).reshape(-1), getattr(l, v).reshape(-1))
            yield ParameterStep(own, gradient, moments, rate, decay)
