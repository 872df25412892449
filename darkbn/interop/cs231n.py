"""Batch normalization with the interface of the course CS231n (assignment 2, cs231n/layers.py).

    out, cache = batchnorm_forward(x, gamma, beta, {"mode": "train"})
    dx, dgamma, dbeta = batchnorm_backward(dout, cache)

Arrays are float32 or float64; results have the type of x. They are computed in float32 on device "cpu" and in float64
on "reference" (see `darkbn.interop.batchnorm`). Unlike the course's code, NaN, infinity and a batch of one are errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from darkbn.conventions import get_convention
from darkbn.cpu import thread_count
from darkbn.errors import DarkbnError, UnsupportedError
from darkbn.interop.batchnorm import Layout, Statistics, backward_train, forward, forward_train
from darkbn.signature import Array

_CONVENTION = get_convention("cs231n")


@dataclass(frozen=True)
class Cache:
    """What the backward passes need. It refers to x where that needed no conversion: x must stay as it is."""

    at: Layout
    x: Array
    gamma: Array
    statistics: Statistics


def batchnorm_forward(
    x: Any, gamma: Any, beta: Any, bn_param: MutableMapping[str, Any], *, device: str = "cpu"
) -> tuple[Array, Cache | None]:
    """Normalize each column.

    Args:
        x: (N, D).
        gamma, beta: (D,), scale and shift.
        bn_param: "mode": "train" or "test" (required); "eps": default 1e-5; "momentum": the share of the running
            averages that a training pass keeps, default 0.9; "running_mean", "running_var": (D,), default 0. The two
            are stored here anew; arrays given are not changed.
        device: "cpu" or "reference".

    Returns:
        out (N, D), and the cache of the backward passes, None in mode "test".
    """
    at = Layout.of("batchnorm_forward", "x", x, 1, "(N, D)", device)
    values, scales, biases = at.take("x", x), at.channel("gamma", gamma), at.channel("beta", beta)
    rolling = (
        at.channel("running_mean", bn_param.get("running_mean")),
        at.channel("running_var", bn_param.get("running_var"), minimum=0),
    )
    epsilon, mode = bn_param.get("eps", _CONVENTION.epsilon), bn_param.get("mode")
    if mode == "train":
        momentum = bn_param.get("momentum", _CONVENTION.rolling_decay)
        convention = dataclasses.replace(_CONVENTION, name="", epsilon=epsilon, rolling_decay=momentum)
        out, statistics = forward_train(at, values, scales, biases, convention, rolling)
        cache = Cache(at, values, scales, statistics)
    elif mode == "test":
        out, cache = forward(at, values, scales, biases, Statistics(*rolling, epsilon)), None
    else:
        raise UnsupportedError(f'batchnorm_forward: bn_param["mode"] must be "train" or "test", found {mode!r}')
    bn_param["running_mean"], bn_param["running_var"] = map(at.give_channel, rolling)
    return at.give(out), cache


def batchnorm_backward(dout: Any, cache: Cache | None) -> tuple[Array, Array, Array]:
    """The gradient, step by step through the graph of the forward pass: variance, mean, input.

    Args:
        dout: (N, D), gradient with respect to out.
        cache: from `batchnorm_forward` in mode "train".

    Returns:
        dx (N, D), dgamma (D,), dbeta (D,).
    """
    cache, at = _train_cache("batchnorm_backward", cache)
    kernels, threads, s, x = at.backend, thread_count(None), cache.statistics, cache.x
    delta, x_norm, place = at.take("dout", dout, copy=True), at.empty(), (s.epsilon, 0)
    dgamma, dbeta, mean_delta, variance_delta = (at.zeros() for _ in range(4))
    kernels.batchnorm.normalize(x, x_norm, s.mean, s.variance, *place, threads)
    kernels.batchnorm.backward_scale(x_norm, delta, dgamma, threads)
    kernels.bias.backward_bias(dbeta, delta, threads)
    kernels.bias.scale_bias(delta, cache.gamma, threads)
    kernels.batchnorm.variance_delta(x, delta, s.mean, s.variance, variance_delta, *place, threads)
    kernels.batchnorm.mean_delta(delta, s.variance, mean_delta, *place, threads)
    kernels.batchnorm.normalize_delta(
        x, s.mean, s.variance, mean_delta, variance_delta, delta, *place, _CONVENTION.ddof, threads
    )
    return at.give(delta), at.give_channel(dgamma), at.give_channel(dbeta)


def batchnorm_backward_alt(dout: Any, cache: Cache | None) -> tuple[Array, Array, Array]:
    """The same in closed form, in one kernel: dx = gamma/(N*root) * (N*dout - sum(dout) - x_norm*sum(dout*x_norm))."""
    cache, at = _train_cache("batchnorm_backward_alt", cache)
    delta = at.take("dout", dout, copy=True)
    dgamma, dbeta = backward_train(at, cache.x, delta, cache.gamma, cache.statistics)
    return at.give(delta), at.give_channel(dgamma), at.give_channel(dbeta)


def _train_cache(who: str, cache: Cache | None) -> tuple[Cache, Layout]:
    if cache is None:
        raise DarkbnError(f'{who}: there is no cache: the forward pass was made in mode "test"')
    return cache, dataclasses.replace(cache.at, who=who)
