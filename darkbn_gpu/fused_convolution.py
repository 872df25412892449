"""Launchers of darkbn.reference.fused_convolution, by our own kernels, in float32.

`Fused` is the same in any precision; `darkbn_gpu.providers` puts the libraries' convolutions in front of it.
"""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu import product
from darkbn_gpu.product import TILED, Geometry, Product, checked_room, make_panel, multiply, put_biases, weights_start


class Fused:
    """The family's functions in one precision. Groups of few filters are computed in float32 in any.

    Packed parameters are the biases, then (at a multiple of 16 bytes) the weights: as panels, or as they are where
    a group has few filters.
    """

    def __init__(self, precision: str = "float32") -> None:
        self.precision = precision

    def packed_size(self, n: int, cg: int, k: int, groups: int) -> int:
        """Floats of packed parameters."""
        if n // max(groups, 1) < TILED:
            return weights_start(n) + n * cg * k * k
        return weights_start(n) + _panels(n, cg, k, groups).panel_words(self.precision)

    def pack(self, weights: Array, biases: Array | None, packed: Array, groups: int, threads: int) -> None:
        """Write the packed parameters."""
        n, cg, k = weights.shape[:3]
        _check_packed(packed, self.packed_size(n, cg, k, groups))
        start = put_biases(n, biases, packed)
        if n // max(groups, 1) < TILED:
            packed[start : start + weights.size] = weights.reshape(-1)
        else:
            make_panel(_panels(n, cg, k, groups), weights, packed[start:], self.precision)

    def forward_workspace(self, g: Geometry) -> int:
        """Floats of workspace."""
        return Product.forward(g).partial_floats(self.precision != "float32") if g.ng >= TILED else 0

    def forward(
        self,
        g: Geometry,
        x: Array,
        packed: Array,
        residual: Array | None,
        out: Array,
        workspace: Array | None,
        activations: tuple[int, int],
    ) -> None:
        """The convolution and what follows it."""
        _check_packed(packed, self.packed_size(g.n, g.cg, g.k, g.groups))
        biases, weights = packed[: g.n], packed[weights_start(g.n) :]
        if g.ng < TILED:
            product.forward(g, x, weights, biases, residual, out, None, activations)
            return
        checked_room("fused_convolution.forward", workspace, self.forward_workspace(g))
        multiply(
            Product.forward(g),
            weights,
            x,
            out,
            workspace,
            precision=self.precision,
            biases=biases,
            residual=residual,
            activations=activations,
        )


def _panels(n: int, cg: int, k: int, groups: int) -> Product:
    return Product.forward(Geometry(1, cg * groups, 1, 1, n, k, 1, 1, groups, 1, 1, 1, 0))


def _check_packed(packed: Array, size: int) -> None:
    if packed.size != size:
        raise ShapeError(f"fused_convolution: packed must have {size} floats, found {packed.size}")


_FLOAT32 = Fused()


def packed_size(n: int, cg: int, k: int, groups: int) -> int:
    return _FLOAT32.packed_size(n, cg, k, groups)


def pack(weights: Array, biases: Array | None, packed: Array, groups: int, threads: int) -> None:
    _FLOAT32.pack(weights, biases, packed, groups, threads)


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
    activation: int,
    residual_activation: int,
    threads: int,
) -> int:
    g = Geometry(b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad)
    return _FLOAT32.forward_workspace(g)


def forward(
    x: Array,
    packed: Array,
    residual: Array | None,
    out: Array,
    workspace: Array | None,
    k: int,
    groups: int,
    stride_y: int,
    stride_x: int,
    dilation: int,
    pad: int,
    activation: int,
    residual_activation: int,
    threads: int,
) -> None:
    (b, c, h, w), (_, n, oh, ow) = x.shape, out.shape
    g = Geometry(b, c, h, w, n, k, oh, ow, groups, stride_y, stride_x, dilation, pad)
    g.check("fused_convolution.forward", c // max(groups, 1))
    _FLOAT32.forward(g, x, packed, residual, out, workspace, (activation, residual_activation))
