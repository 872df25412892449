"""Sums of several layers with weights: AlexeyAB's shortcut_multilayer_cpu and its backward pass."""

from __future__ import annotations

from collections.abc import Sequence

from darkbn.blas._views import kernels, readable, view, writable
from darkbn.cpu import thread_count
from darkbn.errors import ShapeError
from darkbn.signature import Array


def shortcut_multilayer_cpu(
    size: int,
    src_outputs: int,
    batch: int,
    n: int,
    outputs_of_layers: Sequence[int],
    layers_output: Sequence[Array],
    out: Array,
    in_: Array,
    weights: Array | None,
    nweights: int,
    weights_normalization: int,
) -> None:
    """out = in_ + the outputs of n layers, each sample as far as it has values; with weights the weighted sum.

    Args:
        size, src_outputs, batch: values of out, of a sample of it, samples; size = batch * src_outputs.
        n, outputs_of_layers, layers_output: layers, values of a sample of each, their outputs.
        in_: Darknet's `in`.
        weights, nweights: None and 0; or n + 1 rows (the first of in_) of 1 weight, of one per channel, or per value.
        weights_normalization: 0 none, 1 relu, 2 softmax (`darkbn.reference.weighted.normalize`).
    """
    _check_sizes(size, src_outputs, batch, n, outputs_of_layers, layers_output)
    with writable("out", out, (batch, src_outputs)) as to:
        first = readable("in", in_, (batch, src_outputs))
        if weights is None:
            to[...] = first
            for add, outputs in zip(layers_output, outputs_of_layers, strict=True):
                common = min(outputs, src_outputs)
                to[:, :common] += view("layers_output", add, (batch, outputs))[:, :common]
            return
        shares = _normalized(weights, nweights, n, weights_normalization)
        block = _block(batch, src_outputs, shares)
        kernels().weighted.scale(first.reshape(block), shares[0], to.reshape(block), thread_count(None))
        for add, outputs, share in zip(layers_output, outputs_of_layers, shares[1:], strict=True):
            x = _padded(add, batch, outputs, src_outputs).reshape(block)
            kernels().weighted.scale_add(x, share, to.reshape(block), thread_count(None))


def backward_shortcut_multilayer_cpu(
    size: int,
    src_outputs: int,
    batch: int,
    n: int,
    outputs_of_layers: Sequence[int],
    layers_delta: Sequence[Array],
    delta_out: Array,
    delta_in: Array,
    weights: Array | None,
    weight_updates: Array | None,
    nweights: int,
    in_: Array | None,
    layers_output: Sequence[Array],
    weights_normalization: int,
) -> None:
    """delta_out and layers_delta += delta_in times their weights; weight_updates += the gradient of the weights.

    Args:
        delta_in: gradient with respect to `out` of `shortcut_multilayer_cpu`.
        delta_out, layers_delta: gradients with respect to in_ and to the layers' outputs.
        weight_updates: like weights; None without.
        The others: as there; in_ and layers_output are read only with weights.
    """
    _check_sizes(size, src_outputs, batch, n, outputs_of_layers, layers_delta)
    threads, delta = thread_count(None), readable("delta_in", delta_in, (batch, src_outputs))
    targets = [("delta_out", delta_out, src_outputs)]
    targets += [("layers_delta", d, k) for d, k in zip(layers_delta, outputs_of_layers, strict=True)]
    if weights is None:
        for name, array, outputs in targets:
            _add(name, array, delta, batch, outputs)
        return
    if weight_updates is None or in_ is None or len(layers_output) != n:
        raise ShapeError(f"with weights, weight_updates, in and {n} outputs are needed")
    shares = _normalized(weights, nweights, n, weights_normalization)
    block, gradient, part = (
        _block(batch, src_outputs, shares),
        kernels().zeros(shares.shape),
        kernels().empty(delta.shape),
    )
    inputs = [(in_, src_outputs), *zip(layers_output, outputs_of_layers, strict=True)]
    for row, ((name, array, outputs), (x, own)) in enumerate(zip(targets, inputs, strict=True)):
        kernels().weighted.scale(delta.reshape(block), shares[row], part.reshape(block), threads)
        _add(name, array, part, batch, outputs)
        values = _padded(x, batch, own, src_outputs).reshape(block)
        kernels().weighted.dot_add(values, delta.reshape(block), gradient[row], threads)
    with writable("weight_updates", weight_updates, shares.shape) as updates:
        raw = readable("weights", weights, shares.shape)
        kernels().weighted.normalize_backward(raw, gradient, updates, weights_normalization, threads)


def _check_sizes(
    size: int, src_outputs: int, batch: int, n: int, outputs: Sequence[int], arrays: Sequence[Array]
) -> None:
    if size != batch * src_outputs:
        raise ShapeError(f"size must be batch * src_outputs = {batch * src_outputs}, found {size}")
    if len(outputs) != n or len(arrays) != n:
        raise ShapeError(f"{n} layers need as many sizes and arrays, found {len(outputs)} and {len(arrays)}")


def _normalized(weights: Array, nweights: int, n: int, kind: int) -> Array:
    """The weights, (n + 1, weights of a layer), normalized."""
    if nweights < 1 or nweights % (n + 1):
        raise ShapeError(f"nweights must be a multiple of {n + 1} layers, found {nweights}")
    raw = readable("weights", weights, (n + 1, nweights // (n + 1)))
    shares: Array = kernels().empty(raw.shape)
    kernels().weighted.normalize(raw, shares, kind, thread_count(None))
    return shares


def _block(batch: int, src_outputs: int, shares: Array) -> tuple[int, int, int]:
    """(batch, weights of a layer, values that share a weight)."""
    if src_outputs % shares.shape[1]:
        raise ShapeError(f"{shares.shape[1]} weights of a layer cannot be divided among {src_outputs} values")
    return batch, shares.shape[1], src_outputs // shares.shape[1]


def _padded(array: Array, batch: int, outputs: int, src_outputs: int) -> Array:
    """A layer's values with src_outputs per sample: what it lacks is 0, what it has more is left out."""
    values = view("layers_output", array, (batch, outputs))
    padded: Array = kernels().zeros((batch, src_outputs))
    padded[:, :outputs] = values[:, :src_outputs]
    return padded


def _add(name: str, array: Array, values: Array, batch: int, outputs: int) -> None:
    with writable(name, array, (batch, outputs)) as to:
        common = min(outputs, values.shape[1])
        to[:, :common] += values[:, :common]
