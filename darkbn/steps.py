"""Steps of the optimizer: what happens to one parameter in one of them, and many parameters together.

A layer says what step each of its parameters takes (`ParameterStep`). On the CPU they are taken one after the other; a
GPU gathers those of the whole network in `StepQueue` and takes them in one launch, with the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from darkbn.backend import address

if TYPE_CHECKING:
    from darkbn.backend import Backend
    from darkbn.state import UpdateArgs


@dataclass(frozen=True)
class ParameterStep:
    """One parameter's step, all arrays flat and of its backend.

    Attributes:
        weights, updates: the parameter and its accumulated gradient.
        moments: means of the updates and of their squares, for Adam; else none.
        rate: learning rate; for gradient descent divided by the batch.
        decay: weight decay times the batch.
        bound: what the weights are clipped to afterwards (by a queue); 0: nothing.
    """

    weights: Any
    updates: Any
    moments: tuple[Any, ...]
    rate: float
    decay: float
    bound: float = 0.0


def take_step(step: ParameterStep, backend: Backend, args: UpdateArgs) -> None:
    """One parameter's step."""
    arrays = (step.weights, step.updates, *step.moments)
    if args.adam is None:
        backend.optimizer.sgd(*arrays, step.rate, args.momentum, step.decay, args.threads)
    else:
        backend.optimizer.adam(*arrays, step.rate, *args.adam.constants, step.decay, args.adam.t, args.threads)


class StepQueue:
    """Gathers steps and takes them together, in as few launches as their arrays allow."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting: list[ParameterStep] = []

    def add(self, step: ParameterStep) -> None:
        """A step to take in `flush`."""
        self._waiting.append(step)

    def bound(self, weights: Any, bound: float, args: UpdateArgs) -> None:
        """Clip weights after their last step, in the same launch."""
        place = address(weights)
        for index in reversed(range(len(self._waiting))):
            if address(self._waiting[index].weights) == place:
                self._waiting[index] = replace(self._waiting[index], bound=bound)
                return
        self._backend.vector.constrain(weights, bound, args.threads)

    def flush(self, args: UpdateArgs) -> None:
        """Take all steps, those of arrays that several layers share one after the other."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            now: dict[int, ParameterStep] = {}
            later = []
            for step in waiting:
                place = address(step.weights)
                if place in now:
                    later.append(step)
                else:
                    now[place] = step
            self._backend.together.take_steps(list(now.values()), args)
            waiting = later
