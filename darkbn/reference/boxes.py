"""Boxes: suppression of those that overlap a better one."""

from __future__ import annotations

import itertools
from typing import Annotated

from darkbn.boxes import DIOU_NMS, GREEDY_NMS, diou, iou
from darkbn.signature import Array


def suppress(
    boxes: Annotated[Array, "in 4 n"],
    starts: Annotated[Array, "in:int32 m"],
    keep: Annotated[Array, "out:uint8 n"],
    threshold: float,
    kind: int,
    exponent: float,
    threads: int,
) -> None:
    """keep = 0 for boxes that overlap a kept one before them in their segment by more than threshold, else 1.

    Args:
        boxes: rows x, y, w, h; each segment sorted by falling probability.
        starts: ascending; segment k is starts[k] to starts[k + 1].
        keep: 1 also for boxes in no segment.
        threshold: largest overlap allowed.
        kind: overlap by `darkbn.boxes.diou` with that exponent for GREEDY_NMS and DIOU_NMS, else by IoU.
        exponent: see kind.
    """
    keep[...] = 1
    for start, end in itertools.pairwise(starts):
        for best in range(start, end):
            if keep[best]:
                a, others = boxes[:, best], boxes[:, best + 1 : end].T
                overlap = diou(a, others, exponent) if kind in (GREEDY_NMS, DIOU_NMS) else iou(a, others)
                keep[best + 1 : end][overlap > threshold] = 0
