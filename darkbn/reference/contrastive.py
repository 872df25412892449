"""Supervised contrastive learning (arXiv:2004.11362): embeddings of one label drawn together, others pushed apart."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from darkbn.signature import Array

#: The largest probability of a pair, where Darknet's detector finds more.
CERTAIN = 0.9999


def loss_workspace(m: int, threads: int) -> int:
    """Floats of workspace that `loss` needs: none here."""
    return 0


def loss(
    z: Annotated[Array, "in m d"],
    labels: Annotated[Array, "in:int32 m"],
    classes: Annotated[Array, "in:int32 m"],
    steps: Annotated[Array, "in:int32 m"],
    delta: Annotated[Array, "out m d"],
    right: Annotated[Array, "out:int32 m"],
    workspace: Annotated[Array, "io floats"],
    temperature: float,
    most: int,
    detection: int,
    threads: int,
) -> None:
    """delta as Darknet computes it, for two views of a picture, or two places with the same object.

    Two embeddings are a pair when they have the same class and step. With s the cosine of their angle,

        p(i, j) = exp(s(i, j) / temperature) / sum over the other partners k of j of exp(s(k, j) / temperature)

    and with N embeddings of the label of i, delta(i) is 1 / ((N - 1) * temperature * |z(i)|) times

        the sum over its positive partners j (same label) of (1 - p(i, j)) * (z(j) - s(i, j) * z(i))
      - the sum over j and over its negative partners k of p(i, k) * (z(k) - s(i, k) * z(i))

    Args:
        z: embeddings.
        labels: what should be alike (a track of a video, a class).
        classes, steps: see above.
        delta: the result; 0 for embeddings without positive partner, and of length 0.
        right: 1 where the nearest partner has the same label, 0 where it has another, -1 without both kinds.
        workspace: room.
        temperature: see above.
        most: how many negative partners count at most, in order (detection only).
        detection: the rules of Darknet's detector: negative partners have another label, and p is CERTAIN where it
            would be more than 1. Else every other embedding is a negative partner. For a pair whose second has no other
            partner p is always CERTAIN.
    """
    count = len(z)
    wide = z.astype(np.float64)
    lengths = np.sqrt((wide**2).sum(axis=1))
    scale = np.divide(1, lengths, out=np.zeros(count), where=lengths > 0)
    similar = (wide * scale[:, np.newaxis]) @ (wide * scale[:, np.newaxis]).T
    partners = (classes[:, np.newaxis] == classes) & (steps[:, np.newaxis] == steps) & ~np.eye(count, dtype=bool)
    probability = _probabilities(similar, partners, temperature, detection)
    alike = labels[:, np.newaxis] == labels
    delta[...] = 0
    for i in range(count):
        positives = np.flatnonzero(alike[i] & (np.arange(count) != i))
        if len(positives) == 0 or lengths[i] == 0:
            continue
        pulls = wide - similar[i][:, np.newaxis] * wide[i]
        drawn = [j for j in positives if partners[i, j]]
        total = ((1 - probability[i, drawn])[:, np.newaxis] * pulls[drawn]).sum(axis=0)
        for k in _negatives(i, positives, alike[i], partners[i], classes, most, detection):
            total -= probability[i, k] * pulls[k]
        delta[i] = total / (len(positives) * temperature * lengths[i])
    nearest = [np.where(partners & which, similar, -np.inf).max(axis=1, initial=-np.inf) for which in (alike, ~alike)]
    both = np.isfinite(nearest[0]) & np.isfinite(nearest[1])
    right[...] = np.where(both, nearest[0] > nearest[1], -1)


def _probabilities(similar: Array, partners: Array, temperature: float, detection: int) -> Array:
    powers = np.where(partners, np.exp(similar / temperature), 0)
    others = powers.sum(axis=0) - powers
    alone = partners.sum(axis=0) - partners == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(alone, CERTAIN, powers / others)
    return np.where(found > 1, CERTAIN, found) if detection else found


def _negatives(
    i: int, positives: Array, alike: Array, partners: Array, classes: Array, most: int, detection: int
) -> list[int]:
    """The negative partners of i, once for every positive one, as far as they count."""
    found, seen = [], 0
    for j in positives:
        for k in range(len(alike)):
            if k in (i, j) or (detection and (alike[k] or classes[j] != classes[k])):
                continue
            seen += 1
            if partners[k]:
                found.append(k)
                if detection and seen >= most:
                    return found
    return found
