"""Darknet's blas functions on the reference cases of kind `blas`: one function per group of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from darkbn import blas
from darkbn.activations import CODES, needs_input
from darkbn.backend import get_backend

CONVENTION = {"pjreddie": "darknet", "alexeyab": "alexeyab-cpu"}

Case = dict[str, Any]


def entries(case: Case, name: str) -> Iterator[Case]:
    """The arguments of `name.0`, `name.1`, ... without that prefix."""
    number = 0
    while True:
        prefix = f"{name}.{number}." if name else f"{number}."
        found = {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}
        if not found:
            return
        yield found
        number += 1


def close(found: Any, expected: Any, tolerance: float = 2e-6) -> None:
    found, expected = np.asarray(found, np.float64).reshape(-1), np.asarray(expected, np.float64).reshape(-1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(initial=0), 1e-30))


def copies(case: Case, *names: str) -> list[np.ndarray]:
    return [case[name].copy() for name in names]


def check_vectors(case: Case) -> None:
    binary: dict[str, Callable[[Case, np.ndarray, np.ndarray], Any]] = {
        "axpy": lambda e, x, y: blas.axpy_cpu(e["n"], e["alpha"], x, e["incx"], y, e["incy"]),
        "mul": lambda e, x, y: blas.mul_cpu(e["n"], x, e["incx"], y, e["incy"]),
        "copy": lambda e, x, y: blas.copy_cpu(e["n"], x, e["incx"], y, e["incy"]),
        "pow": lambda e, x, y: blas.pow_cpu(e["n"], e["alpha"], x, e["incx"], y, e["incy"]),
    }
    unary: dict[str, Callable[[Case, np.ndarray], Any]] = {
        "scal": lambda e, x: blas.scal_cpu(e["n"], e["alpha"], x, e["incx"]),
        "fill": lambda e, x: blas.fill_cpu(e["n"], e["alpha"], x, e["incx"]),
        "scal_add": lambda e, x: blas.scal_add_cpu(e["n"], e["alpha"], e["beta"], x, e["incx"]),
        "constrain": lambda e, x: blas.constrain_cpu(e["n"], e["alpha"], x),
    }
    done = set()
    for name, function in binary.items():
        for e in entries(case, name):
            x, y = copies(e, "x", "y")
            function(e, x, y)
            close(y, e["out"])
            assert np.array_equal(x, e["x"])
            done.add(name)
    for name, in_place in unary.items():
        for e in entries(case, name):
            (x,) = copies(e, "x")
            in_place(e, x)
            close(x, e["out"])
            done.add(name)
    for e in entries(case, "dot"):
        close(blas.dot_cpu(e["n"], e["x"], e["incx"], e["y"], e["incy"]), e["out"])
    assert done >= {"axpy", "mul", "copy", "pow", "scal", "fill"}


def check_weighted_sums_and_layouts(case: Case) -> None:
    for e in entries(case, "mult_add_into"):
        (z,) = copies(e, "z")
        blas.mult_add_into_cpu(z.size, e["x"], e["y"], z)
        close(z, e["out"])
    for e in entries(case, "weighted_sum"):
        out = np.empty_like(e["a"])
        blas.weighted_sum_cpu(e["a"], e.get("b"), e["s"], out.size, out)
        close(out, e["out"])
    for e in entries(case, "weighted_delta"):
        da, db, ds = copies(e, "da", "db", "ds")
        blas.weighted_delta_cpu(e["a"], e["b"], e["s"], da, db, ds, ds.size, e["dc"])
        close(da, e["out_da"])
        close(db, e["out_db"])
        close(ds, e["out_ds"])
    for e in entries(case, "inter"):
        (rows, nx), ny = e["x"].shape, e["y"].shape[1]
        out = np.empty((rows, nx + ny), np.float32)
        blas.inter_cpu(nx, e["x"], ny, e["y"], rows, out)
        assert np.array_equal(out, e["out"])
    for e in entries(case, "deinter"):
        x, y = copies(e, "x", "y")
        blas.deinter_cpu(x.shape[1], x, y.shape[1], y, len(x), e["in"])
        close(x, e["out_x"])
        close(y, e["out_y"])
    for e in entries(case, "flatten"):
        for forward in (1, 0):
            (x,) = copies(e, "x")
            blas.flatten(x, e["size"], e["layers"], e["batch"], forward)
            assert np.array_equal(x, e["out_forward" if forward else "out_backward"])


def check_statistics(case: Case) -> None:
    convention = CONVENTION[case["oracle"]]
    for e in entries(case, ""):
        x, (batch, filters, spatial) = e["x"], e["x"].shape
        sizes = (batch, filters, spatial)
        mean, variance = np.empty((2, filters), np.float32)
        blas.mean_cpu(x, *sizes, mean)
        close(mean, e["mean"])
        blas.variance_cpu(x, e["mean"], *sizes, variance)
        close(variance, e["variance"])
        for prefix in ("", "small."):
            out = x.copy()
            blas.normalize_cpu(out, e[prefix + "mean"], e[prefix + "variance"], *sizes, convention=convention)
            close(out, e[prefix + "normalized"])
        out = e["x"].copy()
        blas.scale_bias(out, e["scales"], *sizes)
        close(out, e["scaled"])
        out = e["x"].copy()
        blas.add_bias(out, e["biases"], *sizes)
        close(out, e["biased"])
        if "l2.out" in e:
            out, dx = x.copy(), np.empty_like(x)
            blas.l2normalize_cpu(out, dx, *sizes)
            close(out, e["l2.out"])
            close(dx, e["l2.dx"])


def check_gradients_of_batch_normalization(case: Case) -> None:
    convention = CONVENTION[case["oracle"]]
    for e in entries(case, ""):
        x, delta, sizes = e["x"], e["delta"], e["x"].shape
        mean, variance = e["mean"], e["variance"]
        updates = e["bias_updates.in"].copy()
        blas.backward_bias(updates, delta, *sizes)
        close(updates, e["bias_updates.out"])
        updates = e["scale_updates.in"].copy()
        blas.backward_scale_cpu(e["normalized"], delta, *sizes, updates)
        close(updates, e["scale_updates.out"])
        mean_delta, variance_delta = np.empty((2, sizes[1]), np.float32)
        blas.mean_delta_cpu(delta, variance, *sizes, mean_delta, convention=convention)
        close(mean_delta, e["mean_delta"])
        blas.variance_delta_cpu(x, delta, mean, variance, *sizes, variance_delta, convention=convention)
        close(variance_delta, e["variance_delta"])
        out = delta.copy()
        blas.normalize_delta_cpu(
            x, mean, variance, e["mean_delta"], e["variance_delta"], *sizes, out, convention=convention
        )
        close(out, e["normalize_delta"])


def check_losses(case: Case) -> None:
    for name in ("l1", "l2", "smooth_l1", "softmax_x_ent", "logistic_x_ent"):
        pred, truth = case[f"{name}.pred"], case[f"{name}.truth"]
        delta, error = np.empty_like(pred), np.empty_like(pred)
        getattr(blas, f"{name}_cpu")(pred.size, pred, truth, delta, error)
        close(error, case[f"{name}.error"])
        expected = case[f"{name}.delta"]
        if name == "smooth_l1" and case["oracle"] == "pjreddie":  # departure: pj-smooth-l1-sign
            outside = np.abs(truth - pred) >= 1
            assert outside.any()
            expected = np.where(outside, -expected, expected)
        close(delta, expected)


def check_softmax(case: Case) -> None:
    for e in entries(case, "one"):
        out = np.full_like(e["out"], 7)
        blas.softmax(e["x"], e["n"], e["temp"], e["stride"], out)
        touched = np.arange(0, e["n"] * e["stride"], e["stride"])
        close(out[touched], e["out"][touched])
        assert (np.delete(out, touched) == 7).all()
    for e in entries(case, "many"):
        out = np.empty_like(e["out"])
        places = [e[name] for name in ("n", "batch", "batch_offset", "groups", "group_offset", "stride", "temp")]
        blas.softmax_cpu(e["x"], *places, out)
        close(out, e["out"])


def check_activations(case: Case) -> None:
    x = case["x"]
    for name in case["names"].tolist():
        out = x.copy()
        blas.activate_array(out, out.size, name)
        faulty = case["oracle"] == "alexeyab" and name in ("relu6", "swish", "mish", "hard_mish")
        if faulty:  # departures: ab-relu6-forward-is-zero, ab-activation-only-in-conv
            assert not case[f"activate_array.{name}"].any()
            expected = np.clip(x, 0, 6) if name == "relu6" else case[f"{name}.output"]
        else:
            expected = case[f"activate_array.{name}"]
        close(out, expected)
        check_gradient(case, name, x)


def check_gradient(case: Case, name: str, x: np.ndarray) -> None:
    """Gradients at the values of x, as Darknet takes them: of outputs for most, of inputs for some."""
    found = np.ones_like(x)
    blas.gradient_array(x, x.size, name, found)
    separate = f"{name}.gradient"
    close(found, case[separate] if separate in case else case[f"gradient.{name}"], 5e-6)


def check_activations_of_channels(case: Case) -> None:
    if case["oracle"] == "pjreddie":
        assert not any(name.startswith("norm_chan") for name in case)
        return
    kernels, x = get_backend("cpu").activation, case["norm_chan.x"]
    for name, kind in (
        ("norm_chan", "normalize_channels"),
        ("norm_chan_softmax0", "normalize_channels_softmax"),
        ("norm_chan_softmax1", "normalize_channels_softmax_maxval"),
    ):
        out, delta = np.empty_like(x), case["norm_chan.delta"].copy()
        kernels.forward_channels(x, out, CODES[kind], 1)
        close(out, case[f"{name}.output"])
        kernels.gradient_channels(x if needs_input(CODES[kind]) else out, delta, CODES[kind], 1)
        # departure: ab-norm-chan-gradient
        assert np.abs(delta - case[f"{name}.gradient"]).max() > 0.1 * np.abs(delta).max()


def check_space(case: Case) -> None:
    for e in entries(case, "shortcut"):
        add, out = e["add"], e["in"].copy()
        b, c1, h1, w1 = add.shape
        _, c2, h2, w2 = out.shape
        blas.shortcut_cpu(b, w1, h1, c1, add, w2, h2, c2, e.get("s1", 1), e.get("s2", 1), out)
        close(out, e["out"])
    for e in entries(case, "upsample"):
        (b, c, h, w), out = e["x"].shape, np.empty_like(e["out"])
        blas.upsample_cpu(e["x"], w, h, c, b, e["stride"], 1, e["scale"], out)
        close(out, e["out"])
        delta = e["in_delta_before"].copy()
        blas.upsample_cpu(delta, w, h, c, b, e["stride"], 0, e["scale"], e["out_delta"])
        close(delta, e["in_delta_after"])
    for e in entries(case, "reorg"):
        for forward in (1, 0):
            out = np.empty_like(e["x"])
            blas.reorg_cpu(e["x"], e["w"], e["h"], e["c"], e["batch"], e["stride"], forward, out)
            assert np.array_equal(out, e[f"out_forward{forward}"].reshape(out.shape))


def check_columns(case: Case) -> None:
    for e in entries(case, "im2col"):
        (c, h, w), out, im = e["x"].shape, np.empty_like(e["out"]), e["im_before"].copy()
        shape = (c, h, w, e["ksize"], e["stride"], e["pad"])
        blas.im2col_cpu(e["x"], *shape, out)
        assert np.array_equal(out, e["out"])
        blas.col2im_cpu(e["col"], *shape, im)
        close(im, e["im_after"])
    for e in entries(case, "im2col_ext"):
        (c, h, w), out, im = e["x"].shape, np.empty_like(e["out"]), e["im_before"].copy()
        pairs = [int(n) for name in ("kernel", "pad", "stride", "dilation") for n in e[name]]
        blas.im2col_cpu_ext(e["x"], c, h, w, *pairs, out)
        assert np.array_equal(out, e["out"])
        blas.col2im_cpu_ext(e["col"], c, h, w, *pairs, im)
        close(im, e["im_after"])


def check_gemm(case: Case) -> None:
    for e in entries(case, ""):
        c = e["c_in"].copy()
        m, n = c.shape
        k = e["a"].shape[0 if e["ta"] else 1]
        a, b = (e["a"], e["a"].shape[1]), (e["b"], e["b"].shape[1])
        blas.gemm(e["ta"], e["tb"], m, n, k, e["alpha"], *a, *b, e["beta"], c, n)
        close(c, e["c_out"])


def check_binarize(case: Case) -> None:
    n, size = case["weights.x"].shape
    out = np.empty((n, size), np.float32)
    blas.binarize_weights(case["weights.x"], n, size, out)
    close(out, case["weights.out"])
    blas.binarize_cpu(case["cpu.x"], out.size, out)
    close(out, case["cpu.out"])
    blas.binarize_input(case["input.x"], n, size, out)
    close(out, case["input.out"])


#: By the first word of a case's name.
CHECKS: dict[str, tuple[Callable[[Case], None], ...]] = {
    "vector": (
        check_vectors,
        check_weighted_sums_and_layouts,
    ),
    "statistics": (
        check_statistics,
        check_gradients_of_batch_normalization,
    ),
    "loss": (check_losses,),
    "softmax": (check_softmax,),
    "activations": (
        check_activations,
        check_activations_of_channels,
    ),
    "spatial": (
        check_space,
        check_columns,
    ),
    "gemm": (check_gemm,),
    "binarize": (check_binarize,),
}
