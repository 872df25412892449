"""Numbers that the kernels and the layer of [Gaussian_yolo] share."""

from __future__ import annotations

#: Which point of a box x and y are about: numbers of yolo_point.
CENTER, LEFT_TOP, RIGHT_BOTTOM = range(3)

#: Half widths of a box from that point to its centre.
TO_CENTER = {CENTER: 0, LEFT_TOP: 1, RIGHT_BOTTOM: -1}

#: Entry of the objectness; classes follow.
OBJECTNESS = 8
