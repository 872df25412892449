"""Networks on other devices: moving them, and errors that say which layer a device failed in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from darkbn.backend import get_backend
from darkbn.backend import to_host as to_host
from darkbn.build import build_layers
from darkbn.errors import DeviceError

if TYPE_CHECKING:
    from darkbn.backend import Backend
    from darkbn.layers.base import Layer
    from darkbn.network import Network


def move(net: Network, device: str | Backend, precision: str | None = None) -> None:
    """Move a network with all its arrays to another device.

    Its layers are made anew there, since what they compute with belongs to a device; nothing changes when that fails.

    Raises:
        DeviceError: there is no such device, or no room on it.
    """
    backend = get_backend(device, precision)
    if backend is net.backend:
        return
    options = replace(net.options, width=net.width, height=net.height, inputs=net.inputs)
    layers = build_layers(
        net.cfg,
        options,
        backend=backend,
        dialect=net.dialect,
        convention=net.convention,
        batch=net.options.batch,
        warnings=[],
    )
    for index, (old, new) in enumerate(zip(net.layers, layers, strict=True)):
        with layer_errors(index, new):
            new.allocate(net.training)
            for (_, source), (_, target) in zip(old.walk(), new.walk(), strict=True):
                _copy_arrays(source, target, backend)
    net.take_layers(layers, backend)


def _copy_arrays(source: Layer, target: Layer, backend: Backend) -> None:
    target.cost = source.cost
    for name, value in vars(source).items():
        if not isinstance(value, (np.ndarray, source.backend.xp.ndarray)):
            continue
        values, there = to_host(value), vars(target).get(name)
        dtype = backend.dtype if values.dtype.kind == "f" else values.dtype.name
        if there is not None and there.shape == values.shape:
            backend.assign(there, values)
        else:
            setattr(target, name, backend.array(values, dtype))


@contextlib.contextmanager
def layer_errors(index: int, layer: Layer) -> Iterator[None]:
    """Errors of a device in here name the layer."""
    try:
        yield
    except DeviceError as error:
        raise DeviceError(f"layer {index} [{layer.type}]: {error}") from error
