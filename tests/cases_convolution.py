"""Rows of the family `convolution`."""

from collections.abc import Iterator

from cases import KernelCase

from darkbn.algorithms import Algorithm

SUMS = "float32 sums over taps or pixels: a few units in the last place times the root of their number"
TILES = "float32 transforms of tiles of 4x4 outputs magnify roundings: up to 2.5e-6 at 128 channels"


PASSES = ("forward", "backward_weights", "backward_input")


def sizes(
    b: int,
    c: int,
    hw: tuple[int, int],
    n: int,
    k: int,
    stride: tuple[int, int] = (1, 1),
    pad: int = 0,
    dilation: int = 1,
    groups: int = 1,
    out: tuple[int, int] | None = None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Sizes and scalars; the output's size is the usual one unless given."""
    h, w = hw
    extent = dilation * (k - 1) + 1
    oh, ow = out or ((h + 2 * pad - extent) // stride[0] + 1, (w + 2 * pad - extent) // stride[1] + 1)
    symbols = {"b": b, "c": c, "h": h, "w": w, "n": n, "cg": c // groups, "k": k, "oh": oh, "ow": ow}
    scalars = {
        "groups": groups,
        "stride_y": stride[0],
        "stride_x": stride[1],
        "dilation": dilation,
        "pad": pad,
        "algorithm": int(Algorithm.GEMM),
    }
    return symbols, scalars


SHAPES = [
    # 1x1 maps and kernels, one channel, one filter
    sizes(1, 1, (1, 1), 1, 1),
    sizes(2, 3, (5, 7), 4, 1),
    sizes(2, 3, (5, 7), 4, 1, stride=(2, 2)),
    sizes(1, 5, (4, 6), 3, 1, pad=1),
    sizes(3, 17, (1, 1), 15, 3, pad=1),
    # the usual ones, widths at a vector's length +-1
    sizes(2, 3, (9, 15), 5, 3, pad=1),
    sizes(1, 4, (8, 16), 7, 3, pad=1),
    sizes(2, 2, (6, 17), 13, 3, pad=1),
    sizes(1, 7, (5, 33), 14, 3, pad=1),
    sizes(1, 1, (31, 31), 1, 3),
    sizes(2, 3, (13, 13), 15, 5, pad=2),
    # strides, unequal ones, larger than the kernel
    sizes(2, 3, (11, 13), 6, 3, stride=(2, 2), pad=1),
    sizes(1, 3, (12, 35), 8, 3, stride=(2, 2), pad=1),
    sizes(2, 5, (11, 14), 4, 3, stride=(2, 1), pad=1),
    sizes(1, 2, (10, 37), 5, 3, stride=(1, 3), pad=2),
    sizes(1, 2, (11, 12), 3, 2, stride=(4, 5)),
    sizes(1, 3, (23, 23), 4, 7, stride=(2, 2), pad=3),
    # even kernels, no padding, padding as large as the kernel or larger
    sizes(2, 3, (7, 9), 4, 2),
    sizes(1, 2, (6, 5), 3, 4, pad=1),
    sizes(2, 3, (5, 4), 4, 3, pad=3),
    sizes(1, 2, (3, 4), 2, 2, stride=(3, 2), pad=5),
    # dilation
    sizes(2, 3, (11, 9), 4, 3, pad=2, dilation=2),
    sizes(1, 2, (14, 13), 3, 3, stride=(2, 2), pad=3, dilation=3),
    sizes(1, 2, (13, 14), 3, 2, stride=(2, 3), pad=2, dilation=2),
    # the kernel is larger than the image
    sizes(1, 3, (2, 3), 2, 5, pad=2),
    sizes(1, 2, (1, 2), 3, 7, stride=(2, 2), pad=4),
    # outputs as given: larger (zeros beyond) and smaller than usual
    sizes(1, 2, (5, 6), 3, 3, pad=1, out=(8, 9)),
    sizes(1, 2, (7, 8), 3, 3, stride=(2, 2), out=(2, 2)),
    sizes(2, 3, (9, 9), 4, 3, pad=2, dilation=2, out=(11, 11)),
    # groups
    sizes(2, 6, (5, 7), 4, 3, pad=1, groups=2),
    sizes(1, 9, (7, 6), 15, 3, stride=(2, 2), pad=1, groups=3),
    sizes(2, 12, (6, 19), 12, 3, pad=1, groups=3),
    sizes(2, 8, (5, 5), 16, 1, groups=4),
    # depthwise, with several filters a channel
    sizes(1, 1, (7, 7), 3, 3, pad=1),
    sizes(2, 5, (7, 11), 5, 3, pad=1, groups=5),
    sizes(2, 7, (9, 33), 7, 3, pad=1, groups=7),
    sizes(1, 16, (17, 16), 16, 3, stride=(2, 2), pad=1, groups=16),
    sizes(1, 3, (14, 40), 3, 5, stride=(2, 2), pad=2, groups=3),
    sizes(2, 5, (6, 9), 10, 3, pad=1, groups=5),
    sizes(1, 4, (11, 8), 4, 3, stride=(2, 1), pad=1, groups=4),
    sizes(1, 4, (8, 9), 4, 3, stride=(3, 3), groups=4),
    sizes(1, 3, (12, 13), 6, 3, pad=2, dilation=2, groups=3),
    sizes(2, 3, (3, 2), 3, 5, pad=2, groups=3),
    sizes(1, 2, (9, 7), 2, 4, stride=(2, 2), pad=2, dilation=2, groups=2),
    sizes(1, 3, (70, 37), 3, 3, pad=1, groups=3),
    # few channels and filters in many groups, in several bands of lines; just too many for that
    sizes(1, 8, (9, 2100), 8, 3, pad=1, groups=8),
    sizes(2, 16, (21, 600), 8, 3, stride=(2, 2), pad=1, groups=8),
    sizes(1, 24, (6, 7), 56, 3, pad=1, groups=8),
    sizes(3, 9, (5, 6), 9, 2, groups=9),
    sizes(1, 8, (9, 35), 8, 5, pad=2, groups=8),
    sizes(1, 16, (13, 12), 24, 3, stride=(2, 1), pad=2, dilation=2, groups=8),
    sizes(1, 18, (7, 8), 18, 3, pad=1, groups=2),
    # nothing to do
    sizes(0, 3, (5, 5), 4, 3, pad=1),
    sizes(2, 3, (5, 5), 0, 3, pad=1),
    sizes(2, 3, (5, 5), 4, 3, out=(0, 3)),
    # more than one block of filters, taps, pixels; many images
    sizes(1, 40, (6, 7), 530, 3, pad=1),
    sizes(1, 67, (20, 21), 20, 3, pad=1),
    sizes(3, 5, (37, 41), 6, 3, pad=1),
    sizes(1, 300, (9, 9), 29, 1),
    sizes(19, 3, (5, 6), 4, 3, pad=1),
    sizes(2, 8, (68, 67), 9, 3, stride=(2, 2), pad=1),
    # every tile of the GPU's products (tests/test_product.py), with parts of k and without
    sizes(1, 8, (16, 16), 128, 3, pad=1),
    sizes(1, 64, (16, 16), 64, 3, pad=1),
    sizes(1, 128, (16, 16), 8, 3, stride=(2, 2), pad=1),
    sizes(1, 64, (16, 16), 8, 3, stride=(2, 1), pad=1),
    sizes(1, 32, (16, 16), 8, 2, stride=(2, 2)),
    sizes(1, 60, (7, 9), 9, 3, stride=(2, 3), pad=2, dilation=2),
    sizes(1, 9, (16, 16), 128, 1),
    sizes(2, 64, (16, 8), 64, 1),
    sizes(3, 20, (12, 11), 64, 1, groups=2),
    sizes(1, 300, (6, 6), 100, 1),
]

#: Shapes for Winograd's kernels.
WINOGRAD = [
    # a map smaller than a tile, tiles that fit, and parts of tiles at the ends; lines shorter than eight pixels
    sizes(1, 1, (1, 1), 1, 3, pad=1),
    sizes(2, 3, (3, 2), 5, 3, pad=1),
    sizes(1, 8, (8, 8), 16, 3, pad=1),
    sizes(2, 9, (7, 7), 17, 3, pad=1),
    sizes(3, 16, (5, 13), 7, 3, pad=1),
    # lines of more tiles than a strip holds, more tiles than a region
    sizes(1, 2, (6, 141), 3, 3, pad=1),
    sizes(2, 11, (45, 45), 26, 3, pad=1),
    # other paddings and outputs
    sizes(1, 4, (9, 10), 6, 3),
    sizes(2, 5, (5, 6), 4, 3, pad=2),
    sizes(1, 3, (5, 4), 4, 3, pad=3),
    sizes(1, 2, (5, 6), 3, 3, pad=1, out=(8, 9)),
    sizes(1, 2, (9, 10), 3, 3, pad=1, out=(6, 5)),
    # so many filters that each thread transforms its own, in several slices of channels
    sizes(2, 150, (6, 7), 290, 3, pad=1),
    # nothing to do
    sizes(0, 3, (5, 5), 4, 3, pad=1),
    sizes(2, 3, (5, 5), 0, 3, pad=1),
    sizes(2, 3, (5, 5), 4, 3, out=(0, 3)),
]

#: So many filters and tiles that all threads transform some filters together, for one region of tiles after another.
MANY = sizes(151, 150, (1, 1), 290, 3, pad=1)

#: The same with stride 2.
WINOGRAD_STRIDE_2 = [
    sizes(1, 1, (1, 1), 1, 3, (2, 2), pad=1),
    sizes(2, 9, (7, 7), 17, 3, (2, 2), pad=1),
    sizes(3, 16, (12, 11), 7, 3, (2, 2), pad=1),
    sizes(1, 2, (6, 141), 3, 3, (2, 2), pad=1),
    sizes(2, 11, (60, 62), 26, 3, (2, 2), pad=1),
    sizes(1, 4, (9, 10), 6, 3, (2, 2)),
    sizes(1, 3, (5, 4), 4, 3, (2, 2), pad=3),
    sizes(1, 2, (5, 6), 3, 3, (2, 2), pad=1, out=(8, 9)),
    sizes(1, 2, (19, 20), 3, 3, (2, 2), pad=1, out=(6, 5)),
    sizes(2, 150, (6, 7), 290, 3, (2, 2), pad=1),
    sizes(2, 3, (5, 5), 4, 3, (2, 2), out=(0, 3)),
]

WINDOWS = [s for s in SHAPES if s[1]["groups"] == 1 and s[0]["b"] == 1]


def rows() -> Iterator[KernelCase]:
    """Every pass on every shape, im2col and col2im on those of one image."""
    for symbols, scalars in SHAPES:
        for function in PASSES:
            yield KernelCase(f"convolution.{function}", symbols, scalars, tolerance=2e-6, reason=SUMS)
        yield KernelCase(
            "convolution.forward", symbols, scalars, tolerance=2e-6, reason=SUMS, none=frozenset(["biases"])
        )
    for symbols, scalars in WINOGRAD:
        for algorithm, tolerance, reason in ((Algorithm.WINOGRAD_2, 2e-6, SUMS), (Algorithm.WINOGRAD_4, 4e-6, TILES)):
            own = scalars | {"algorithm": int(algorithm)}
            for function in PASSES:
                yield KernelCase(f"convolution.{function}", symbols, own, tolerance=tolerance, reason=reason)
            none = frozenset(["biases"])
            yield KernelCase("convolution.forward", symbols, own, tolerance=tolerance, reason=reason, none=none)
    for symbols, scalars in WINOGRAD_STRIDE_2:
        own = scalars | {"algorithm": int(Algorithm.WINOGRAD_STRIDE_2)}
        for function in PASSES:
            yield KernelCase(f"convolution.{function}", symbols, own, tolerance=2e-6, reason=SUMS)
    for function in PASSES:
        own = MANY[1] | {"algorithm": int(Algorithm.WINOGRAD_4)}
        yield KernelCase(f"convolution.{function}", MANY[0], own, tolerance=4e-6, reason=TILES)
    for symbols, scalars in WINDOWS:
        steps = {name: value for name, value in scalars.items() if name not in ("groups", "algorithm")}
        yield KernelCase("convolution.im2col", symbols, steps)
        yield KernelCase("convolution.col2im", symbols, steps)


KERNEL_CASES = list(rows())
