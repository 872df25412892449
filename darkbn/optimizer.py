"""The learning rate of each iteration: Darknet's policies."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

POLICIES = ("constant", "step", "steps", "exp", "poly", "sigmoid", "random", "sgdr")


@dataclass(frozen=True)
class LearningRate:
    """Learning rate as a function of the iteration (the number of updates, this one included).

    Attributes: the options of [net] with the same names; `policy` is one of POLICIES. `scale` belongs to policy step,
    `step` to step and sigmoid, `steps` and `scales` to steps, `gamma` to exp and sigmoid, `power` to burn-in, poly and
    random.
    """

    learning_rate: float
    policy: str = "constant"
    burn_in: int = 0
    power: float = 4.0
    step: int = 1
    scale: float = 1.0
    steps: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    gamma: float = 1.0
    max_batches: int = 0
    learning_rate_min: float = 1e-5
    sgdr_cycle: int = 0
    sgdr_mult: int = 2

    def __call__(self, iteration: int, rng: np.random.Generator | None = None) -> float:
        """Rate of that iteration.

        Args:
            iteration: images seen / (batch * subdivisions), counted after the images of this iteration.
            rng: needed by policy random only.
        """
        if iteration < self.burn_in:
            return self.learning_rate * _power(iteration / self.burn_in, self.power)
        return self.learning_rate * self._factor(iteration, rng) if self.policy != "sgdr" else self._sgdr(iteration)

    def _factor(self, iteration: int, rng: np.random.Generator | None) -> float:
        match self.policy:
            case "step":
                return _power(self.scale, iteration // self.step)
            case "steps":
                reached = itertools.takewhile(lambda at: at <= iteration, self.steps)
                return math.prod((scale for _, scale in zip(reached, self.scales, strict=False)), start=1.0)
            case "exp":
                return _power(self.gamma, iteration)
            case "poly":
                # After the end of training Darknet's rate rises again, or is NaN; here it stays 0.
                return _power(max(1 - iteration / self.max_batches, 0.0), self.power)
            case "sigmoid":
                # The distance to the step is signed here; pjreddie computes it unsigned (pj-sigmoid-rate-unsigned).
                return 1.0 / (1.0 + _exp(self.gamma * (iteration - self.step)))
            case "random":
                if rng is None:
                    raise ValueError("policy random needs a random generator")
                return _power(rng.random(), self.power)
        return 1.0

    def _sgdr(self, iteration: int) -> float:
        """Cosine annealing with restarts (Loshchilov and Hutter, 2016)."""
        start, cycle = 0, self.sgdr_cycle
        while start + cycle < iteration:
            start += cycle
            cycle *= self.sgdr_mult
        wave = 1 + math.cos(math.pi * (iteration - start) / cycle)
        return self.learning_rate_min + 0.5 * (self.learning_rate - self.learning_rate_min) * wave


def _power(base: float, exponent: float) -> float:
    """base to the power of exponent as C computes it: infinite where it overflows or divides by 0."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
    except ValueError:  # 0 to a negative power
        return math.inf if base == 0 else math.nan


def _exp(x: float) -> float:
    """exp that is infinite where it overflows."""
    return math.exp(x) if x < 700 else math.inf
