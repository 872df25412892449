"""Darknet's blas functions on their own; what Darknet computes is held by test_goldens.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from darkbn import blas
from darkbn.backend import get_backend
from darkbn.conventions import get_convention
from darkbn.errors import DarkbnError, DtypeError, ShapeError, UnsupportedError
from darkbn.layers.batchnorm import (
    backward_batchnorm_layer,
    forward_batchnorm_layer,
    make_batchnorm_layer,
    resize_batchnorm_layer,
    update_batchnorm_layer,
)
from darkbn.state import NetworkState, UpdateArgs


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_increments_leave_the_rest_alone() -> None:
    x, y = numbers(1, 2, 3, 4, 5), numbers(10, 20, 30, 40, 50, 60, 70)
    blas.axpy_cpu(3, 2, x, 2, y, 3)
    assert y.tolist() == [12, 20, 30, 46, 50, 60, 80]
    blas.copy_cpu(2, x, 4, y, 1)
    assert y.tolist() == [1, 5, 30, 46, 50, 60, 80]
    assert blas.dot_cpu(3, x, 2, x, 1) == 1 * 1 + 3 * 2 + 5 * 3
    blas.fill_cpu(0, 7, x, 1)
    blas.const_cpu(2, 0, x, 3)
    assert x.tolist() == [0, 2, 3, 0, 5]


def test_arrays_may_be_larger_and_of_any_shape() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    blas.scal_cpu(4, 10, x, 1)
    assert x.reshape(-1).tolist() == [0, 10, 20, 30, 4, 5, 6, 7, 8, 9, 10, 11]
    mean = np.full(4, -1, np.float32)
    blas.mean_cpu(x, 2, 3, 2, mean)
    assert mean.tolist() == [(0 + 10 + 6 + 7) / 4, (20 + 30 + 8 + 9) / 4, (4 + 5 + 10 + 11) / 4, -1]


def test_leading_dimensions() -> None:
    a = np.arange(15, dtype=np.float32).reshape(3, 5)
    c = np.full((2, 4), 7, np.float32)
    blas.gemm(0, 1, 2, 2, 2, 1, a, 5, a[1:], 5, 0, c, 4)
    expected = a[:2, :2] @ a[1:, :2].T
    assert c.tolist() == [[*expected[0], 7, 7], [*expected[1], 7, 7]]


def test_logarithms_of_certain_predictions() -> None:
    """A right answer given with certainty costs nothing (Darknet: 0 * log 0 = NaN)."""
    delta, error = np.empty((2, 2), np.float32)
    blas.logistic_x_ent_cpu(2, numbers(1, 0), numbers(1, 0), delta, error)
    assert error.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: blas.fill_cpu(6, 0, x, 1), ShapeError),
        (lambda x: blas.fill_cpu(3, 0, x, 3), ShapeError),
        (lambda x: blas.fill_cpu(-1, 0, x, 1), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x, 0), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x, -1), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x[::2], 1), ShapeError),
        (lambda x: blas.fill_cpu(2, 0, x.astype(np.float64), 1), DtypeError),
        (lambda x: blas.fill_cpu(2, 0, x.tolist(), 1), DtypeError),
        (lambda x: blas.copy_cpu(4, x[:3], 1, x, 1), ShapeError),
        (lambda x: blas.mean_cpu(x, 2, 3, 1, x), ShapeError),
        (lambda x: blas.variance_cpu(x, x, 1, 5, 1, x), ShapeError),
        (lambda x: blas.softmax(x, 3, 1, 3, x), ShapeError),
        (lambda x: blas.reorg_cpu(x, 1, 1, 5, 1, 2, 1, x), ShapeError),
        (lambda x: blas.im2col_cpu_ext(x, 1, 1, 5, 1, 3, 0, 1, 1, 1, 1, 1, x), UnsupportedError),
        (lambda x: blas.activate_array(x, 5, "silu"), UnsupportedError),
    ],
)
def test_errors(call: Callable[[np.ndarray], Any], error: type[Exception]) -> None:
    x = numbers(1, 2, 3, 4, 5)
    with pytest.raises(error):
        call(x)
    assert x.tolist() == [1, 2, 3, 4, 5]


def test_read_only_outputs() -> None:
    x = numbers(1, 2, 3)
    x.flags.writeable = False
    with pytest.raises(ShapeError, match="X is written to"):
        blas.fill_cpu(3, 0, x, 1)


#: What blas.h of each Darknet declares outside of `#ifdef GPU` (pjreddie/darknet also lists some in darknet.h).
PJREDDIE = [
    "flatten",
    "pm",
    "random_matrix",
    "time_random_matrix",
    "reorg_cpu",
    "test_blas",
    "inter_cpu",
    "deinter_cpu",
    "mult_add_into_cpu",
    "const_cpu",
    "pow_cpu",
    "mul_cpu",
    "shortcut_cpu",
    "mean_cpu",
    "variance_cpu",
    "scale_bias",
    "backward_scale_cpu",
    "mean_delta_cpu",
    "variance_delta_cpu",
    "normalize_delta_cpu",
    "l2normalize_cpu",
    "smooth_l1_cpu",
    "l2_cpu",
    "l1_cpu",
    "logistic_x_ent_cpu",
    "softmax_x_ent_cpu",
    "weighted_sum_cpu",
    "weighted_delta_cpu",
    "softmax",
    "softmax_cpu",
    "upsample_cpu",
    "axpy_cpu",
    "copy_cpu",
    "scal_cpu",
    "fill_cpu",
    "dot_cpu",
    "normalize_cpu",
    "add_bias",
    "backward_bias",
]
ALEXEYAB = [
    "flatten",
    "pm",
    "random_matrix",
    "time_random_matrix",
    "reorg_cpu",
    "test_blas",
    "const_cpu",
    "pow_cpu",
    "mul_cpu",
    "axpy_cpu",
    "copy_cpu",
    "scal_cpu",
    "scal_add_cpu",
    "fill_cpu",
    "dot_cpu",
    "shortcut_cpu",
    "shortcut_multilayer_cpu",
    "backward_shortcut_multilayer_cpu",
    "mean_cpu",
    "variance_cpu",
    "normalize_cpu",
    "add_bias",
    "scale_bias",
    "backward_scale_cpu",
    "mean_delta_cpu",
    "variance_delta_cpu",
    "normalize_delta_cpu",
    "smooth_l1_cpu",
    "l2_cpu",
    "weighted_sum_cpu",
    "softmax",
    "upsample_cpu",
    "softmax_cpu",
    "softmax_x_ent_cpu",
    "constrain_cpu",
    "fix_nan_and_inf_cpu",
    "check_sim",
    "find_sim",
    "find_P_constrastive",
    "P_constrastive_f_det",
    "P_constrastive_f",
    "grad_contrastive_loss_positive_f",
    "grad_contrastive_loss_negative_f",
    "get_embedding",
    "math_vector_length",
    "cosine_similarity",
    "P_constrastive",
    "grad_contrastive_loss_positive",
    "grad_contrastive_loss_negative",
]
#: They print and time.
LEFT_OUT = {"pm", "random_matrix", "time_random_matrix", "test_blas"}


def test_every_function_of_both_headers_is_there() -> None:
    missing = {name for name in (*PJREDDIE, *ALEXEYAB) if not callable(getattr(blas, name, None))}
    assert missing == LEFT_OUT
    assert all(name in (blas.__doc__ or "") for name in LEFT_OUT)


def test_fix_nan_and_inf() -> None:
    x = numbers(np.inf, 5, np.nan, -np.inf, np.nan)
    blas.fix_nan_and_inf_cpu(x, 4)
    np.testing.assert_array_equal(x, numbers(1, 5, 1 / 2, 1 / 3, np.nan))


# -- sums of several layers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("per", [0, 1, 3, 12])
def test_shortcut_of_several_layers(per: int, kind: int) -> None:
    """Against the loop of Darknet, value by value; layers with fewer and with more values than the sum."""
    rng = np.random.default_rng(0)
    batch, outputs, sizes = 2, 12, [12, 5, 20]
    x, layers = rng.standard_normal((batch, outputs)), [rng.standard_normal((batch, k)) for k in sizes]
    weights = rng.standard_normal((4, per)) if per else None
    shares = np.ones((4, 1)) if weights is None else weights
    if weights is not None and kind:
        parts = np.maximum(weights, 0) if kind == 1 else np.exp(weights - weights.max(axis=0))
        shares = parts / (1e-4 + parts.sum(axis=0))
    expected = np.zeros((batch, outputs))
    for b in range(batch):
        for v in range(outputs):
            share = shares[:, v * shares.shape[1] // outputs]
            expected[b, v] = share[0] * x[b, v]
            for n, k in enumerate(sizes):
                expected[b, v] += share[n + 1] * layers[n][b, v] if v < k else 0
    arrays = [a.astype(np.float32) for a in layers]
    out, given = np.empty((batch, outputs), np.float32), None if weights is None else weights.astype(np.float32)
    how = (24, outputs, batch, 3, sizes)
    blas.shortcut_multilayer_cpu(*how, arrays, out, x.astype(np.float32), given, 4 * per, kind)
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-5)


def total(d: np.ndarray, x: np.ndarray, layers: list[np.ndarray], w: np.ndarray, kind: int) -> float:
    """sum(d * shortcut_multilayer) in float64, one weight per channel of 4 values."""
    parts = w if kind == 0 else np.maximum(w, 0) if kind == 1 else np.exp(w - w.max(axis=0))
    shares = np.repeat(parts if kind == 0 else parts / (1e-4 + parts.sum(axis=0)), 4, axis=1)
    padded = [np.pad(a[:, :12], ((0, 0), (0, 12 - a[:, :12].shape[1]))) for a in (x, *layers)]
    return float((d * sum(s * a for s, a in zip(shares, padded, strict=True))).sum())


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_gradient_of_a_shortcut_of_several_layers(kind: int) -> None:
    rng = np.random.default_rng(1)
    x, d, sizes, w = *rng.standard_normal((2, 2, 12)), [7, 15], rng.uniform(0.2, 2, (3, 3))
    layers = [rng.standard_normal((2, k)) for k in sizes]
    f32 = [a.astype(np.float32) for a in (x, d, w)]
    deltas, updates = [np.ones((2, k), np.float32) for k in (12, *sizes)], np.ones((3, 3), np.float32)
    blas.backward_shortcut_multilayer_cpu(
        24, 12, 2, 2, sizes, deltas[1:], deltas[0], f32[1], f32[2], updates, 9, f32[0],
        [a.astype(np.float32) for a in layers], kind,
    )  # fmt: skip
    for array, found in ((x, deltas[0]), (layers[0], deltas[1]), (layers[1], deltas[2]), (w, updates)):
        flat = array.reshape(-1)
        for index in range(flat.size):
            value, sides = flat[index], []
            for step in (1e-6, -1e-6):
                flat[index] = value + step
                sides.append(total(d, x, layers, w, kind))
            flat[index] = value
            assert found.reshape(-1)[index] - 1 == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-4)


def test_gradient_of_a_plain_shortcut_of_several_layers() -> None:
    delta, to, layer = np.arange(6, dtype=np.float32), np.ones(6, np.float32), np.ones((2, 2), np.float32)
    blas.backward_shortcut_multilayer_cpu(6, 3, 2, 1, [2], [layer], to, delta, None, None, 0, None, [], 0)
    assert to.tolist() == [1, 2, 3, 4, 5, 6]
    assert layer.tolist() == [[1, 2], [4, 5]]
    with pytest.raises(ShapeError, match="size must be"):
        blas.shortcut_multilayer_cpu(5, 3, 2, 1, [2], [layer], to, delta, None, 0, 0)
    with pytest.raises(ShapeError, match="multiple of 2 layers"):
        blas.shortcut_multilayer_cpu(6, 3, 2, 1, [2], [layer], to, delta, to, 3, 0)


# -- the contrastive loss ----------------------------------------------------------------------------------------------


def embeddings(detection: bool) -> dict[str, Any]:
    """Samples, and the gradient that the kernel of the whole loss gives for them."""
    rng = np.random.default_rng(2)
    m, d, temperature, most = 7, 4, 0.7, 3
    z = rng.standard_normal((m, d))
    labels = np.array([0, 1, 0, 1, 0, 2, 1], np.int32)
    classes = np.array([0, 0, 0, 1, 0, 0, 0] if detection else [0] * m, np.int32)
    steps, delta, right = np.zeros(m, np.int32), np.empty((m, d)), np.empty(m, np.int32)
    reference = get_backend("reference").contrastive
    reference.loss(z, labels, classes, steps, delta, right, np.empty(0), temperature, most, int(detection), 1)
    f32 = z.astype(np.float32)
    sims = np.array([[blas.cosine_similarity(a, b, d) for b in f32] for a in f32], np.float32)
    unit = z / np.linalg.norm(z, axis=1)[:, None]
    np.testing.assert_allclose(sims, unit @ unit.T, atol=1e-6)
    common = {"labels": labels, "num_of_samples": m, "z": f32, "feature_size": d, "temperature": temperature}
    return {"common": common, "classes": classes, "sims": sims, "delta": delta, "most": most}


def test_contrastive_gradients_by_table() -> None:
    e = embeddings(False)
    common, m = e["common"], e["common"]["num_of_samples"]
    powers = np.exp(e["sims"] / common["temperature"]) * (1 - np.eye(m, dtype=np.float32))  # as the layer fills it
    table = {"cos_sim": e["sims"], "exp_cos_sim": powers}
    p = np.zeros((m, m), np.float32)
    for i, j in np.argwhere(~np.eye(m, dtype=bool)):
        p[i, j] = blas.P_constrastive(i, j, **common, **table)
    for i in range(m):
        delta = np.zeros((common["feature_size"], 3), np.float32)  # three cells; wh = 3
        given = {**common, "cos_sim": e["sims"], "p_constrastive": p, "delta": delta, "wh": 3}
        blas.grad_contrastive_loss_positive(i, **given)
        blas.grad_contrastive_loss_negative(i, **given)
        np.testing.assert_allclose(delta[:, 0], e["delta"][i], atol=2e-5)
        assert not delta[:, 1:].any()
    with pytest.raises(DarkbnError, match="two samples"):
        blas.P_constrastive(2, 2, **common, **table)


def test_contrastive_gradients_by_list() -> None:
    e = embeddings(True)
    common, classes, sims = e["common"], e["classes"], e["sims"]
    m, t = common["num_of_samples"], common["temperature"]
    pairs = [(i, j) for i in range(m) for j in range(m) if i != j and classes[i] == classes[j]]
    listed = np.zeros(len(pairs) + 2, blas.contrastive_params)
    for entry, (i, j) in zip(listed, pairs, strict=False):
        entry["i"], entry["j"], entry["sim"], entry["exp_sim"] = i, j, sims[i, j], np.exp(sims[i, j] / t)
    ends = {"contrast_p": listed, "contrast_p_size": len(pairs)}
    shared = {name: common[name] for name in ("labels", "z", "feature_size", "temperature")}
    for il, (i, j) in enumerate(pairs):
        listed[il]["P"] = blas.P_constrastive_f_det(il, **shared, **ends)
        assert listed[il]["P"] == np.float32(blas.P_constrastive_f(i, j, **shared, **ends))
    for i in range(m):
        delta = np.zeros(common["feature_size"], np.float32)
        given = {"class_ids": classes, **common, "delta": delta, "wh": 1, **ends}
        blas.grad_contrastive_loss_positive_f(i, **given)
        blas.grad_contrastive_loss_negative_f(i, **given, neg_max=e["most"])
        np.testing.assert_allclose(delta, e["delta"][i], atol=2e-5)
    assert blas.check_sim(0, 2, listed, len(pairs)) == 1
    assert blas.check_sim(0, 3, listed, len(pairs)) == 0
    assert blas.find_sim(0, 2, listed, len(pairs)) == sims[0, 2]
    assert blas.find_P_constrastive(0, 2, listed, len(pairs)) == listed[pairs.index((0, 2))]["P"]
    with pytest.raises(DarkbnError, match="no pair of samples 0 and 3 among"):
        blas.find_P_constrastive(0, 3, listed, len(pairs))
    with pytest.raises(DtypeError, match="contrastive_params"):
        blas.check_sim(0, 1, np.zeros(3), 3)


def test_embeddings_and_lengths() -> None:
    src = np.arange(2 * 6 * 2 * 3, dtype=np.float32).reshape(2, 6, 2, 3)
    dst = np.empty(3, np.float32)
    blas.get_embedding(src, 3, 2, 6, 3, 2, 1, 1, 1, dst)
    assert dst.tolist() == src[1, 3:6, 1, 2].tolist()
    with pytest.raises(ShapeError, match="no anchor 2"):
        blas.get_embedding(src, 3, 2, 6, 3, 2, 1, 2, 1, dst)
    assert blas.math_vector_length(numbers(3, 4, 100), 2) == 5
    assert blas.cosine_similarity(numbers(1, 0), numbers(0, 0), 2) == 0


# -- a Darknet program, call by call -----------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["darknet", "alexeyab-cpu"])
def test_a_program_ported_call_by_call(convention: str) -> None:
    """forward_batchnorm_layer and backward_batchnorm_layer as Darknet writes them, against the layer's own."""
    c = get_convention(convention)
    l = make_batchnorm_layer(3, 5, 4, 2, convention=c)
    rng = np.random.default_rng(3)
    x, delta = rng.standard_normal((2, 3, 2, 4, 5)).astype(np.float32)
    l.scales[...], l.biases[...] = [1.5, -0.5], [0.25, 2]
    net = NetworkState(input=x, delta=np.zeros_like(x), train=True)

    sizes = (l.batch, l.out_c, l.out_h * l.out_w)
    mean, variance, rolling_mean, rolling_variance, bias_updates, scale_updates, mean_delta, variance_delta = (
        np.zeros(l.out_c, np.float32) for _ in range(8)
    )
    output, x_norm = np.empty_like(x), np.empty_like(x)
    blas.copy_cpu(l.outputs * l.batch, x, 1, output, 1)
    blas.mean_cpu(output, *sizes, mean)
    blas.variance_cpu(output, mean, *sizes, variance, convention=c)
    for rolling, batch in ((rolling_mean, mean), (rolling_variance, variance)):
        blas.scal_cpu(l.out_c, c.rolling_decay, rolling, 1)
        blas.axpy_cpu(l.out_c, 1 - c.rolling_decay, batch, 1, rolling, 1)
    blas.normalize_cpu(output, mean, variance, *sizes, convention=c)
    blas.copy_cpu(l.outputs * l.batch, output, 1, x_norm, 1)
    blas.scale_bias(output, l.scales, *sizes)
    blas.add_bias(output, l.biases, *sizes)

    forward_batchnorm_layer(l, net)
    for name in ("output", "mean", "variance", "rolling_mean", "rolling_variance", "x_norm"):
        np.testing.assert_allclose(locals()[name], getattr(l, name), rtol=2e-5, atol=2e-6)

    l.delta[...] = delta
    if c.trains_biases:
        blas.backward_bias(bias_updates, delta, *sizes)
    blas.backward_scale_cpu(x_norm, delta, *sizes, scale_updates)
    blas.scale_bias(delta, l.scales, *sizes)
    blas.mean_delta_cpu(delta, variance, *sizes, mean_delta, convention=c)
    blas.variance_delta_cpu(x, delta, mean, variance, *sizes, variance_delta, convention=c)
    blas.normalize_delta_cpu(x, mean, variance, mean_delta, variance_delta, *sizes, delta, convention=c)

    backward_batchnorm_layer(l, net)
    for name in ("delta", "bias_updates", "scale_updates", "mean_delta", "variance_delta"):
        np.testing.assert_allclose(locals()[name], getattr(l, name), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(net.delta, delta, atol=2e-5)

    scales = l.scales.copy()
    update_batchnorm_layer(l, UpdateArgs(learning_rate=0.1, momentum=0.9, decay=0.0005, batch=3))
    blas.axpy_cpu(l.out_c, 0.1 / 3, scale_updates, 1, scales, 1)
    np.testing.assert_allclose(scales, l.scales, rtol=1e-6)
    resize_batchnorm_layer(l, 7, 2)
    assert l.output.shape == (3, 2, 2, 7)
    np.testing.assert_allclose(l.rolling_mean, rolling_mean, rtol=1e-5)
    forward_batchnorm_layer(l, NetworkState(input=rng.standard_normal((3, 2, 2, 7)).astype(np.float32)))
    assert np.isfinite(l.output).all()
