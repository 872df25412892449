"""Launchers of darkbn.reference.contrastive."""

from __future__ import annotations

import numpy as np

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import each


def loss_workspace(m: int, threads: int) -> int:
    return m * m + 2 * m


def loss(
    z: Array,
    labels: Array,
    classes: Array,
    steps: Array,
    delta: Array,
    right: Array,
    workspace: Array,
    temperature: float,
    most: int,
    detection: int,
    threads: int,
) -> None:
    m, d = z.shape
    if workspace.size < loss_workspace(m, threads):
        raise ShapeError(f"contrastive.loss: workspace must have at least {loss_workspace(m, threads)} floats")
    parameters = (z, labels, classes, steps, workspace, m, d, most, np.float64(temperature), detection)
    each("contrastive", "contrastive_lengths", m, *parameters)
    each("contrastive", "contrastive_angles", m, *parameters)
    each("contrastive", "contrastive_totals", m, *parameters)
    each("contrastive", "contrastive_loss", m, delta, right, *parameters)
