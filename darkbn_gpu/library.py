"""What a vendor's library must offer to compute convolutions, and what is the same for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.product import Geometry, finish


class Library(ABC):
    """Convolutions of a library, on arrays whose shapes were checked. Room comes from the caller: nothing is allocated
    while kernels are started, so that a CUDA graph can replay them.

    Attributes:
        name: as asked for.
        version: for reports.
    """

    name: str
    version: str

    @abstractmethod
    def supports(self, kernel: str, g: Geometry, precision: str) -> bool:
        """Whether it computes "forward", "backward_weights" or "backward_input" of that geometry."""

    @abstractmethod
    def workspace(self, kernel: str, g: Geometry, precision: str) -> int:
        """Floats of room that a pass needs."""

    @abstractmethod
    def forward(self, g: Geometry, x: Array, weights: Array, out: Array, room: Array | None, precision: str) -> None:
        """out = convolution."""

    @abstractmethod
    def backward_weights(self, g: Geometry, x: Array, delta: Array, weight_updates: Array, room: Array | None) -> None:
        """weight_updates += gradient of the weights."""

    @abstractmethod
    def backward_input(self, g: Geometry, weights: Array, delta: Array, input_delta: Array, room: Array | None) -> None:
        """input_delta += gradient of the input."""

    def extra_floats(self, count: int, precision: str) -> int:
        """Floats that it keeps of `count` weights besides the weights themselves."""
        return 0

    def pack_extra(self, weights: Array, extra: Array, precision: str) -> None:
        """Write them."""
        return

    def fused_workspace(self, g: Geometry, precision: str, activation: int) -> int:
        """Floats of room that `fused` needs: sums that a residual is added to, and what the pass needs."""
        return _sums(g) + self.workspace("forward", g, precision)

    def fused(
        self,
        g: Geometry,
        x: Array,
        weights: Array,
        extra: Array,
        out: Array,
        room: Array | None,
        precision: str,
        biases: Array,
        residual: Array | None,
        activations: tuple[int, int],
    ) -> None:
        """out = residual_activation(activation(convolution + biases) + residual); residual may be out."""
        room = self.checked_room("fused_convolution.forward", room, self.fused_workspace(g, precision, activations[0]))
        sums = out if residual is None else room[: out.size].reshape(out.shape)
        self.forward(g, x, weights, sums, room[_sums(g) :], precision)
        finish(sums, biases, residual, out, 1, activations)

    @staticmethod
    def checked_room(kernel: str, room: Array | None, needed: int) -> Array:
        """The room; raises ShapeError where it is too small. Callers that need none may give an empty one."""
        if room is None or room.size < needed:
            raise ShapeError(f"{kernel}: workspace must have at least {needed} floats")
        return room


def _sums(g: Geometry) -> int:
    """Floats of the output, so many that what follows begins at 16 bytes."""
    return aligned(g.b * g.n * g.oh * g.ow)


def aligned(floats: int) -> int:
    """The next multiple of 64 floats (256 bytes)."""
    return -(-floats // 64) * 64
