"""NumPy files: all parameters of a network by name, and the values of its layers for an input.

A parameter file has one array per parameter and statistic, `layer_0.weights`, `layer_0.rolling_mean`,
`layer_3.input_layer.biases`, ..., and `darkbn`, a JSON text: dialect, convention of batch normalization, images seen.
A dump has `input` and the output of each layer, `layer_0`, `layer_1`, ...; it can have the parameters, too. There are
no Python objects inside: numpy.load(path) reads them.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.errors import DarkbnError, ShapeError, WeightsError
from darkbn.files import atomic_write
from darkbn.signature import Array

if TYPE_CHECKING:
    from darkbn.network import Network

#: Name of the entry that describes the network.
DESCRIPTION = "darkbn"
#: Name of a dump's input.
INPUT = "input"


def layer_key(index: int) -> str:
    """Name of the output of a layer in a dump."""
    return f"layer_{index}"


def host(array: Any) -> Array:
    """An array in NumPy's memory, wherever it was."""
    return np.asarray(to_host(array))


def named_parameters(net: Network) -> Iterator[tuple[str, Any, str]]:
    """Name in files, layer and attribute of every parameter and statistic, in the order of a .weights file.

    Layers that share parameters with another one have none of their own.
    """
    for index, layer in enumerate(net.layers):
        for prefix, part in layer.walk():
            for name in part.weights_order():
                yield f"{layer_key(index)}.{prefix}{name}", part, name


def parameters(net: Network) -> dict[str, Array]:
    """All parameters and statistics by name; the arrays are the network's own where it lives on the CPU."""
    return {key: host(getattr(part, name)) for key, part, name in named_parameters(net)}


def save_npz(net: Network, path: str | os.PathLike[str]) -> None:
    """Write all parameters and statistics as float32; the file appears whole or not at all."""
    arrays = {key: np.asarray(array, np.float32) for key, array in parameters(net).items()}
    write_arrays(path, {**arrays, DESCRIPTION: np.array(_description(net))})


def load_npz(net: Network, path: str | os.PathLike[str]) -> None:
    """Read the parameters of a file that `save_npz` (or a dump with parameters) wrote.

    Raises:
        WeightsError: the file cannot be read, lacks parameters, or has some that the network does not have.
        ShapeError: one of another shape. Nothing has been changed in both cases.
    """
    arrays = read_arrays(path)
    wanted = {key: (part, name) for key, part, name in named_parameters(net)}
    given = {key for key in arrays if "." in key}
    for problem, keys in (("lacks", wanted.keys() - given), ("has no place for", given - wanted.keys())):
        if keys:
            subject = os.fspath(path) if problem == "lacks" else f"{net.cfg.file}: the network"
            raise WeightsError(f"{subject} {problem} {', '.join(sorted(keys)[:5])}{' ...' if len(keys) > 5 else ''}")
    for key, (part, name) in wanted.items():
        expected = getattr(part, name).shape
        if arrays[key].shape != expected:
            raise ShapeError(f"{os.fspath(path)}: {key}: expected {expected}, found {arrays[key].shape}")
    for key, (part, name) in wanted.items():
        part.backend.assign(getattr(part, name), arrays[key])
    net.seen = int(description(arrays).get("seen", net.seen))
    net.changed()


def activations(net: Network, x: Any) -> dict[str, Array]:
    """Run the network from its first state and copy the output of every layer, by name."""
    net.reset_state()
    net.forward(x)
    found = {layer_key(index): host(layer.output).copy() for index, layer in enumerate(net.layers)}
    net.reset_state()
    return found


def save_dump(net: Network, x: Any, path: str | os.PathLike[str], *, with_parameters: bool = False) -> None:
    """Write an input and the outputs of all layers for it.

    Args:
        net: the network.
        x: as for `Network.forward`.
        path: the file; it appears whole or not at all.
        with_parameters: write the parameters, too.
    """
    arrays = {INPUT: np.asarray(x, np.float32), **activations(net, x), DESCRIPTION: np.array(_description(net))}
    write_arrays(path, {**arrays, **(parameters(net) if with_parameters else {})})


def _description(net: Network) -> str:
    known = {"dialect": net.dialect, "batchnorm": net.convention.name, "seen": net.seen}
    return json.dumps({**known, "types": [layer.type for layer in net.layers]})


def description(arrays: dict[str, Array]) -> dict[str, Any]:
    """What the entry `darkbn` of a file says; empty when there is none."""
    try:
        said = json.loads(str(arrays[DESCRIPTION]))
    except (KeyError, json.JSONDecodeError):
        return {}
    return said if isinstance(said, dict) else {}


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, Array]) -> None:
    """Write an .npz file atomically. Raises DarkbnError when it cannot be written."""
    try:
        with atomic_write(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise DarkbnError(f"{os.fspath(path)}: cannot write the file: {error.strerror or error}") from error


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """All arrays of an .npz file. Raises WeightsError when it cannot be read; Python objects inside are refused."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except OSError as error:
        raise WeightsError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise WeightsError(f"{os.fspath(path)}: no .npz file of plain arrays: {error}") from error
