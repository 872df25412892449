"""A description to layers: everything is checked before anything is allocated."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from darkbn.backend import Backend
from darkbn.cfg import Cfg, Section
from darkbn.conventions import BatchNormConvention
from darkbn.errors import CfgError
from darkbn.layers import BY_SECTION
from darkbn.layers.base import Context, Layer
from darkbn.net_options import NetOptions

#: Sections that only one of the Darknets reads.
_ONLY_DARKNET = frozenset({"deconvolutional", "deconv", "logistic", "l2norm", "iseg"})
_ONLY_ALEXEYAB = frozenset(
    [
        "local_avgpool",
        "local_avg",
        "scale_channels",
        "sam",
        "reorg3d",
        "conv_lstm",
        "history",
        "implicit",
        "contrastive",
        "empty",
        "silence",
        "Gaussian_yolo",
    ]
)


def guess_dialect(cfg: Cfg, header: str | None = None) -> tuple[str, str]:
    """Which Darknet a description is meant for.

    Args:
        cfg: the description.
        header: what the weights file says, "alexeyab" or None.

    Returns:
        The dialect and the reason.
    """
    for section in cfg.layers:
        if section.name in _ONLY_DARKNET:
            return "darknet", f"[{section.name}] in line {section.line} exists only there"
    if header is not None:
        return header, "version in the weights file"
    for section in cfg.sections:
        if section.name in _ONLY_ALEXEYAB:
            return "alexeyab", f"[{section.name}] in line {section.line} exists only there"
        found = _only_alexeyab_entry(section)
        if found:
            return "alexeyab", found
    return "darknet", "nothing in the description is AlexeyAB's"


def _only_alexeyab_entry(section: Section) -> str | None:
    from darkbn.activations import NAMES

    cls = BY_SECTION.get(section.name)
    options = cls.options_class if cls else NetOptions
    only = options.keys_only("alexeyab")
    for entry in section.entries:
        if entry.key in only:
            return f"{entry.key}= in line {entry.line} exists only there"
        if entry.key == "activation" and entry.value in NAMES["alexeyab"] and entry.value not in NAMES["darknet"]:
            return f"activation={entry.value} in line {entry.line} exists only there"
    return None


def build_layers(
    cfg: Cfg,
    options: NetOptions,
    *,
    backend: Backend,
    dialect: str,
    convention: BatchNormConvention,
    batch: int,
    warnings: list[str],
) -> list[Layer]:
    """The layers of a description, sizes computed, nothing allocated.

    Args:
        cfg: the description.
        options: of [net], sizes overridden where the caller wants.
        backend, dialect, convention: see `Context`.
        batch: images per pass, time steps left out.
        warnings: unknown options and the like are added here.

    Raises:
        CfgError: the first thing that cannot be.
        UnsupportedError: a section or option that is not supported.
    """
    layers: list[Layer] = []
    context = Context(
        batch=batch * options.time_steps,
        h=options.height,
        w=options.width,
        c=options.channels,
        inputs=options.inputs,
        backend=backend,
        dialect=dialect,
        convention=convention,
        time_steps=options.time_steps,
        layers=layers,
        net_h=options.height,
        net_w=options.width,
        adam=options.adam,
        average=bool(options.ema_alpha),
        warnings=warnings,
    )
    if not cfg.layers:
        raise CfgError("has no layers, only [net]", file=cfg.file)
    for index, section in enumerate(cfg.layers):
        cls = _layer_class(section, index, dialect)
        layer_options = cls.options_class.read(section, dialect, warnings, index)
        layer = cls.build(layer_options, replace(context, index=index, section=section))
        layers.append(layer)
        context = replace(context, h=layer.out_h, w=layer.out_w, c=layer.out_c, inputs=layer.outputs)
    _spread_train_only_bn(layers)
    return layers


def _spread_train_only_bn(layers: Sequence[Layer]) -> None:
    """train_only_bn= holds for a layer and all before it. In Darknet none of them takes a step then
    (ab-train-only-bn-trains-nothing)."""
    last = max((index for index, layer in enumerate(layers) if layer.options.train_only_bn), default=-1)
    for layer in layers[: last + 1]:
        for _, part in layer.walk():
            part.train_only_bn = True


def _layer_class(section: Section, index: int, dialect: str) -> type[Layer]:
    cls = BY_SECTION.get(section.name)
    other = {"darknet": _ONLY_ALEXEYAB, "alexeyab": _ONLY_DARKNET}[dialect]
    if section.name in other:
        right = "alexeyab" if dialect == "darknet" else "darknet"
        raise section.error(f"exists only in dialect {right}; this network is read as {dialect}", index=index)
    if cls is not None:
        return cls
    close = difflib.get_close_matches(section.name, BY_SECTION, 1)
    hint = f"; did you mean [{close[0]}]?" if close else ""
    raise section.error(f"unknown section{hint}", index=index)


def check_memory(layers: Sequence[Layer], training: bool, file: str) -> int:
    """Bytes that the layers' arrays need; raises CfgError when the machine does not have them."""
    sizes = [layer.nbytes(training) for layer in layers]
    needed, available = sum(sizes), available_memory()
    if needed > available:
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        layer = layers[largest]
        section = layer.context.section
        raise CfgError(
            f"the network needs {needed / 2**30:.1f} GiB, {available / 2**30:.1f} GiB are free; the largest layer takes"
            f" {sizes[largest] / 2**30:.1f} GiB for {layer!r}: reduce batch, width or height",
            file=file,
            line=section.line if section else None,
            section=layer.type,
            index=largest,
        )
    return needed


def available_memory() -> int:
    """Bytes of memory that can be had now (total memory where the system does not tell)."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on this system: let the allocation itself fail
        return 2**62
