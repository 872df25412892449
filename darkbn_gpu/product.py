"""Convolutions as matrix products in tiles: which tiles, how many parts of k, and the launch (kernels/product.cuh).

Every choice follows from sizes alone, so that results are bitwise the same on every device.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from darkbn.activations import Activation
from darkbn.algorithms import Algorithm
from darkbn.errors import ShapeError
from darkbn.geometry import require_plain_algorithm
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch

#: Rows (filters) of a group from which on tiles are worth their threads; below, one thread makes one result.
TILED = 8

#: Values of k of a slice (DEPTH of product.cuh); parts of k are whole slices, and of at least so many values.
SLICE, LEAST = 16, 128

#: Blocks that a launch should have, where k can be shared out for that, and parts at most.
BLOCKS, PARTS = 256, 32

#: Pixels that the kernels count in 32 bits.
MOST_PIXELS = 2**31 - 128

#: Tiles of rows x pixels, and how much of the peak each can reach by its loads per product.
TILES = {(128, 128): 1.0, (64, 128): 0.9, (64, 64): 0.8, (32, 128): 0.7}

#: Numbers of the forms of operands in convolution.cu.
FORMS = {"float32": 0, "tf32": 1, "float16": 2}

LINEAR = int(Activation.LINEAR)


@dataclass(frozen=True)
class Geometry:
    """Sizes and steps of a convolution: x (b, c, h, w), n filters of k x k, out (b, n, oh, ow)."""

    b: int
    c: int
    h: int
    w: int
    n: int
    k: int
    oh: int
    ow: int
    groups: int
    stride_y: int
    stride_x: int
    dilation: int
    pad: int

    @property
    def cg(self) -> int:
        """Channels of a group."""
        return self.c // max(self.groups, 1)

    @property
    def ng(self) -> int:
        """Filters of a group."""
        return self.n // max(self.groups, 1)

    @property
    def taps(self) -> int:
        """Weights of a filter for one channel."""
        return self.k * self.k

    @property
    def sizes(self) -> tuple[int, ...]:
        """As the kernels take them."""
        steps = (self.groups, self.stride_y, self.stride_x, self.dilation, self.pad)
        return (self.b, self.c, self.h, self.w, self.n, self.k, self.oh, self.ow, *steps)

    @property
    def is_points(self) -> bool:
        """Whether every output reads the pixel at its own place."""
        return (
            self.k == self.stride_y == self.stride_x == 1 and self.pad == 0 and (self.oh, self.ow) == (self.h, self.w)
        )

    def check(self, kernel: str, group_channels: int, algorithm: int = Algorithm.GEMM) -> None:
        """Raise ShapeError where channels, filters and groups do not go together, a step makes no sense, or there is no
        such algorithm for them (those that there are give the same sums; this package has one)."""
        if min(self.stride_y, self.stride_x, self.dilation) < 1 or self.pad < 0:
            raise ShapeError(
                f"{kernel}: strides ({self.stride_y}, {self.stride_x}) and dilation {self.dilation} must be at least 1,"
                f" pad {self.pad} at least 0"
            )
        if self.groups < 1 or self.n % self.groups or group_channels * self.groups != self.c:
            raise ShapeError(
                f"{kernel}: {self.n} filters of {group_channels} channels in {self.groups} groups do not"
                f" fit {self.c} input channels"
            )
        strides = (self.stride_y, self.stride_x)
        require_plain_algorithm(kernel, int(algorithm), self.k, strides, self.dilation, self.groups)


@dataclass(frozen=True)
class Product:
    """A product of the panels of all groups with what the pixels of a result read.

    Attributes:
        g: the convolution that makes the result: of the input, or (turned) of the deltas.
        up_y, up_x: only pixels that are multiples of these are read; others are zero.
        turned: whether the panel has the filters' channels as rows, its taps from behind.
    """

    g: Geometry
    up_y: int = 1
    up_x: int = 1
    turned: bool = False

    @staticmethod
    def forward(g: Geometry) -> Product:
        """Of the forward pass."""
        return Product(g)

    @staticmethod
    def backward_input(g: Geometry) -> Product:
        """Of the gradient of the input: what reads a pixel is what the turned filter reaches from there."""
        pad = (g.k - 1) * g.dilation - g.pad
        back = replace(g, c=g.n, h=g.oh, w=g.ow, n=g.c, oh=g.h, ow=g.w, stride_y=1, stride_x=1, pad=pad)
        return Product(back, g.stride_y, g.stride_x, True)

    @property
    def pixels(self) -> int:
        return self.g.b * self.g.oh * self.g.ow

    @property
    def depth(self) -> int:
        """Values of k, in whole slices."""
        return max(1, -(-self.g.cg * self.g.taps // SLICE)) * SLICE

    @property
    def step(self) -> int:
        """Words of a row of a panel."""
        return -(-self.g.ng // 32) * 32

    def panel_words(self, precision: str = "float32") -> int:
        """32-bit words of the panels of all groups."""
        return self.g.groups * self.depth * self.step // (2 if precision == "float16" else 1)

    @property
    def kind(self) -> str:
        """Which pixels are read: the kernel's name has it."""
        if self.up_y > 1 or self.up_x > 1:
            return "strided"
        return "points" if self.g.is_points and self.g.oh * self.g.ow % 4 == 0 else "gather"

    def plan(self, wide: bool = False) -> Tiling:
        """Its tiles; wide: of 128 pixels."""
        return tiling(self.g.ng, self.pixels, self.g.groups, self.depth, wide)

    def partial_floats(self, wide: bool = False) -> int:
        """Floats for the parts of k."""
        splits = self.plan(wide).splits
        return splits * self.g.n * self.pixels if splits > 1 else 0


@dataclass(frozen=True)
class Tiling:
    """Tiles of rows x columns, k in `splits` parts of `chunk` values; the number of blocks."""

    rows: int
    columns: int
    splits: int
    chunk: int
    blocks: int


@functools.cache
def tiling(rows: int, columns: int, groups: int, depth: int, wide: bool = False) -> Tiling:
    """The tiles that waste least, and as many parts of k as give enough blocks."""

    def count(tile: tuple[int, int]) -> int:
        return -(-rows // tile[0]) * -(-columns // tile[1])

    sizes = [tile for tile in TILES if not wide or tile[1] == 128]
    height, width = min(sizes, key=lambda tile: count(tile) * tile[0] * tile[1] / TILES[tile])
    return _split(height, width, groups * count((height, width)), depth)


def _split(height: int, width: int, tiles: int, depth: int) -> Tiling:
    wanted = max(1, min(PARTS, BLOCKS // max(tiles, 1), depth // LEAST))
    chunk = -(-depth // SLICE // wanted) * SLICE
    splits = -(-depth // chunk)
    return Tiling(height, width, splits, chunk, splits * tiles)


@functools.cache
def weights_tiling(g: Geometry) -> Tiling:
    """Tiles of filters x (channel, tap) for the gradient of the weights, k being the outputs of all samples."""
    depth = -(-g.b * g.oh * g.ow // SLICE) * SLICE
    height = 128 if g.ng > 64 else 64 if g.ng > 32 else 32
    return _split(height, 64, g.groups * -(-g.ng // height) * -(-g.cg * g.taps // 64), depth)


def make_panel(p: Product, weights: Array, panel: Array, precision: str = "float32") -> None:
    """Write the panels of a product into `panel`, that many words."""
    words, form = p.panel_words(precision), FORMS[precision]
    n, cg, k = weights.shape[:3]
    sizes = (n, cg, k * k, p.g.groups, p.depth, p.step, int(p.turned), form)
    each("convolution", "convolution_panel", words, weights, panel, *sizes)


def multiply(
    p: Product,
    panel: Array,
    x: Array,
    out: Array,
    partial: Array | None,
    *,
    precision: str = "float32",
    biases: Array | None = None,
    residual: Array | None = None,
    activations: tuple[int, int] = (LINEAR, LINEAR),
    adds: bool = False,
) -> None:
    """out = residual_activation(activation(product + biases) + residual), or out += product.

    Args:
        p: the product.
        panel: what `make_panel` made of the weights.
        x, out: input (b, c, h, w) and result of the product's geometry.
        partial: room for `p.partial_floats()` floats.
        precision: form of the operands.
        biases: of the filters.
        residual: added after the activation; may be `out`.
        activations: codes: of the sum, and after the residual.
        adds: whether `out` is added to.
    """
    for q, own, to, rest in _in_samples(p, x, out, residual):
        t = q.plan(precision != "float32")
        file = "convolution" if precision == "float32" else "fused_convolution"
        form = "" if precision == "float32" else f"{precision}_"
        kind = "gather" if form and q.kind == "strided" else q.kind
        arrays = (panel, own, biases, rest, to, partial if t.splits > 1 else None)
        sizes = (*q.g.sizes[:9], q.g.stride_y, q.g.stride_x, q.up_y, q.up_x, q.g.dilation, q.g.pad)
        parts = (q.depth, q.step, t.splits, t.chunk, *activations, int(adds))
        name = f"{file}_{form}{kind}_{t.rows}x{t.columns}"
        launch(file, name, t.blocks, *arrays, *sizes, *parts)
        if t.splits > 1:
            finish(partial, biases, rest, to, t.splits, activations, adds)


def weights_start(n: int) -> int:
    """Where the weights begin behind the biases of n filters: at a multiple of 16 bytes."""
    return -(-n // 4) * 4


def put_biases(n: int, biases: Array | None, packed: Array) -> int:
    """Write the biases of n filters, zeros without any. Returns where the weights begin."""
    start = weights_start(n)
    packed[:start] = 0
    if biases is not None:
        packed[:n] = biases
    return start


def checked_room(kernel: str, room: Array | None, needed: int) -> Array | None:
    """The room; raises ShapeError where it is too small. None is enough for no floats."""
    if needed and (room is None or room.size < needed):
        raise ShapeError(f"{kernel}: workspace must have at least {needed} floats")
    return room


def forward_floats(g: Geometry) -> int:
    """Room that `forward` needs: the panels and the parts of k."""
    p = Product.forward(g)
    return p.panel_words() + p.partial_floats() if g.ng >= TILED else 0


def forward(
    g: Geometry,
    x: Array,
    weights: Array,
    biases: Array | None,
    residual: Array | None,
    out: Array,
    room: Array | None,
    activations: tuple[int, int] = (LINEAR, LINEAR),
) -> None:
    """out = residual_activation(activation(convolution + biases) + residual) of weights as they are, in float32."""
    if g.ng < TILED:
        arrays = (weights, x, biases, residual, out)
        each("convolution", "convolution_forward_direct", out.size, *arrays, *g.sizes, *activations)
        return
    if not out.size:
        return
    p = Product.forward(g)
    assert room is not None
    panel, partial = room[: p.panel_words()], room[p.panel_words() :]
    make_panel(p, weights, panel)
    multiply(p, panel, x, out, partial, biases=biases, residual=residual, activations=activations)


def finish(
    partial: Array | None,
    biases: Array | None,
    residual: Array | None,
    out: Array,
    splits: int,
    activations: tuple[int, int],
    adds: bool = False,
) -> None:
    """What `multiply` does with the sums of `splits` parts; partial may be `out` where there is one."""
    n, area = out.shape[1], out.shape[2] * out.shape[3]
    sizes = (out.size, n, area, splits, *activations, int(adds))
    each("convolution", "convolution_join", out.size, partial, biases, residual, out, *sizes)


def _in_samples(
    p: Product, x: Array, out: Array, residual: Array | None
) -> Iterator[tuple[Product, Array, Array, Array | None]]:
    """The product, in parts of the batch where its pixels are too many for 32 bits."""
    area = p.g.oh * p.g.ow
    if max(area, p.g.h * p.g.w) > MOST_PIXELS:
        raise ShapeError(
            f"convolution: maps of {p.g.h} x {p.g.w} and {p.g.oh} x {p.g.ow} pixels, at most {MOST_PIXELS}"
        )
    most = max(1, MOST_PIXELS // max(area, 1))
    if p.g.b <= most:
        yield p, x, out, residual
        return
    for start in range(0, p.g.b, most):
        part = slice(start, min(start + most, p.g.b))
        q = replace(p, g=replace(p.g, b=part.stop - part.start))
        yield q, x[part], out[part], None if residual is None else residual[part]
