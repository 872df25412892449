"""The table of official networks in docs/networks.md: each cfg of both repositories, layer by layer against Darknet.

README.md has its summary.

    DARKBN_REFERENCE=... python tests/official_networks.py [PATTERN]
    python tests/official_networks.py --checkout pjreddie DIR [PATTERN]

The first computes the reference cases whose name the pattern finds (all without one) and writes their rows; the other
rows stay. The second adds the descriptions of a checkout that have no reference case: these are loaded and run.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program

from goldens import DIALECTS, Case, folder, helper, tolerance
from quirks import QUIRKS

import darkbn

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
README = Path(__file__).parents[1] / "README.md"
REPOSITORIES = {"pjreddie": "pjreddie/darknet", "alexeyab": "AlexeyAB/darknet"}

_INTRODUCTION = """# Official networks

Every description (cfg) of both repositories, with generated weights, on the `cpu` backend, layer by layer. The error of
a layer is the largest difference of 32 of its outputs from Darknet's over the largest magnitude of that layer's output;
heads are compared whole. The worst layer is shown. Inputs are smaller than in the cfg where the architecture allows it.
Where there is no reference case at hand the network was loaded and run with random weights, and all outputs are finite.
Written by `python tests/official_networks.py`; `test_goldens.py::test_network` holds every case.

| repository | cfg | dialect | layers | input | largest error | in layer | result |
|---|---|---|---:|---|---:|---:|---|
"""


def official() -> list[Case]:
    """The cases, by repository and name."""
    found = [Case(path) for path in folder().glob("net__*.npz")]
    return sorted(found, key=lambda case: (case.oracle, cfg_name(case)))


def cfg_name(case: Case) -> str:
    return case.name.split("__")[1]


def layer_errors(case: Case) -> tuple[list[float], str]:
    """Error of each layer, and what the input is."""
    from test_goldens import write_network

    with tempfile.TemporaryDirectory() as name:
        write_network(case, Path(name))
        net = case.load(Path(name) / "net.weights", Path(name) / "net.cfg")
    net.forward(helper().net_input(case.data))
    errors = []
    for index, layer in enumerate(net.layers):
        scale = float(case["layer_maxabs"][index]) or 1.0
        found = [(layer.output.ravel()[case["sample_index"][index]], case["sample_value"][index])]
        if f"output.{index}" in case:
            found.append((layer.output.ravel(), case[f"output.{index}"].ravel()))
        errors.append(max(float(np.abs(np.subtract(a, b, dtype=np.float64)).max()) for a, b in found) / scale)
    size = f"{net.width} x {net.height} x {net.channels}" if net.width else f"{net.inputs}"
    return errors, size


def row(case: Case) -> str:
    """A line of the table."""
    errors, size = layer_errors(case)
    worst = int(np.argmax(errors))
    quirks = [name for name in case.quirks if not QUIRKS[name].imitated]
    if quirks:
        first = next((i for i, e in enumerate(errors) if e > tolerance(case, "sample_value")), worst)
        result = f"departs from layer {first} on: [{quirks[0]}](quirks.md#{quirks[0]})"
    else:
        result = "matches" if errors[worst] <= tolerance(case, "sample_value") else "DIFFERS"
    start = (REPOSITORIES[case.oracle], cfg_name(case), DIALECTS[case.oracle], len(errors), size)
    cells = (*start, f"{errors[worst]:.1e}", worst, result)
    return "| " + " | ".join(map(str, cells)) + " |"


def rows(text: str) -> dict[tuple[str, str], str]:
    """The lines of a page by repository and cfg."""
    lines = [line for line in text.splitlines() if re.match(r"\| \w+/darknet \|", line)]
    return {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in lines}  # type: ignore[misc]


def key(case: Case) -> tuple[str, str]:
    return REPOSITORIES[case.oracle], cfg_name(case)


def checkout_row(path: Path, oracle: str, name: str) -> str:
    """A line for a description without a case: it is run at no more than 384 pixels when it is a detector."""
    dialect = DIALECTS[oracle]
    net = darkbn.load(path, dialect=dialect, seed=0)
    if net.heads and net.width > 384 and all(layer.type != "connected" for layer in net.layers):
        net.resize(384, 384)
    for layer in net.layers:
        for _, part in layer.walk():
            if hasattr(part, "rolling_variance"):
                part.rolling_variance.fill(1)  # 0 in Darknet until it is trained
    net.forward(np.random.default_rng(0).random(net.input_shape, np.float32))
    finite = all(np.isfinite(layer.output).all() for layer in net.layers)
    size = f"{net.width} x {net.height} x {net.channels}" if net.width else f"{net.inputs}"
    result = "loads and runs; no reference case" if finite else "DIFFERS"
    return (
        "| " + " | ".join(map(str, (REPOSITORIES[oracle], name, dialect, len(net.layers), size, "", "", result))) + " |"
    )


def summary(found: dict[tuple[str, str], str]) -> str:
    """The table in the README: what the page's lines say, by repository."""
    lines = [
        "| repository | descriptions | load and run | compared, layer by layer | match | largest error | depart |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for repository in REPOSITORIES.values():
        cells = [
            [cell.strip() for cell in line.split("|")[1:-1]] for name, line in found.items() if name[0] == repository
        ]
        compared = [line for line in cells if line[5]]
        matches = [line for line in compared if line[7] == "matches"]
        departures = [f"{line[1]} ({quirk})" for line in compared if (quirk := _quirk(line[7]))]
        errors = max((float(line[5]) for line in matches), default=0.0)
        running = sum("DIFFERS" not in line[7] for line in cells)
        lines.append(
            f"| {repository} | {len(cells)} | {running} | {len(compared)} | {len(matches)} | {errors:.1e} |"
            f" {', '.join(departures) or 'none'} |"
        )
    return "\n".join(lines)


def _quirk(result: str) -> str:
    """The fault that a line names, linked from the README."""
    match = re.search(r"\[([\w-]+)\]", result)
    return f"[{match[1]}](docs/quirks.md#{match[1]})" if match else ""


def write_summary(text: str, found: dict[tuple[str, str], str]) -> str:
    """The README's text with its table made anew."""
    return re.sub(r"^\| repository \| descriptions .*(?:\n\|.*)+", lambda _: summary(found), text, flags=re.MULTILINE)


def write(found: dict[tuple[str, str], str], name: tuple[str, str], line: str) -> None:
    """Add a line to the page and show it."""
    found[name] = line
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    PAGE.write_text(_INTRODUCTION + "\n".join(found[name] for name in sorted(found, key=_order)) + "\n")


def add_cases(pattern: str) -> None:
    found = rows(PAGE.read_text()) if PAGE.exists() else {}
    for case in official():
        if re.search(pattern, case.name):
            write(found, key(case), row(case))


def add_checkout(oracle: str, checkout: Path, pattern: str) -> None:
    found = rows(PAGE.read_text()) if PAGE.exists() else {}
    os.chdir(checkout)  # descriptions name their side files from here
    for path in sorted(Path("cfg").rglob("*.cfg")):
        name = f"v1-{path.stem}" if path.parent.name == "yolov1" else path.stem
        if re.search(pattern, name) and not Case(folder() / f"net__{name}__{oracle}.npz").path.exists():
            write(found, (REPOSITORIES[oracle], name), checkout_row(path, oracle, name))


def _order(name: tuple[str, str]) -> tuple[int, str]:
    return list(REPOSITORIES.values()).index(name[0]), name[1]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--checkout"]:
        add_checkout(sys.argv[2], Path(sys.argv[3]), "".join(sys.argv[4:5]))
    else:
        add_cases("".join(sys.argv[1:2]))
    README.write_text(write_summary(README.read_text(), rows(PAGE.read_text())))
