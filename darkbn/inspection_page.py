"""An inspection of batch normalization as a picture and as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from darkbn.extras import require
from darkbn.files import atomic_write
from darkbn.inspection import Distribution, Inspection, LayerInspection

#: What each finding means, for readers.
MEANINGS = {
    "dead": "scale near 0: the channel is constant",
    "collapsed": "variance so small that epsilon decides",
    "exploding": "variance a million times the layer's median",
    "negative": "variance below 0: its root is NaN",
    "not finite": "NaN or infinity",
    "untrained": "statistics as they were made",
}
COLOR = "#1f6f54"
ALARM = "#c0392b"


def write_png(inspection: Inspection, path: str | os.PathLike[str]) -> None:
    """Write the picture; needs the extra `plot`. Raises MissingExtraError."""
    picture = _picture(inspection)
    with atomic_write(path) as file:
        file.write(picture)


def write_html(inspection: Inspection, path: str | os.PathLike[str]) -> None:
    """Write the page, the picture inside; needs the extra `plot`. Raises MissingExtraError."""
    picture = base64.b64encode(_picture(inspection)).decode()
    with atomic_write(path) as file:
        file.write(_page(inspection, picture).encode("utf-8", errors="replace"))


# ------------------------------------------------------------------------------------------------------- the picture


def _picture(inspection: Inspection) -> bytes:
    """PNG: per array the range, quartiles and median of every layer."""
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    layers = inspection.layers
    width = min(max(7.0, 0.16 * len(layers)), 16.0)
    figure = Figure(figsize=(width, 10), layout="constrained")
    axes = figure.subplots(5, 1, sharex=True)
    panels: list[tuple[str, Callable[[LayerInspection], Distribution], str]] = [
        ("scales", lambda l: l.scales, "linear"),
        ("biases", lambda l: l.biases, "linear"),
        ("rolling mean", lambda l: l.rolling_mean, "symlog"),
        ("rolling variance", lambda l: l.rolling_variance, "log"),
    ]
    for axis, (title, get, scale) in zip(axes, panels, strict=False):
        _draw(axis, [get(layer) for layer in layers], scale)
        axis.set_ylabel(title)
    _draw_factors(axes[4], layers)
    for place, layer in enumerate(layers):
        if layer.findings:
            axes[3].axvline(place, color=ALARM, linewidth=0.8, alpha=0.6, zorder=0)
    step = max(1, len(layers) // 40)
    axes[4].set_xticks(range(0, len(layers), step), [l.name for l in layers[::step]], rotation=90, fontsize=7)
    axes[4].set_xlabel("layer")
    text = f"{os.path.basename(inspection.file)}: batch normalization of {len(layers)} layers ({inspection.convention})"
    figure.suptitle(text.encode("utf-8", "replace").decode(), fontsize=11)
    figure.supxlabel("light: smallest to largest channel; dark: quartiles; line: median; red: a finding", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw(axis: Any, distributions: list[Distribution], scale: str) -> None:
    at = np.arange(len(distributions))
    table = np.array([[d.minimum, d.lower, d.median, d.upper, d.maximum] for d in distributions]).reshape(-1, 5)
    if scale == "log":
        # What is smaller still is beside the point, and would squeeze everything else together.
        table = np.where(table > 0, np.maximum(table, 1e-9), np.nan)
    axis.vlines(at, table[:, 0], table[:, 4], color=COLOR, alpha=0.25, linewidth=3)
    axis.vlines(at, table[:, 1], table[:, 3], color=COLOR, linewidth=3)
    axis.plot(at, table[:, 2], "_", color="black", markersize=5)
    axis.set_yscale(scale, **({"linthresh": 1.0} if scale == "symlog" else {}))
    axis.grid(axis="y", linewidth=0.4, alpha=0.6)


def _draw_factors(axis: Any, layers: tuple[LayerInspection, ...]) -> None:
    found = [(i, l.folding) for i, l in enumerate(layers) if l.folding is not None and l.folding.amplified]
    at = [i for i, _ in found]
    axis.plot(at, [f.amplified[0][1] for _, f in found], ".", color=COLOR, label="largest factor of a channel")
    axis.plot(at, [f.after for _, f in found], "_", color="black", label="largest |weight| folded")
    axis.plot(at, [f.before for _, f in found], "_", color="#999999", label="largest |weight| now")
    if found:
        axis.set_yscale("log")
        axis.legend(fontsize=7, loc="best")
    axis.set_ylabel("folding")
    axis.grid(axis="y", linewidth=0.4, alpha=0.6)


# ---------------------------------------------------------------------------------------------------------- the page

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
img { max-width: 100%; height: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 2px 8px; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(2), td:nth-child(2), th:last-child, td:last-child { text-align: left; }
.found td { background: #fdf0ee; }
.found td:last-child { color: #a03020; }
"""


def _page(inspection: Inspection, picture: str) -> str:
    file = html.escape(os.path.basename(inspection.file))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Batch normalization of {file}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Batch normalization of {file}</h1>
<p>{len(inspection.layers)} layers, {inspection.channels:,} channels, convention
{html.escape(inspection.convention)}; {inspection.plain} layers with weights have none.</p>
<h2>Findings</h2>
{_findings(inspection)}
<h2>Distributions</h2>
<p><img alt="Ranges, quartiles and medians of every layer" src="data:image/png;base64,{picture}"></p>
<h2>Layers</h2>
<p>Smallest, median and largest channel. Weights: largest |weight| now and folded; growth: the factor of
the channel that grows most.</p>
<div class="table">
{_table(inspection)}
</div>
</body>
</html>
"""


def _findings(inspection: Inspection) -> str:
    items = []
    for layer in inspection.layers:
        for name in layer.findings:
            channels = getattr(layer, name.replace(" ", "_"), ())
            some = "all" if not isinstance(channels, tuple) else _some(channels)
            items.append(
                f"<li>layer {html.escape(layer.name)} [{html.escape(layer.type)}]: <b>{name}</b>"
                f" ({MEANINGS[name]}): {some}</li>"
            )
    return "<ul>\n" + "\n".join(items) + "\n</ul>" if items else "<p>None.</p>"


def _some(channels: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, channels[:20]))
    more = f" and {len(channels) - 20} more" if len(channels) > 20 else ""
    return f"{'channel' if len(channels) == 1 else 'channels'} {shown}{more}"


_HEADINGS = (
    "layer",
    "type",
    "channels",
    "scales",
    "biases",
    "rolling mean",
    "rolling variance",
    "weights",
    "growth",
    "",
)


def _table(inspection: Inspection) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADINGS)
    rows = []
    for layer in inspection.layers:
        spans = (layer.scales, layer.biases, layer.rolling_mean, layer.rolling_variance)
        cells = [html.escape(layer.name), html.escape(layer.type), str(layer.channels)]
        cells += [f"{d.minimum:.3g} &nbsp;{d.median:.3g}&nbsp; {d.maximum:.3g}" for d in spans]
        cells += _folding_cells(layer)
        cells.append(", ".join(f"{count} {name}" for name, count in layer.findings.items()))
        mark = ' class="found"' if layer.findings else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>"


def _folding_cells(layer: LayerInspection) -> list[str]:
    effect = layer.folding
    if effect is None or not effect.amplified:
        return ["", ""]
    channel, factor = effect.amplified[0]
    return [f"{effect.before:.3g} &rarr; {effect.after:.3g}", f"{factor:.3g} (channel {channel})"]
