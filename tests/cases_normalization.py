"""Rows of the family `normalization`."""

from cases import KernelCase

SHAPES = [
    {"b": 1, "c": 1, "s": 1},
    {"b": 2, "c": 3, "s": 7},
    {"b": 1, "c": 5, "s": 63},
    {"b": 3, "c": 9, "s": 64},
    {"b": 2, "c": 17, "s": 65},
    {"b": 1, "c": 96, "s": 301},
    {"b": 2, "c": 3, "s": 0},
]

# Quarters as beta are computed by roots, others by pow. The sums stay positive.
OPTIONS = [
    {"size": 5, "alpha": 1e-4, "beta": 0.75, "kappa": 1.0},
    {"size": 3, "alpha": 0.02, "beta": 0.5, "kappa": 2.0},
    {"size": 4, "alpha": 0.03, "beta": 1.0, "kappa": 1.5},
    {"size": 1, "alpha": 0.01, "beta": 1.25, "kappa": 1.0},
    {"size": 2, "alpha": 0.01, "beta": 2.0, "kappa": 1.0},
    {"size": 7, "alpha": 0.01, "beta": 0.6, "kappa": 1.0},
    {"size": 40, "alpha": 0.001, "beta": 0.25, "kappa": 3.0},
]


def positive(rng, shape):
    return rng.uniform(0.5, 2, shape)


def some_zero(rng, shape):
    values = rng.standard_normal(shape)
    values[:, :, ::3] = 0
    return values


def lrn_rows(sizes, options):
    yield KernelCase("normalization.lrn", sizes, options)
    yield KernelCase("normalization.lrn", sizes, options, none=frozenset({"norms"}))
    without_kappa = {name: value for name, value in options.items() if name != "kappa"}
    yield KernelCase("normalization.lrn_backward", sizes, without_kappa, fill={"norms": positive})


KERNEL_CASES = [
    *(row for sizes in SHAPES for row in lrn_rows(sizes, OPTIONS[0])),
    *(row for options in OPTIONS[1:] for row in lrn_rows(SHAPES[4], options)),
    *(
        KernelCase(f"normalization.{kernel}", sizes, tolerance=tolerance, reason=reason, fill=fill)
        for kernel, tolerance, reason in (
            ("l2norm", 1e-6, ""),
            ("l2norm_backward", 1e-5, "what lies along the vector cancels: of a single channel everything"),
        )
        for sizes in SHAPES
        for fill in ({}, {"x": some_zero})
    ),
]
