"""What a layer sees of the network while it works: Darknet passes the same things as `net`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host

if TYPE_CHECKING:
    from darkbn.backend import Backend
    from darkbn.layers.base import Layer
    from darkbn.rejection import LabelRejection
    from darkbn.steps import StepQueue


@dataclass
class NetworkState:
    """State of one pass.

    Attributes:
        input: the layer's input: the network's input or the previous layer's output.
        delta: gradient (descent direction) with respect to `input`, to be added to; None where nothing needs it.
        truth: labels of the batch, (batch, truths), or None.
        train: whether this is a training pass.
        frozen: whether the layer at work is frozen: its parameters and rolling statistics must not move.
        resting: whether it takes no step yet: its rolling statistics must not move either.
        threads: how many threads kernels may use.
        layers: all layers of the network; empty when a layer is used on its own.
        index: index of the layer at work.
        seen: images seen in training so far.
        completed: iterations of training made so far.
        rejection: of labels that are probably wrong, where [net] asks for it.
        subdivision: which pass of its iteration this is, from 0.
        max_batches, burn_in: as in [net].
        rng: random numbers of dropout and augmenting layers.
        check_finite: whether batch normalization raises NonFiniteError for NaN and infinity when training. A network
            has a guard of its own (`darkbn.guard`), which names the first array at fault.
        undefined: deltas that nothing was added to yet and that were not cleared, by the identity of the array; see
            `replaces`.
    """

    input: Any = None
    delta: Any = None
    truth: Any = None
    train: bool = False
    frozen: bool = False
    resting: bool = False
    threads: int = 1
    layers: Sequence[Layer] = ()
    index: int = 0
    seen: int = 0
    completed: int = 0
    rejection: LabelRejection | None = None
    subdivision: int = 0
    max_batches: int = 0
    burn_in: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    check_finite: bool = True
    undefined: dict[int, Any] = field(default_factory=dict)
    _workspace: Any = None
    _labels: tuple[Any, Any] = (None, None)

    @property
    def host_truth(self) -> Any:
        """`truth` as a NumPy array. Only labels that came from a device are read off it."""
        given, here = self._labels
        return here if given is self.truth else to_host(self.truth)

    def take_truth(self, labels: Any, backend: Backend) -> None:
        """Labels (batch, ...) of any device as `truth` (batch, truths)."""
        if isinstance(labels, backend.xp.ndarray):
            self.truth = backend.array(labels).reshape(len(labels), -1)
            return
        here = np.ascontiguousarray(labels, backend.dtype).reshape(len(labels), -1)
        self.truth = backend.array(here)
        self._labels = self.truth, here

    @property
    def batch_statistics(self) -> bool:
        """Whether batch normalization takes the statistics of the batch (and rolls them) or uses the rolling ones."""
        return self.train and not self.frozen

    def rolling_decay(self, decay: float) -> float:
        """How much of rolling statistics stays in a pass: `decay`, or all of them in a resting layer."""
        return 1.0 if self.resting else decay

    def replaces(self, delta: Any) -> bool:
        """Whether the first gradient for a delta is to replace it, since its contents are undefined, instead of being
        added. Asked by layers with `replaces_deltas`, once, when they write it."""
        return self.undefined.pop(id(delta), None) is not None

    def clear(self, delta: Any, backend: Backend) -> None:
        """Set a delta to zeros where its contents are undefined, so that it can be added to."""
        if self.replaces(delta):
            backend.vector.fill(delta, 0.0, self.threads)

    def workspace(self, size: int, backend: Backend) -> Any:
        """A flat array of `size` floats with undefined contents, shared by all layers of the network."""
        if self._workspace is None or self._workspace.size < size:
            self._workspace = backend.empty((size,))
        return self._workspace[:size]


@dataclass(frozen=True)
class AdamArgs:
    """Scalars of a step of Adam.

    Attributes:
        B1, B2, eps: as in [net].
        t: steps made since the means were zero, this one included.
    """

    B1: float
    B2: float
    eps: float
    t: int

    @property
    def constants(self) -> tuple[float, float, float]:
        """B1, B2 and eps."""
        return self.B1, self.B2, self.eps


@dataclass(frozen=True)
class UpdateArgs:
    """What Darknet passes to update: all scalars of one optimizer step.

    Attributes:
        learning_rate: the network's rate in this iteration.
        momentum, decay: as in [net].
        batch: samples that the accumulated updates are divided by (batch * subdivisions * time steps).
        threads: how many threads kernels may use.
        adam: Adam instead of gradient descent with momentum.
        clip: bound of the weights of layers that have no `clip` of their own; 0: none.
        iteration: number of the step, from 1.
        max_batches: as in [net].
        queue: where layers put their steps instead of taking them at once; None on backends without one.
    """

    learning_rate: float
    momentum: float
    decay: float
    batch: int
    threads: int = 1
    adam: AdamArgs | None = None
    clip: float = 0.0
    iteration: int = 0
    max_batches: int = 0
    queue: StepQueue | None = None

    def at_once(self) -> UpdateArgs:
        """The same for a layer that goes on with its parameters itself: what waits is done first, its steps at once."""
        if self.queue is not None:
            self.queue.flush(self)
        return replace(self, queue=None)
