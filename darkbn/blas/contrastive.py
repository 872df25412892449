"""AlexeyAB's functions for the contrastive loss, one sample at a time; z is an array (samples, feature_size).

What Darknet keeps of a pair is an element of an array of `contrastive_params`. `darkbn.reference.contrastive.loss` is
the whole loss in one kernel.
"""

from __future__ import annotations

import math

import numpy as np

from darkbn.blas._views import readable, view, writable
from darkbn.errors import DarkbnError, DtypeError, ShapeError
from darkbn.reference.contrastive import CERTAIN
from darkbn.signature import Array

#: Darknet's struct: similarity of samples i and j, its exponential, probability of the pair.
contrastive_params = np.dtype(
    [
        ("sim", np.float32),
        ("exp_sim", np.float32),
        ("P", np.float32),
        ("i", np.int32),
        ("j", np.int32),
        ("time_step_i", np.int32),
        ("time_step_j", np.int32),
    ]
)


def get_embedding(
    src: Array,
    src_w: int,
    src_h: int,
    src_c: int,
    embedding_size: int,
    cur_w: int,
    cur_h: int,
    cur_n: int,
    cur_b: int,
    dst: Array,
) -> None:
    """dst = the embedding of anchor cur_n at column cur_w and row cur_h of sample cur_b of a map src."""
    anchors = src_c // embedding_size
    if not (0 <= cur_w < src_w and 0 <= cur_h < src_h and 0 <= cur_n < anchors and cur_b >= 0):
        raise ShapeError(f"get_embedding: no anchor {cur_n} at ({cur_w}, {cur_h}) of {src_w} x {src_h} x {src_c}")
    maps = view("src", src, (cur_b + 1, src_c, src_h, src_w))[cur_b]
    with writable("dst", dst, (embedding_size,)) as to:
        to[...] = maps[cur_n * embedding_size : (cur_n + 1) * embedding_size, cur_h, cur_w]


def math_vector_length(A: Array, feature_size: int) -> float:
    """Euclidean length."""
    return float(np.linalg.norm(readable("A", A, (feature_size,)).astype(np.float64)))


def cosine_similarity(A: Array, B: Array, feature_size: int) -> float:
    """Cosine of the angle; 0 when a vector has length 0."""
    a, b = (readable(name, v, (feature_size,)).astype(np.float64) for name, v in (("A", A), ("B", B)))
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths > 0 else 0.0


# -- pairs by their place in a table -----------------------------------------------------------------------------------


def P_constrastive(
    i: int,
    l: int,
    labels: Array,
    num_of_samples: int,
    z: Array,
    feature_size: int,
    temperature: float,
    cos_sim: Array,
    exp_cos_sim: Array,
) -> float:
    """exp_cos_sim[i, l] divided by the sum of exp_cos_sim[k, l] over all k but i; l must not be i."""
    if i == l:
        raise DarkbnError(f"P_constrastive: a pair needs two samples, found {i} twice")
    powers = readable("exp_cos_sim", exp_cos_sim, (num_of_samples, num_of_samples)).astype(np.float64)
    return float(powers[i, l] / (powers[:, l].sum() - powers[i, l]))


def grad_contrastive_loss_positive(
    i: int,
    labels: Array,
    num_of_samples: int,
    z: Array,
    feature_size: int,
    temperature: float,
    cos_sim: Array,
    p_constrastive: Array,
    delta: Array,
    wh: int,
) -> None:
    """delta, every wh-th value of it, += the pull of the samples with the label of i."""
    similar, p = (readable(n, a, (num_of_samples,) * 2) for n, a in (("cos_sim", cos_sim), ("p", p_constrastive)))
    alike = np.asarray(labels[:num_of_samples]) == labels[i]
    pairs = [(j, similar[i, j], p[i, j]) for j in np.flatnonzero(alike).tolist() if j != i]
    _pull(i, alike, z, feature_size, temperature, pairs, delta, wh)


def grad_contrastive_loss_negative(
    i: int,
    labels: Array,
    num_of_samples: int,
    z: Array,
    feature_size: int,
    temperature: float,
    cos_sim: Array,
    p_constrastive: Array,
    delta: Array,
    wh: int,
) -> None:
    """delta, every wh-th value of it, -= the push of the samples with a label, once for each that has that of i."""
    similar, p = (readable(n, a, (num_of_samples,) * 2) for n, a in (("cos_sim", cos_sim), ("p", p_constrastive)))
    labels = np.asarray(labels[:num_of_samples])
    alike = labels == labels[i]
    pairs = [
        (k, similar[i, k], p[i, k])
        for j in np.flatnonzero(alike).tolist()
        if j != i
        for k in np.flatnonzero(labels >= 0).tolist()
        if k not in (i, j)
    ]
    _push(i, alike, z, feature_size, temperature, pairs, delta, wh)


# -- pairs in a list ---------------------------------------------------------------------------------------------------


def check_sim(i: int, j: int, contrast_p: Array, contrast_p_size: int) -> int:
    """1 when the list has the pair, else 0."""
    return int(_find(i, j, contrast_p, contrast_p_size) is not None)


def find_sim(i: int, j: int, contrast_p: Array, contrast_p_size: int) -> float:
    """Similarity of a pair; raises DarkbnError when the list does not have it."""
    return float(_required(i, j, contrast_p, contrast_p_size)["sim"])


def find_P_constrastive(i: int, j: int, contrast_p: Array, contrast_p_size: int) -> float:
    """Probability of a pair; raises DarkbnError when the list does not have it."""
    return float(_required(i, j, contrast_p, contrast_p_size)["P"])


def P_constrastive_f_det(
    il: int,
    labels: Array,
    z: Array,
    feature_size: int,
    temperature: float,
    contrast_p: Array,
    contrast_p_size: int,
) -> float:
    """Probability of element il of the list: its exponential divided by the sum over the other partners of its second.

    At most CERTAIN, and CERTAIN without other partners.
    """
    pair = _listed(contrast_p, contrast_p_size)[il]
    return _probability(int(pair["i"]), int(pair["j"]), float(pair["sim"]), temperature, contrast_p, contrast_p_size)


def P_constrastive_f(
    i: int,
    l: int,
    labels: Array,
    z: Array,
    feature_size: int,
    temperature: float,
    contrast_p: Array,
    contrast_p_size: int,
) -> float:
    """The same for the pair of i and l."""
    if i == l:
        raise DarkbnError(f"P_constrastive_f: a pair needs two samples, found {i} twice")
    sim = find_sim(i, l, contrast_p, contrast_p_size)
    return _probability(i, l, sim, temperature, contrast_p, contrast_p_size)


def grad_contrastive_loss_positive_f(
    i: int,
    class_ids: Array,
    labels: Array,
    num_of_samples: int,
    z: Array,
    feature_size: int,
    temperature: float,
    delta: Array,
    wh: int,
    contrast_p: Array,
    contrast_p_size: int,
) -> None:
    """`grad_contrastive_loss_positive` over the pairs of the list; nothing without a label."""
    labels = np.asarray(labels[:num_of_samples])
    alike = (labels == labels[i]) & (labels >= 0)
    found = ((j, _find(i, j, contrast_p, contrast_p_size)) for j in np.flatnonzero(alike).tolist() if j != i)
    pairs = [(j, float(pair["sim"]), float(pair["P"])) for j, pair in found if pair is not None]
    _pull(i, alike, z, feature_size, temperature, pairs, delta, wh)


def grad_contrastive_loss_negative_f(
    i: int,
    class_ids: Array,
    labels: Array,
    num_of_samples: int,
    z: Array,
    feature_size: int,
    temperature: float,
    delta: Array,
    wh: int,
    contrast_p: Array,
    contrast_p_size: int,
    neg_max: int,
) -> None:
    """`grad_contrastive_loss_negative` over the pairs of the list with another label, in the class of j.

    At most neg_max of them; those that the list lacks are counted, too.
    """
    labels, classes = np.asarray(labels[:num_of_samples]), np.asarray(class_ids[:num_of_samples])
    alike = (labels == labels[i]) & (labels >= 0)
    others = [
        k
        for j in np.flatnonzero(alike).tolist()
        if j != i
        for k in np.flatnonzero((labels != labels[i]) & (classes == classes[j])).tolist()
        if k not in (i, j)
    ]
    # Darknet counts before it looks whether there are enough: with neg_max = 0 one still acts.
    found = (
        (k, _find(i, k, contrast_p, contrast_p_size)) for k in _first(others, neg_max, i, contrast_p, contrast_p_size)
    )
    pairs = [(k, float(pair["sim"]), float(pair["P"])) for k, pair in found if pair is not None]
    _push(i, alike, z, feature_size, temperature, pairs, delta, wh)


def _first(others: list[int], neg_max: int, i: int, contrast_p: Array, size: int) -> list[int]:
    """Those until the first listed one at which neg_max have been counted."""
    for count, k in enumerate(others, 1):
        if count >= neg_max and _find(i, k, contrast_p, size) is not None:
            return others[:count]
    return others


def _listed(contrast_p: Array, size: int) -> Array:
    if not isinstance(contrast_p, np.ndarray) or contrast_p.dtype != contrastive_params or contrast_p.ndim != 1:
        raise DtypeError("contrast_p must be an array (pairs,) of blas.contrastive_params")
    if size > len(contrast_p):
        raise ShapeError(f"contrast_p must have at least {size} pairs, found {len(contrast_p)}")
    return contrast_p[:size]


def _find(i: int, j: int, contrast_p: Array, size: int) -> Array | None:
    """The first such pair."""
    pairs = _listed(contrast_p, size)
    places = np.flatnonzero((pairs["i"] == i) & (pairs["j"] == j))
    found: Array | None = pairs[places[0]] if len(places) else None
    return found


def _required(i: int, j: int, contrast_p: Array, size: int) -> Array:
    pair = _find(i, j, contrast_p, size)
    if pair is None:
        raise DarkbnError(f"there is no pair of samples {i} and {j} among {size}")
    return pair


def _probability(i: int, j: int, sim: float, temperature: float, contrast_p: Array, size: int) -> float:
    pairs = _listed(contrast_p, size)
    others = float(pairs["exp_sim"][(pairs["i"] != i) & (pairs["j"] == j)].sum(dtype=np.float64))
    share = math.exp(sim / temperature) / others if others else CERTAIN
    return CERTAIN if share > 1 else share


# -- gradients ---------------------------------------------------------------------------------------------------------

#: Another sample, its similarity, its probability.
_Pair = tuple[int, float, float]


def _pull(
    i: int, alike: Array, z: Array, size: int, temperature: float, pairs: list[_Pair], delta: Array, wh: int
) -> None:
    """delta += the sum over pairs of (1 - P) * (z_j - sim * z_i), divided by (N - 1) * temperature * |z_i|."""
    vectors = readable("z", z, (len(alike), size)).astype(np.float64)
    total = sum(((1 - p) * (vectors[j] - sim * vectors[i]) for j, sim, p in pairs), np.zeros(size))
    _add(total, i, alike, vectors, temperature, delta, wh)


def _push(
    i: int, alike: Array, z: Array, size: int, temperature: float, pairs: list[_Pair], delta: Array, wh: int
) -> None:
    """delta -= the sum over pairs of P * (z_k - sim * z_i), divided by the same."""
    vectors = readable("z", z, (len(alike), size)).astype(np.float64)
    total = sum((-p * (vectors[k] - sim * vectors[i]) for k, sim, p in pairs), np.zeros(size))
    _add(total, i, alike, vectors, temperature, delta, wh)


def _add(total: Array, i: int, alike: Array, vectors: Array, temperature: float, delta: Array, wh: int) -> None:
    length, count = float(np.linalg.norm(vectors[i])), int(alike.sum())
    if count == 0 or temperature == 0 or length == 0:
        raise DarkbnError(
            f"sample {i}: a label, a temperature and a length above 0 are needed, found {count} samples of the label,"
            f" temperature {temperature:g}, length {length:g}"
        )
    with writable("delta", delta, total.shape, (wh,)) as to:
        if count > 1:
            to += total / ((count - 1) * temperature * length)
