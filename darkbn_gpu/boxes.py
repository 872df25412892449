"""Launchers of darkbn.reference.boxes."""

from __future__ import annotations

import numpy as np

from darkbn.boxes import DIOU_NMS, GREEDY_NMS
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch


def suppress(
    boxes: Array, starts: Array, keep: Array, threshold: float, kind: int, exponent: float, threads: int
) -> None:
    n, distant = keep.shape[0], int(kind in (GREEDY_NMS, DIOU_NMS))
    each("boxes", "boxes_keep_all", n, keep, n)
    rules = (n, float(threshold), distant, np.float64(exponent))
    launch("boxes", "boxes_suppress", starts.shape[0] - 1 if n else 0, boxes, starts, keep, *rules)
