"""Stopping and going on: everything that training keeps, in one file beside the .weights.

The file is an .npz of plain arrays (no pickle): `<layer>.<array>` for parameters, rolling statistics, updates (which
hold the momentum), the means of Adam, moving averages and recurrent state, in the float type of the device; and
`state`, JSON with the counters and the random generator. Training that stops and goes on from it is the same, bit for
bit, as training that never stopped.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.errors import TrainingError, WeightsError
from darkbn.files import atomic_write
from darkbn.layers.base import Role

if TYPE_CHECKING:
    from darkbn.network import Network

#: Written into every file; files with another number are refused.
FORMAT = 1

#: Roles of the arrays that a step reads before it writes them.
_ROLES = frozenset(Role) - {Role.ACTIVATION, Role.SCRATCH}


def save_training_state(net: Network, path: str | os.PathLike[str]) -> None:
    """Write all that training needs to go on; the file appears whole or not at all.

    Raises:
        TrainingError: the network is not training.
    """
    _require_training(net)
    arrays: dict[str, Any] = {name: to_host(array) for name, array in _arrays(net)}
    state = {
        "format": FORMAT,
        "dialect": net.dialect,
        "batch": net.batch,
        "subdivisions": net.subdivisions,
        "seen": net.seen,
        "steps": net.steps,
        "averaged": net.averaged,
        "random": net._state.rng.bit_generator.state,
        "rejection": _rejection(net),
    }
    with atomic_write(path) as file:
        np.savez(file, state=np.array(json.dumps(state)), **arrays)


def load_training_state(net: Network, path: str | os.PathLike[str]) -> None:
    """Go on from a file that `save_training_state` wrote for the same description, batch and device.

    Raises:
        TrainingError: the network is not training.
        WeightsError: no such file, or one of another network, naming the first array that does not fit. Nothing has
            been changed then.
    """
    _require_training(net)
    arrays, state = _read(path)
    wanted = dict(_arrays(net))
    for name in [*wanted, *arrays]:
        if name not in arrays or name not in wanted:
            where = "the network has" if name in wanted else "the file has"
            other = "the file has not" if name in wanted else "the network has not"
            raise WeightsError(f"{path}: {where} {name}, {other}: is it the right cfg, with the same optimizer?")
        found, expected = arrays[name], wanted[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise WeightsError(
                f"{path}: {name} is {found.dtype.name} {found.shape}, the network needs {expected.dtype.name}"
                f" {expected.shape}: is it the right cfg, batch and device?"
            )
    for name in ("dialect", "batch", "subdivisions"):
        if state[name] != getattr(net, name):
            raise WeightsError(f"{path}: written with {name} {state[name]}, the network has {getattr(net, name)}")
    if state["rejection"].keys() != _rejection(net).keys():
        raise WeightsError(f"{path}: only one of file and network rejects labels: is it the right cfg?")
    net._state.rng.bit_generator.state = state["random"]
    net.seen, net.steps, net.averaged = state["seen"], state["steps"], state["averaged"]
    for name, value in state["rejection"].items():
        setattr(net._state.rejection, name, value)
    for name, array in arrays.items():
        net.backend.assign(wanted[name], array)
    net.changed()


def _require_training(net: Network) -> None:
    if not net.training:
        raise TrainingError(f"{net.cfg.file}: no training state: the network was not loaded with train=True")


def _rejection(net: Network) -> dict[str, float]:
    return net._state.rejection.state if net._state.rejection else {}


def _arrays(net: Network) -> Iterator[tuple[str, Any]]:
    for index, layer in enumerate(net.layers):
        for prefix, part in layer.walk():
            for buffer in part.all_buffers():
                if buffer.role in _ROLES:
                    yield f"{index}.{prefix}{buffer.name}", getattr(part, buffer.name)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Arrays and state of a file."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = json.loads(str(arrays.pop("state")))
        version = state["format"]
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: no training state, or a damaged one: {error}") from error
    if version != FORMAT:
        raise WeightsError(f"{path}: a training state of format {version}, this darkbn reads format {FORMAT}")
    return arrays, state
