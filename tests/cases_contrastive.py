"""Rows of the family `contrastive`."""

from cases import KernelCase


def few(count):
    """Numbers below count, so that embeddings share them."""
    return lambda rng, shape: rng.integers(0, count, shape)


def one_zero(rng, shape):
    values = rng.standard_normal(shape)
    values[1:2] = 0
    return values


def contrast(m, d, labels=3, classes=1, steps=1, temperature=1.0, most=3, detection=1, z=None):
    fill = {"labels": few(labels), "classes": few(classes), "steps": few(steps)}
    return KernelCase(
        "contrastive.loss",
        {"m": m, "d": d},
        {"temperature": temperature, "most": most, "detection": detection},
        tolerance=1e-5,
        reason="differences of nearly parallel vectors, exponentials of their cosines over the temperature",
        fill={**fill, "z": z} if z else fill,
    )


KERNEL_CASES = [
    contrast(0, 4),
    contrast(1, 1),
    contrast(2, 3, labels=1),
    contrast(2, 3, labels=1, detection=0),
    contrast(7, 0),
    contrast(9, 17),
    contrast(12, 33, classes=2),
    contrast(23, 128, labels=5, classes=3, steps=2, temperature=0.5, most=7),
    contrast(40, 16, labels=4, temperature=0.1, most=1000),
    contrast(16, 31, labels=4, detection=0, temperature=0.2),
    contrast(31, 64, labels=5, steps=2, detection=0, temperature=0.07),
    contrast(10, 5, z=one_zero),
]
