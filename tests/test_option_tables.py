"""Every option of both Darknets is known, has Darknet's default, and does something or is listed with the reason."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import darkbn
from darkbn.cfg import Entry, Section
from darkbn.layers import BY_SECTION
from darkbn.layers.base import LayerOptions
from darkbn.net_options import NetOptions

#: Section -> option -> its default in pjreddie's and in AlexeyAB's Darknet as their parsers say it; None: not read
#: there. "*" are the options that every layer reads.
TABLE: dict[str, dict[str, list[str | None]]] = json.loads(
    (Path(__file__).parent / "data" / "darknet_options.json").read_text()
)
DIALECTS = ("darknet", "alexeyab")

_SCHEDULING = "where and when CUDA kernels run"
_UNREAD = "Darknet reads it and does nothing with it"
_TRACKING = "of Darknet's program that follows objects in videos"
_LOADING = "how training pictures are read and changed"

#: Options that change nothing that darkbn computes, and what they are for.
WITHOUT_EFFECT: dict[str, dict[str, str]] = {
    "net": {
        **dict.fromkeys(
            ("notruth", "random", "max_crop", "min_crop", "max_ratio", "min_ratio", "center", "angle", "aspect"),
            _LOADING,
        ),
        **dict.fromkeys(
            ("saturation", "exposure", "hue", "flip", "blur", "gaussian_noise", "mixup", "cutmix"), _LOADING
        ),
        **dict.fromkeys(("mosaic", "mosaic_bound", "contrastive_jit_flip", "contrastive_color"), _LOADING),
        **dict.fromkeys(("unsupervised", "resize_step", "augment_speed", "label_smooth_eps", "contrastive"), _LOADING),
        **dict.fromkeys(("use_cuda_graph", "optimized_memory", "workspace_size_limit_MB"), _SCHEDULING),
        "dynamic_minibatch": "how many pictures a CUDA device takes at once when their size changes",
        "loss_scale": "keeps float16 gradients of tensor cores in range; all arithmetic here is float32",
        "attention": "saves pictures of where the gradient is",
        "max_chart_loss": "of the chart of the loss",
        "show_receptive_field": "prints the receptive field of each layer",
    },
    "convolutional": {
        "dot": _UNREAD,
        "bin_output": "lets Darknet leave out activations of which only the sign is read, see darkbn.layers.binary",
        "stream": _SCHEDULING,
        "wait_stream": _SCHEDULING,
    },
    "route": {"stream": _SCHEDULING, "wait_stream": _SCHEDULING},
    "yolo": {
        **dict.fromkeys(("jitter", "random", "resize"), _LOADING),
        **dict.fromkeys(("track_history_size", "sim_thresh", "dets_for_track", "dets_for_show"), _TRACKING),
        **dict.fromkeys(("track_ciou_norm", "embedding_layer"), _TRACKING),
    },
    "Gaussian_yolo": dict.fromkeys(("jitter", "random", "resize"), _LOADING),
    "region": {
        **dict.fromkeys(("jitter", "random", "resize"), _LOADING),
        **dict.fromkeys(("log", "sqrt", "absolute"), _UNREAD),
        "mask_scale": "of masks, which coords=4 does not have",
    },
    "detection": {
        **dict.fromkeys(("jitter", "random", "resize"), _LOADING),
        "reorg": _UNREAD,
    },
    "*": {},
}


def options_of(section: str) -> dict[str, Any]:
    """Fields of a section's options by their names in the cfg."""
    cls = NetOptions if section == "net" else LayerOptions if section == "*" else BY_SECTION[section].options_class
    return {field.metadata["key"] or field.name: field for field in dataclasses.fields(cls)}


ROWS = [
    pytest.param(section, option, dialect, id=f"{dialect} [{section}] {option}")
    for section, options in TABLE.items()
    for option, defaults in options.items()
    for dialect, default in zip(DIALECTS, defaults, strict=True)
    if default is not None
]


def number(text: str) -> float | None:
    """A default as a number; None for an expression."""
    text = text.strip("() ").removesuffix("f")
    return float(text) if re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", text) else None


@pytest.mark.parametrize(("section", "option", "dialect"), ROWS)
def test_every_option_is_known_with_its_default(section: str, option: str, dialect: str) -> None:
    field = options_of(section)[option]
    assert field.metadata["only"] in (None, dialect)
    if field.metadata["required"]:
        return
    found, text = field.metadata["by_dialect"][dialect], TABLE[section][option][DIALECTS.index(dialect)]
    assert text is not None
    if isinstance(found, bool | int | float) and number(text) is not None:
        assert float(found) == pytest.approx(number(text))
    elif isinstance(found, str) and number(text) is None:
        assert found == text


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("section", [s for s in TABLE if s not in ("net", "*")])
def test_options_are_read_without_complaint(section: str, dialect: str) -> None:
    """All options of a section at once, with their defaults where those are numbers."""
    entries = []
    for option, defaults in {**TABLE["*"], **TABLE[section]}.items():
        default = defaults[DIALECTS.index(dialect)]
        if default is not None and number(default) is not None and not options_of(section)[option].metadata["choices"]:
            value = "4" if option == "coords" else str(int(number(default) or 0))  # Darknet's own default is no box
            entries.append(Entry(option, value, len(entries) + 2))
    for option, field in options_of(section).items():
        if field.metadata["required"]:
            entries.append(Entry(option, "-1", len(entries) + 2))
    warnings: list[str] = []
    BY_SECTION[section].options_class.read(Section(section, 1, "<text>", entries), dialect, warnings)
    assert not [text for text in warnings if "unknown" in text or "ignored" in text]


def sources() -> dict[str, str]:
    """Text of darkbn's modules by name."""
    root = Path(darkbn.__file__).parent
    return {".".join(path.relative_to(root).with_suffix("").parts): path.read_text() for path in root.rglob("*.py")}


SOURCES = sources()
#: Modules whose attributes with an option's name are not that option.
OWN = ("net_options", "options")


def is_read(section: str, field: Any) -> bool:
    """Whether the layer's own modules, or for [net] and options of every layer any module, mention an option."""
    if section in ("net", "*"):
        texts = [text for name, text in SOURCES.items() if name not in OWN]
    else:
        classes = [c for c in BY_SECTION[section].__mro__ if c.__module__.startswith("darkbn.layers")]
        names = {c.__module__ for c in classes}
        imported = {
            name
            for module in names
            for name in re.findall(r"from (darkbn\.[\w.]+) import", inspect.getsource(sys.modules[module]))
        }
        modules = {name.removeprefix("darkbn.") for name in (*names, *imported)}
        texts = [SOURCES[name] for name in modules | {"detect", "weights", "build"} if name in SOURCES]
    name = re.escape(field.name)
    return any(re.search(rf"\.{name}\b|\"{name}\"", text) for text in texts)


@pytest.mark.parametrize("section", TABLE)
def test_every_option_does_something_or_says_why_not(section: str) -> None:
    without = WITHOUT_EFFECT.get(section, {})
    fields = options_of(section)
    assert without.keys() <= fields.keys()
    for option in TABLE[section]:
        field = fields[option]
        refused = field.metadata["unsupported"] or field.metadata["inference_only"]
        assert option in without or refused or is_read(section, field), f"[{section}] {option}= is ignored"


def test_the_page_lists_what_has_no_effect_and_what_is_refused() -> None:
    page = Path(__file__).parents[1] / "docs" / "options.md"
    if not page.exists():
        pytest.skip("no docs beside the tests")
    text = page.read_text()
    for section, options in WITHOUT_EFFECT.items():
        for option, reason in options.items():
            assert f"`{option}`" in text or (section == "net" and reason == _LOADING), option
    for section in TABLE:
        for option, field in options_of(section).items():
            if field.metadata["unsupported"] or field.metadata["inference_only"]:
                assert f"`{option}`" in text, option
