"""Instance segmentation (Darknet's [iseg]): class maps, and an embedding in which the pixels of an instance agree."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.errors import ShapeError
from darkbn.signature import Array

#: Pull of embeddings to 0, and of those of one instance to their mean and away from the others' means.
SHRINK, STEP, EMBEDDING_SCALE = 0.1, 0.1, 0.01


def loss_workspace(c: int, m: int, classes: int, threads: int) -> int:
    """Floats of workspace that `loss` needs: none here."""
    return 0


def loss(
    output: Annotated[Array, "in b c s"],
    truth: Annotated[Array, "in b m t"],
    delta: Annotated[Array, "out b c s"],
    costs: Annotated[Array, "out:float64 b"],
    workspace: Annotated[Array, "io floats"],
    classes: int,
    threads: int,
) -> None:
    """delta = the descent direction of the loss, costs = the sum of its squares for each sample.

    Args:
        output: class probabilities, then embeddings.
        truth: instances, each a class (below 0 ends the list) and a mask (t = s + 1 values). Instances of classes that
            do not exist are left out.
        classes: how many of the c channels are classes.

    Class maps are drawn to the masks, elsewhere to 0; where instances of one class overlap, the last one's mask counts.
    Each embedding is drawn to 0, in each mask it lies in by STEP towards that instance's mean and away from the means
    of all others, whatever the distance; all that times EMBEDDING_SCALE.
    """
    if truth.shape[2] != output.shape[2] + 1 or not 0 <= classes <= output.shape[1]:
        raise ShapeError(
            f"iseg.loss: truth must have 1 + {output.shape[2]} values for each instance, found {truth.shape[2]};"
            f" {classes} classes must be among {output.shape[1]} channels"
        )
    delta[:, :classes] = -output[:, :classes]
    for sample in range(len(output)):
        embedding = output[sample, classes:].astype(np.float64)
        change = -SHRINK * embedding
        instances = _instances(truth[sample], classes)
        means = []
        for kind, mask in instances:
            inside = mask != 0
            delta[sample, kind, inside] = mask[inside] - output[sample, kind, inside]
            means.append(embedding[:, inside].mean(axis=1, keepdims=True))
        for own, (_, mask) in enumerate(instances):
            for other, mean in enumerate(means):
                direction = np.where(mean - embedding < 0, -STEP, STEP)
                change += np.where(mask != 0, direction if own == other else -direction, 0)
        delta[sample, classes:] = EMBEDDING_SCALE * change
    costs[...] = np.square(delta, dtype=np.float64).sum(axis=(1, 2))


def _instances(rows: Array, classes: int) -> list[tuple[int, Array]]:
    """Class and mask of each instance that has pixels."""
    found = []
    for row in rows:
        if not row[0] > -1:
            break
        if int(row[0]) < classes and (row[1:] != 0).any():
            found.append((int(row[0]), row[1:]))
    return found
