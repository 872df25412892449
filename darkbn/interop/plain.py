"""Which sections are plain: other programs have operators for what their type says."""

from __future__ import annotations

from darkbn.layers.base import Layer

#: Options that change what a section computes when it predicts, beyond what operators of other programs do.
SPECIAL = ("binary", "xnor", "coordconv", "maxpool_zero_nonmax", "tree")


def special_options(layer: Layer) -> list[str]:
    """Names of such options that a layer, or one inside it, has."""
    return [name for _, part in layer.walk() for name in SPECIAL if getattr(part.options, name, False)]
