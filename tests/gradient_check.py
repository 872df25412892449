"""Gradients by finite differences, on the reference backend."""

from __future__ import annotations

from typing import Any

import darkbn
from darkbn.gradients import differences

__all__ = ["check_gradients", "differences"]


def check_gradients(
    cfg: str, dialect: str, seed: int = 0, x: Any = None, tolerance: float = 1e-6, batchnorm: str = "exact"
) -> None:
    """Compare the gradients of a network's input and parameters with finite differences (`darkbn.gradcheck`).

    Args:
        cfg: the network; its last layer has no loss.
        dialect: of the network.
        seed: of the parameters, the input and delta; random layers draw the same in every pass.
        x: input; random by default.
        tolerance: largest error relative to the largest derivative of an array.
        batchnorm: convention of batch normalization; one whose gradient is the derivative.
    """
    net = darkbn.load(cfg, dialect=dialect, device="reference", train=True, batchnorm=batchnorm, seed=seed)
    report = darkbn.gradcheck(net, x, seed=seed, tolerance=tolerance, perturb=0.1)
    assert any(row.layer is None for row in report.rows), "the input's gradient was not checked"
    assert not any(row.own for row in report.rows), f"{batchnorm} has a gradient of its own"
    assert report.passed, "; ".join(f"{row.name}: error {row.error:.3g}" for row in report.failures)
