"""Launchers of darkbn.reference.iseg."""

from __future__ import annotations

from darkbn.errors import ShapeError
from darkbn.signature import Array
from darkbn_gpu.launch import each, launch, scratch


def loss_workspace(c: int, m: int, classes: int, threads: int) -> int:
    return 0


def loss(output: Array, truth: Array, delta: Array, costs: Array, workspace: Array, classes: int, threads: int) -> None:
    (b, c, s), m = output.shape, truth.shape[1]
    if truth.shape[2] != s + 1 or not 0 <= classes <= c:
        raise ShapeError(
            f"iseg.loss: truth must have 1 + {s} values for each instance, found {truth.shape[2]};"
            f" {classes} classes must be among {c} channels"
        )
    means = scratch(output, b * m * (c - classes + 1))  # the workspace is sized without the batch
    launch("iseg", "iseg_means", b * m, output, truth, means, c, m, s, classes)
    each("iseg", "iseg_loss", output.size, output, truth, means, delta, b, c, m, s, classes)
    launch("iseg", "iseg_costs", b, delta, costs, c * s)
