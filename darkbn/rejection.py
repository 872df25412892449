"""Labels that are probably wrong (dialect alexeyab): late in training [yolo] forgets deltas that stand out.

    num_sigmas_reject_badlabels=N       deltas larger than the rolling mean plus N rolling deviations, reached gradually
    badlabels_rejection_percentage=P    the largest deltas, about P percent of the predictions that have some
    equidistant_point=I                 from iteration I on, deltas smaller than a share of the rolling mean that grows

The first two begin after three quarters of max_batches. The rolling numbers are of all [yolo] layers together, as in
Darknet; the deviation is that of the signed deltas from the mean of their magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkbn.cfg import Section

if TYPE_CHECKING:
    from darkbn.net_options import NetOptions

#: How fast the rolling numbers follow, and by how much the threshold of the percentage moves after a pass.
_FOLLOW, _STEP = 0.01, 0.01


@dataclass
class LabelRejection:
    """What is rejected, and the rolling numbers that decide it.

    Attributes:
        sigmas, percentage, point: the three options above; 0: off.
        max_batches: length of training.
        largest, mean, deviation: rolling numbers of the deltas that are not 0.
        threshold: above which the percentage rejects; 0 before it begins.
    """

    sigmas: float
    percentage: float
    point: int
    max_batches: int
    largest: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    threshold: float = 0.0

    @classmethod
    def of(cls, options: NetOptions, section: Section) -> LabelRejection | None:
        """What [net] asks for; None when nothing. Raises CfgError without max_batches."""
        o = options
        wanted = (o.num_sigmas_reject_badlabels, o.badlabels_rejection_percentage, o.equidistant_point)
        if not any(wanted):
            return None
        if o.max_batches <= max(o.equidistant_point, 1):
            raise section.error("rejecting labels needs to know how long training is", key="max_batches")
        return cls(*wanted, o.max_batches)

    @property
    def state(self) -> dict[str, float]:
        """The rolling numbers, for a training state."""
        return {name: getattr(self, name) for name in ("largest", "mean", "deviation", "threshold")}

    def apply(self, xp: Any, delta: Any, entries: int, completed: int) -> bool:
        """Set rejected deltas to 0. Returns whether any rule was in force.

        Args:
            xp: array module.
            delta: of a [yolo] layer.
            entries: numbers of a prediction.
            completed: iterations made so far.
        """
        start = self.max_batches * 3 // 4
        late, pointed = completed > start, bool(self.point) and completed > self.point
        if not (late and (self.sigmas or self.percentage)) and not pointed:
            return False
        sizes = xp.abs(delta[delta != 0])
        if not sizes.size:
            return False
        self._follow(float(sizes.max()), float(sizes.mean(dtype="float64")))
        progress = (completed - self.point) / (self.max_batches - self.point)
        small = self.mean * progress * 1.4
        if self.sigmas and late:
            small = self._reject_outliers(xp, delta, (completed - start) / start) * progress
        if self.percentage and late:
            self._reject_share(xp, delta, entries)
        if pointed:
            delta[xp.abs(delta) < small] = 0
        return True

    def _follow(self, largest: float, mean: float) -> None:
        self.largest = self.largest or largest
        self.largest += _FOLLOW * (largest - self.largest)
        self.mean += _FOLLOW * (mean - self.mean)

    def _reject_outliers(self, xp: Any, delta: Any, progress: float) -> float:
        """By deviations; returns what equidistant_point takes its share of then."""
        final = self.mean + self.deviation * self.sigmas
        found = float(xp.sqrt(xp.square(delta[delta != 0] - self.mean).mean(dtype="float64")))
        self.deviation += _FOLLOW * (found - self.deviation)
        delta[xp.abs(delta) > max(final, self.largest - progress * abs(self.largest - final))] = 0
        return min(final, self.mean)

    def _reject_share(self, xp: Any, delta: Any, entries: int) -> None:
        self.threshold = self.threshold or self.largest
        count = int((delta != 0).sum())
        rejected = xp.abs(delta) > self.threshold
        share = 100 * int(rejected.sum()) * entries / max(count, 1)
        delta[rejected] = 0
        if share > self.percentage:
            self.threshold += _STEP
        elif self.threshold > _STEP:
            self.threshold -= _STEP
