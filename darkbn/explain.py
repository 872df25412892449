"""What a convention of batch normalization computes, in words and formulas."""

from __future__ import annotations

from dataclasses import dataclass

from darkbn.conventions import CONVENTIONS, BatchNormConvention, GradientConstants, get_convention

#: The programs that a convention is that of.
TITLES = {
    "darknet": "the CPU code of pjreddie/darknet",
    "darknet-gpu": "the CUDA kernels of pjreddie/darknet",
    "alexeyab-cpu": "the CPU code of AlexeyAB/darknet",
    "alexeyab-gpu": "the CUDA kernels of AlexeyAB/darknet",
    "cudnn": "both Darknets built with cuDNN",
    "pytorch": "torch.nn.BatchNorm*d",
    "keras": "keras.layers.BatchNormalization",
    "tf-slim": "slim's batch_norm on tf.nn.batch_normalization",
    "cs231n": "batchnorm_forward and batchnorm_backward_alt of the course CS231n",
    "exact": "the forward pass of darknet with its true derivative",
}

_P, _A = "pjreddie/darknet f6afaab", "AlexeyAB/darknet 59596d7"
_P_CPU = f"{_P}, src/blas.c"
_P_GPU = f"{_P}, src/blas_kernels.cu"
_A_GPU = f"{_A}, src/blas_kernels.cu"
_CUDNN = "cudnnBatchNormalizationForwardTraining in src/batchnorm_layer.c"
_KERAS = "keras.io/api/layers/normalization_layers/batch_normalization"
_SLIM = "tensorflow/models, research/inception/inception/slim/ops.py"
_CS231N = "cs231n.github.io, assignment 2, cs231n/layers.py"


@dataclass(frozen=True)
class Sources:
    """Where the values of a named convention were read: of the forward pass, the rolling statistics, the gradient."""

    forward: str
    rolling: str
    backward: str


SOURCES = {
    "darknet": Sources(_P_CPU, f"{_P}, src/batchnorm_layer.c", f"{_P}, src/batchnorm_layer.c"),
    "darknet-gpu": Sources(_P_GPU, f"{_P}, src/batchnorm_layer.c", _P_GPU),
    "alexeyab-cpu": Sources(
        f"{_A}, src/blas.c",
        f"{_A}, src/batchnorm_layer.c; src/connected_layer.c",
        f"{_A}, src/batchnorm_layer.c; src/connected_layer.c",
    ),
    "alexeyab-gpu": Sources(_A_GPU, f"{_A}, src/batchnorm_layer.c", _A_GPU),
    "cudnn": Sources(_CUDNN, f"{_CUDNN}, .01", "cudnnBatchNormalizationBackward: the derivative"),
    "pytorch": Sources(
        "pytorch.org/docs, torch.nn.BatchNorm2d", "the same page: momentum=0.1 is the share of the new", "autograd"
    ),
    "keras": Sources(_KERAS, _KERAS, "automatic differentiation"),
    "tf-slim": Sources(_SLIM, _SLIM, "automatic differentiation"),
    "cs231n": Sources(_CS231N, _CS231N, _CS231N),
    "exact": Sources(_P_CPU, f"{_P}, src/batchnorm_layer.c", "the derivative"),
}


def explain_batchnorm(convention: str | BatchNormConvention) -> str:
    """What a convention computes: its values, its formulas forward and backward, where each was read.

    Args:
        convention: its name (`darkbn.conventions.CONVENTIONS`), or one of your own.

    Returns:
        Lines of text.

    Raises:
        UnsupportedError: no convention has this name.
    """
    c = get_convention(convention)
    parts = [_head(c), _values(c), _forward(c), _rolling(c), _inference(c), _backward(c)]
    return "\n\n".join("\n".join(part) for part in parts)


def departures(convention: BatchNormConvention) -> list[str]:
    """In what the convention's backward pass is not the derivative of its forward pass; empty when it is."""
    c, g = convention, convention.gradient_constants()
    found = []
    if g.ddof != c.ddof:
        found.append(f"the variance is divided by {_divisor(c.ddof)}, but differentiated as if by {_divisor(g.ddof)}")
    forward = _root(c.epsilon, c.epsilon_outside)
    places = (
        ("mean_delta and variance_delta", _root(g.statistics_epsilon, g.statistics_epsilon_outside)),
        ("the first term of delta", _root(g.epsilon, g.epsilon_outside)),
    )
    found += [f"the root in {what} is {root}" for what, root in places if root != forward]
    if not c.trains_biases:
        where = " except in connected layers" if c.trains_biases_connected else ""
        found.append(f"the biases get no gradient{where}")
    return found


def _head(c: BatchNormConvention) -> list[str]:
    title = TITLES.get(c.name) if CONVENTIONS.get(c.name) == c else "your own"
    return [
        f"Batch normalization, convention {c.name}",
        f"    {title}",
        "    N: batch * height * width, the values of a channel",
    ]


def _values(c: BatchNormConvention) -> list[str]:
    g = c.gradient_constants()
    connected = "" if c.rolling_decay_connected is None else f"; {c.rolling_decay_connected:g} in connected layers"
    learned = [name for name, on in (("scales", c.trains_scales), ("biases", c.trains_biases)) if on]
    extra = "; biases in connected layers" if c.trains_biases_connected and not c.trains_biases else ""
    rows = [
        ("rolling decay", f"{c.rolling_decay:g}{connected}"),
        ("variance /", f"{_divisor(c.ddof)} to normalize, {_divisor(c.rolling_ddof)} to roll"),
        ("epsilon", f"{c.epsilon:g}, {_place(c.epsilon_outside)}"),
        ("  backward, first term", f"{g.epsilon:g}, {_place(g.epsilon_outside)}"),
        ("  backward, statistics", f"{g.statistics_epsilon:g}, {_place(g.statistics_epsilon_outside)}"),
        ("backward as if /", _divisor(g.ddof)),
        ("learned", ", ".join(learned) + extra if learned or extra else "nothing"),
        ("rolling start", f"mean 0, variance {c.initial_rolling_variance:g}"),
    ]
    return ["Values", *(f"    {name:<24}{value}" for name, value in rows)]


def _forward(c: BatchNormConvention) -> list[str]:
    return [
        "Forward, training",
        "    mean     = sum(x) / N",
        f"    variance = {_batch_variance(c.ddof)}",
        f"    x_norm   = (x - mean) / {_wrapped(c.epsilon, c.epsilon_outside)}",
        "    output   = scales * x_norm + biases",
        *_source(c, "forward"),
    ]


def _rolling(c: BatchNormConvention) -> list[str]:
    new = "variance" if c.rolling_ddof == c.ddof else _batch_variance(c.rolling_ddof)
    lines = ["Rolling statistics, after every training pass"]
    decays = [(c.rolling_decay, "")]
    if c.rolling_decay_connected is not None:
        decays.append((c.rolling_decay_connected, "  (connected layers)"))
    for decay, where in decays:
        lines += [
            f"    rolling_mean     = {decay:g} * rolling_mean + {1 - decay:g} * mean{where}",
            f"    rolling_variance = {decay:g} * rolling_variance + {1 - decay:g} * {new}{where}",
        ]
    return [*lines, *_source(c, "rolling")]


def _inference(c: BatchNormConvention) -> list[str]:
    root = _wrapped(c.epsilon, c.epsilon_outside, "rolling_variance")
    return ["Forward, inference", f"    output = scales * (x - rolling_mean) / {root} + biases"]


def _backward(c: BatchNormConvention) -> list[str]:
    g = c.gradient_constants()
    lines = ["Backward (delta: a descent direction, with respect to output, then to x)"]
    if c.trains_biases or c.trains_biases_connected:
        lines.append("    bias_updates  += sum(delta)" + ("" if c.trains_biases else "  (connected layers only)"))
    if c.trains_scales:
        lines.append("    scale_updates += sum(delta * x_norm)")
    lines += [
        "    g              = scales * delta",
        f"    mean_delta     = -sum(g) / {_wrapped(g.statistics_epsilon, g.statistics_epsilon_outside)}",
        f"    variance_delta = -sum(g * (x - mean)) / {_slope_divisor(g)}",
        f"    delta          = g / {_wrapped(g.epsilon, g.epsilon_outside)}",
        f"                   + variance_delta * 2 * (x - mean) / {_wrapped_divisor(g.ddof)} + mean_delta / N",
    ]
    found = departures(c)
    if not found:
        lines.append("    This is the derivative of the forward pass.")
        if c.ddof == 0 and not c.epsilon_outside:
            lines.append("    The same in one line, with root = " + _root(c.epsilon, False) + ":")
            lines.append("    delta = scales / (N * root) * (N*delta - sum(delta) - x_norm * sum(delta * x_norm))")
    else:
        lines.append("    This is not the derivative of the forward pass:")
        lines += [f"    - {text}" for text in found]
    return [*lines, *_source(c, "backward")]


def _source(c: BatchNormConvention, part: str) -> list[str]:
    """Where a part was read; of one's own convention, which named ones have it the same."""
    if CONVENTIONS.get(c.name) == c:
        return [f"    source: {getattr(SOURCES[c.name], part)}"]
    same = [name for name, other in CONVENTIONS.items() if _part(other, part) == _part(c, part)]
    return [f"    source: your own, as in {', '.join(same)}" if same else "    source: your own"]


def _part(c: BatchNormConvention, part: str) -> tuple[object, ...]:
    """The values that a part consists of."""
    if part == "forward":
        return c.ddof, c.epsilon, c.epsilon_outside
    if part == "rolling":
        decays = c.rolling_decay, c.for_connected().rolling_decay
        return *decays, c.rolling_ddof, c.initial_rolling_variance
    return c.gradient_constants(), c.trains_scales, c.trains_biases, c.for_connected().trains_biases


def _divisor(ddof: int) -> str:
    return f"N - {ddof}" if ddof else "N"


def _wrapped_divisor(ddof: int) -> str:
    return f"({_divisor(ddof)})" if ddof else "N"


def _batch_variance(ddof: int) -> str:
    return f"sum((x - mean)^2) / {_wrapped_divisor(ddof)}"


def _place(outside: bool) -> str:
    return "added to the square root" if outside else "inside the square root"


def _root(epsilon: float, outside: bool, variance: str = "variance") -> str:
    return f"sqrt({variance}) + {epsilon:g}" if outside else f"sqrt({variance} + {epsilon:g})"


def _wrapped(epsilon: float, outside: bool, variance: str = "variance") -> str:
    """The root as a divisor."""
    root = _root(epsilon, outside, variance)
    return f"({root})" if outside else root


def _slope_divisor(g: GradientConstants) -> str:
    """What -1 / d(1/root)/d(variance) is."""
    epsilon = f"{g.statistics_epsilon:g}"
    if g.statistics_epsilon_outside:
        return f"(2 * sqrt(variance) * (sqrt(variance) + {epsilon})^2)"
    return f"(2 * (variance + {epsilon})^1.5)"
