"""Reading and comparing the reference cases: inputs and outputs of the real Darknets (see DARKBN_REFERENCE).

A case is a file `<kind>__<name>__<oracle>.npz`. What darkbn computes is compared key by key with what the case holds.
Tables say where the two may differ: those in quirks.py (Darknet's own faults) and NOT_YET (what is not built).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quirks import MORE_QUIRKS, POSSIBLE_QUIRKS, QUIRKS, Quirk

from darkbn import errors
from darkbn.network import Network, load

ROOT = Path(__file__).parents[1]

#: Results of a case, by their key in the file.
Results = Iterable[tuple[str, Any]]

# Tolerances, relative to the largest magnitude of an array.
OUTPUT = 1e-5
GRADIENT = 1e-4
WHOLE_NETWORK = 1e-4
JPEG = 3.01 / 255  # decoders differ

DIALECTS = {"pjreddie": "darknet", "alexeyab": "alexeyab"}
CONVENTIONS = {"pjreddie": "darknet", "alexeyab": "alexeyab-cpu"}  # the cases come from the CPU code

#: Cases that rounding moves further: pattern of the name -> tolerance and reason.
TOLERANCES = {
    "net__yolov4-csp-x-swish.*": (1.3e-4, "a float64 computation differs from Darknet by .8e-4; with ours 1.05e-4"),
    "net__efficientnet-lite3.*": (
        0.2,
        "the weights were scaled to activations that are all zero in Darknet, so with relu6 rounding grows tenfold in"
        " twenty layers; float32 and float64 agree to 1e-5 up to layer 20 and to .1 at the end",
    ),
}

#: What is not built: pattern of what the cfg says (blanks removed, lower case) -> reason.
NOT_YET: dict[str, str] = {}

#: Kinds of cases whose module is not built -> reason.
NOT_YET_KINDS: dict[str, str] = {}


def folder() -> Path:
    """Where the reference cases lie."""
    named = os.environ.get("DARKBN_REFERENCE")
    return Path(named) if named else ROOT.parent / "shared" / "reference"


@functools.cache
def helper() -> Any:
    """The module beside the cases that regenerates weights."""
    spec = importlib.util.spec_from_file_location("darkbn_reference_helper", folder() / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def disagreement() -> dict[str, dict[str, Any]]:
    """[largest difference, largest value] of arrays that differ between two builds of Darknet, by file and key."""
    path = folder() / "agreement.json"
    return json.loads(path.read_text()) if path.exists() else {}


@dataclass(frozen=True)
class Case:
    """One file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def kind(self) -> str:
        return self.name.split("__")[0]

    @property
    def oracle(self) -> str:
        return self.name.split("__")[-1]

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """All entries; what has parts to be compared differently is split into them."""
        data: dict[str, Any] = helper().load(self.path)
        if "final_weights" in data:
            data["final_header"], data["final_weights"] = split_header(data["final_weights"].tobytes())
        for key in [key for key in data if key.endswith(".detections")]:
            data[f"{key}.class"], data[f"{key}.values"] = data[key][:, 0].astype(int), data[key][:, 1:]
        return data

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def keys(self, pattern: str) -> list[str]:
        """Keys that the pattern matches as a whole, in the order of the file."""
        return [key for key in self.data if re.fullmatch(pattern, key)]

    def tree(self, prefix: str) -> dict[int, dict[str, Any]]:
        """Entries `prefix.<i>.<rest>` as {i: {rest: value}}."""
        return helper().tree(self.data, prefix)

    def load(self, weights: Path | None = None, cfg: Path | None = None, **options: Any) -> Network:
        """The network of the case's cfg (or of a file), of the dialect and convention that its oracle has."""
        dialect, convention = DIALECTS[self.oracle], CONVENTIONS[self.oracle]
        return load(cfg or self["cfg"], weights, dialect=dialect, batchnorm=convention, **options)

    @functools.cached_property
    def quirks(self) -> tuple[str, ...]:
        found = [str(name) for name in self.data.get("quirks", ())]
        more = [name for pattern, names in MORE_QUIRKS.items() if re.match(pattern, self.name) for name in names]
        return tuple(dict.fromkeys(found + more))

    @functools.cached_property
    def possible_quirks(self) -> tuple[str, ...]:
        """Quirks that its description lets expect; whether they change a result is not known."""
        cfg = re.sub(r"[ \t\r]", "", str(self.data.get("cfg", "")))
        found = [name for pattern, name in POSSIBLE_QUIRKS.items() if re.search(pattern, cfg)]
        return tuple(name for name in found if self.kind in QUIRKS[name].kinds and name not in self.quirks)

    def departures(self) -> list[Quirk]:
        """The departures that concern it; fails, naming it, where a quirk is not declared."""
        unknown = [name for name in self.quirks if name not in QUIRKS]
        assert not unknown, f"{self.name} names {', '.join(unknown)}: declare what darkbn does in tests/quirks.py"
        names = (*self.quirks, *self.possible_quirks)
        return [quirk for name in names if not (quirk := QUIRKS[name]).imitated]


def cases(kind: str) -> list[Any]:
    """Parameters: all cases of a kind, those of things not built as expected failures; skipped where there are none."""
    found = sorted(folder().glob(f"{kind}__*.npz"))
    if not found:
        reason = f"no {kind} cases in {folder()}: set DARKBN_REFERENCE to the folder of the reference cases"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id=f"no {kind} cases")]
    return [pytest.param(case, marks=marks(case), id=case.name) for case in map(Case, found)]


def marks(case: Case) -> list[Any]:
    """The expected failure of a case that needs what is not built."""
    reasons = not_yet(case)
    errors_ = (errors.UnsupportedError, ImportError, AttributeError)
    return [pytest.mark.xfail(strict=True, raises=errors_, reason="; ".join(reasons))] if reasons else []


def not_yet(case: Case) -> list[str]:
    """Why a case cannot pass yet."""
    reasons = [NOT_YET_KINDS[case.kind]] if case.kind in NOT_YET_KINDS else []
    cfg = re.sub(r"[ \t\r]", "", str(case.data.get("cfg", ""))).lower()
    return reasons + [reason for pattern, reason in NOT_YET.items() if re.search(pattern, cfg, re.MULTILINE)]


def error(found: Any, expected: Any, least_scale: float = 0.0) -> float:
    """Largest difference over the largest expected magnitude; infinite where NaN or infinities differ.

    Args:
        found, expected: as many values.
        least_scale: magnitude that is used where the expected values are smaller.
    """
    found, expected = (np.asarray(a, dtype=np.float64).ravel() for a in (found, expected))
    if found.shape != expected.shape:
        raise AssertionError(f"{found.size} values, expected {expected.size}")
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return np.inf
    difference = np.abs(found[finite] - expected[finite]).max(initial=0.0)
    scale = np.abs(expected[finite]).max(initial=least_scale)
    return 0.0 if difference == 0 else float(difference / scale) if scale else np.inf


def tolerance(case: Case, key: str) -> float:
    """Allowed error of the result with that key."""
    if re.fullmatch(r"bytes|.*\.jpg", key) or (key == "tensor" and decoded_photo(case) is None):
        return JPEG
    for pattern, (limit, _) in TOLERANCES.items():
        if re.match(pattern, case.name):
            return limit
    if case.kind in ("net", "detect"):
        return WHOLE_NETWORK
    return (GRADIENT if re.search(r"delta|updates|gradient|^dx", key) else OUTPUT) * conditioning(case, key)


def decoded_photo(case: Case) -> np.ndarray | None:
    """The photo that a case names, as its Darknet decodes it: uint8 (row, column, channel)."""
    path = folder() / f"image__photo-{case['photo']}__{case.oracle}.npz"
    return Case(path)["bytes"].transpose(1, 2, 0) if path.exists() else None


def conditioning(case: Case, key: str) -> float:
    """How much a rounding of the mean is magnified by batch normalization: |mean| / deviation, at least 1."""
    step = re.match(r"(?:train|back)\.(\d+)\.", key)
    if case.kind != "batchnorm" or not step:
        return 1.0
    mean, variance = (case[f"train.{step[1]}.{name}"].astype(np.float64) for name in ("mean", "variance"))
    return float(np.max(np.abs(mean) / np.sqrt(variance), initial=1.0, where=variance > 0))


def noise(case: Case, key: str) -> float:
    """Error that rounding alone can make: what two builds of Darknet differ by, and the size of sums that cancel.

    The gradient of a bias is the sum of a delta; before batch normalization it is zero but for rounding.
    """
    known = disagreement().get(case.path.name, {}).get(key)
    between_builds = 2.0 * known[0] if isinstance(known, list) else 0.0
    match = re.fullmatch(r"back\.(\d+)\.bias_updates\.(\d+)|after\.(\d+)\.(\d+)\.bias_updates", key)
    if not match:
        return between_builds
    step, index = (group for group in match.groups() if group is not None)
    deltas = [case.data.get(f"back.{n}.delta.{index}", 0) for n in range(int(step) + 1)]
    return max(between_builds, 1e-6 * sum(np.abs(delta).sum() / np.shape(case[key])[0] for delta in deltas))


def differs(case: Case, key: str, value: Any, expected: Any) -> str:
    """What is wrong with a result; empty when it is right."""
    limit = tolerance(case, key)
    if np.asarray(expected).dtype.kind in "iub" and limit != JPEG:
        return "" if np.array_equal(np.ravel(value), np.ravel(expected)) else f"{key} is not the same"
    found = error(value, expected, noise(case, key) / limit)
    return "" if found <= limit else f"{key}: error {found:.3g}, allowed {limit:.3g}"


def compare(case: Case, results: Results) -> None:
    """Every result must be what the case holds under its key."""
    wrong = [text for key, value in results if (text := differs(case, key, value, case[key]))]
    assert not wrong, f"{case.name}:\n" + "\n".join(wrong)


Compute = Callable[[Case, str], Results]


def check(case: Case, compute: Compute, devices: Iterable[str] = ("cpu", "reference")) -> None:
    """Hold a case: equal to Darknet, or where darkbn departs from it, what darkbn does instead.

    Args:
        case: the case.
        compute: yields the results of a device, key by key.
        devices: the devices to compute on; a departure compares the first with "reference".
    """
    departures = case.departures()
    if not departures:
        for device in devices:
            compare(case, compute(case, device))
        return
    first = next(iter(devices))
    found, expected = collect(case, compute, first, departures), collect(case, compute, "reference", departures)
    check_departure(case, departures, found, expected)


def collect(case: Case, compute: Compute, device: str, departures: list[Quirk]) -> dict[str, Any]:
    """All results; where a departure raises an error, those before it and the error's type as "raises"."""
    expected_errors = tuple(quirk.raises for quirk in departures if quirk.raises)
    results: dict[str, Any] = {}
    try:
        for key, value in compute(case, device):
            results[key] = np.array(value)
    except expected_errors as caught:
        results["raises"] = type(caught)
    return results


def check_departure(case: Case, departures: list[Quirk], found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Both devices agree; what no departure changes equals Darknet; something differs from it."""
    assert found.keys() == expected.keys()
    raised = found.pop("raises", None)
    assert raised is expected.pop("raises", None)
    assert raised is not None or not any(quirk.raises for quirk in departures), f"{case.name}: nothing is raised"
    wrong = [text for key in found if (text := differs(case, key, found[key], expected[key].astype(np.float32)))]
    assert not wrong, f"{case.name}, device against reference:\n" + "\n".join(wrong)
    changes = [quirk.changes for quirk in departures if not quirk.raises]
    changed = {key: text for key, value in found.items() if (text := differs(case, key, value, case[key]))}
    unexpected = [text for key, text in changed.items() if not any(re.match(pattern, key) for pattern in changes)]
    assert not unexpected, f"{case.name}, besides what {case.quirks} change:\n" + "\n".join(unexpected)
    certain = any(not QUIRKS[name].imitated for name in case.quirks)
    assert changed or raised or not certain, (
        f"{case.name} has {case.quirks}, declared as departures, but nothing differs"
    )


def split_header(file: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Header (of version 0.2 or later) and values of a .weights file."""
    return np.frombuffer(file[:20], "<i4"), np.frombuffer(file[20:], "<f4")


def sub_array(layer: Any, path: str) -> Any:
    """The array of a layer by its dotted path: "weights", or "input_layer.weights" in a layer inside it."""
    *inside, name = path.split(".")
    for part in inside:
        layer = layer.sublayers[part]
    return getattr(layer, name)


def set_parameters(net: Network, values: dict[int, dict[str, Any]]) -> None:
    """Give layers their parameters: {index: {path: values}}."""
    for index, arrays in values.items():
        for path, value in arrays.items():
            array = sub_array(net.layers[index], path)
            net.backend.assign(array, value.reshape(array.shape))


def parameters(net: Network, prefix: str, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Results for the keys `prefix.<layer>.<path>`."""
    for key in keys:
        index, _, path = key.removeprefix(f"{prefix}.").partition(".")
        yield key, sub_array(net.layers[int(index)], path)
