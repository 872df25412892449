"""Launchers of darkbn.reference.convolution."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu import product
from darkbn_gpu.launch import each, launch
from darkbn_gpu.product import MOST_PIXELS, TILED, Geometry, Product, checked_room, make_panel, multiply, weights_tiling


def _geometry(x: Array, weights: Array, out: Array, steps: tuple[int, ...]) -> Geometry:
    """Of arrays and (groups, strides, dilation, pad)."""
    (b, c, h, w), (n, _, k, _), (_, _, oh, ow) = x.shape, weights.shape, out.shape
    return Geometry(b, c, h, w, n, k, oh, ow, *steps)


def forward_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    g = Geometry(b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad)
    return product.forward_floats(g)


def forward(
    x: Array,
    weights: Array,
    biases: Array | None,
    out: Array,
    workspace: Array | None,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    g = _geometry(x, weights, out, (groups, stride_y, stride_x, dilation, pad))
    g.check("convolution.forward", weights.shape[1], algorithm)
    product.forward(
        g, x, weights, biases, None, out, checked_room("convolution.forward", workspace, product.forward_floats(g))
    )


def backward_weights_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    g = Geometry(b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad)
    if g.ng < TILED:
        return 0
    splits = weights_tiling(g).splits
    return splits * n * g.cg * g.taps if splits > 1 else 0


def backward_weights(
    x: Array,
    delta: Array,
    weight_updates: Array,
    workspace: Array | None,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    g = _geometry(x, weight_updates, delta, (groups, stride_y, stride_x, dilation, pad))
    g.check("convolution.backward_weights", weight_updates.shape[1], algorithm)
    if g.ng < TILED or g.b * g.oh * g.ow > MOST_PIXELS:
        arrays = (x, delta, weight_updates)
        launch("convolution", "convolution_backward_weights_direct", weight_updates.size, *arrays, *g.sizes)
        return
    if not delta.size:
        return
    t, size = weights_tiling(g), weight_updates.size
    room = checked_room("convolution.backward_weights", workspace, t.splits * size if t.splits > 1 else 0)
    partial = room if t.splits > 1 else None
    depth = t.splits * t.chunk
    name = f"convolution_weights_{t.rows}x{t.columns}"
    launch("convolution", name, t.blocks, x, delta, partial, weight_updates, *g.sizes, depth, t.splits, t.chunk)
    if t.splits > 1:
        each("convolution", "convolution_join_weights", size, partial, weight_updates, size, t.splits)


def backward_input_workspace(
    b: int,
    c: int,
    h: int,
    w: int,
    n: int,
    k: int,
    oh: int,
    ow: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> int:
    g = Geometry(b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad)
    p = Product.backward_input(g)
    return p.panel_words() + p.partial_floats() if g.cg >= TILED else 0


def backward_input(
    weights: Array,
    delta: Array,
    input_delta: Array,
    workspace: Array | None,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    algorithm: int,
    threads: int,
) -> None:
    g = _geometry(input_delta, weights, delta, (groups, stride_y, stride_x, dilation, pad))
    g.check("convolution.backward_input", weights.shape[1], algorithm)
    if g.cg < TILED:
        arrays = (weights, delta, input_delta)
        each("convolution", "convolution_backward_input_direct", input_delta.size, *arrays, *g.sizes)
        return
    p = Product.backward_input(g)
    words = p.panel_words()
    room = checked_room("convolution.backward_input", workspace, words + p.partial_floats())
    if room is None or not input_delta.size:
        return
    make_panel(p, weights, room[:words])
    multiply(p, room[:words], delta, input_delta, room[words:], adds=True)


def im2col(im: Array, col: Array, stride_y: int, stride_x: int, dilation: int, pad: int, threads: int) -> None:
    steps = (1, stride_y, stride_x, dilation, pad)
    _check_steps("im2col", steps)
    sizes = (1, *im.shape, 1, col.shape[1], *col.shape[3:], *steps)
    each("convolution", "convolution_im2col", col.size, im, col, *sizes)


def col2im(col: Array, im: Array, stride_y: int, stride_x: int, dilation: int, pad: int, threads: int) -> None:
    steps = (1, stride_y, stride_x, dilation, pad)
    _check_steps("col2im", steps)
    sizes = (1, *im.shape, 1, col.shape[1], *col.shape[3:], *steps)
    each("convolution", "convolution_col2im", im.size, col, im, *sizes)


def _check_steps(kernel: str, steps: tuple[int, ...]) -> None:
    _, stride_y, stride_x, dilation, pad = steps
    if min(stride_y, stride_x, dilation) < 1 or pad < 0:
        raise ShapeError(
            f"convolution.{kernel}: strides ({stride_y}, {stride_x}) and dilation {dilation} must be at"
            f" least 1, pad {pad} at least 0"
        )
