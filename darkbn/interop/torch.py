"""PyTorch: networks as modules that can be trained, and parameters from and to the YOLO ports that exist for it.

    module = darkbn.interop.torch.to_module(net)            # an nn.Module with the network's parameters
    darkbn.interop.torch.from_module(module, net)           # its parameters back into the network
    net.save_weights("trained.weights")

    darkbn.interop.torch.load_state_dict(net, torch.load("yolov3.pt")["model"])     # of another program

Needs the extra `peers` or any installed torch. Nothing here imports it before it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import to_host
from darkbn.conventions import BatchNormConvention
from darkbn.errors import DarkbnError, ShapeError, UnsupportedError
from darkbn.extras import require
from darkbn.interop.plain import special_options
from darkbn.layers.antialiasing import AntialiasedLayer
from darkbn.network import Network, load
from darkbn.signature import Array

if TYPE_CHECKING:
    from darkbn.interop.torch_modules import DarknetModule

#: Layouts of parameter names that `state_dict` writes.
LAYOUTS = ("darkbn", "ultralytics", "eriklindernoren", "pytorch-yolov4")

#: Batch normalization's arrays and PyTorch's names for them.
_NORM = {"weight": "scales", "bias": "biases", "running_mean": "rolling_mean", "running_var": "rolling_variance"}


# -- modules -----------------------------------------------------------------------------------------------------------


def to_module(net: Network) -> DarknetModule:
    """The network as an nn.Module with copies of its parameters, in evaluation mode.

    Every convention of batch normalization is kept, forward, backward and in its rolling statistics: PyTorch's own
    BatchNorm is used where it computes the same ("pytorch", "cudnn"), else `DarknetBatchNorm`. Other layers have the
    gradient that PyTorch derives. Losses are not part of it.

    Raises:
        UnsupportedError: the network has recurrent layers, or options that modules do not know; the message names them.
    """
    require("torch", extra="peers")
    from darkbn.interop import torch_modules as modules

    refused = [l for l in net.layers if l.type not in modules.BLOCKS]
    if refused:
        listed = ", ".join(f"layer {l.context.index} [{l.type}]" for l in refused)
        raise UnsupportedError(f"{net.cfg.file}: no PyTorch module for {listed}")
    special = [f"layer {l.context.index} [{l.type}] {name}=" for l in net.layers for name in special_options(l)]
    if special:
        raise UnsupportedError(f"{net.cfg.file}: no PyTorch module for {', '.join(special)}")
    blocks: list[modules.Block] = []
    for layer in net.layers:
        blocks.append(modules.BLOCKS[layer.type](layer, blocks))
    results = [layer.context.index for layer in net.heads or [net.output_layer]]
    module = modules.DarknetModule(blocks, results, net.seen, net.input_shape[1:])
    module.eval()
    return module


def from_module(module: DarknetModule, net: Network) -> Network:
    """Copy the parameters and statistics of a module that `to_module` made into a network of the same description.

    Returns:
        `net`. Its `save_weights` then writes the file; one that was only read and written again is the same byte by
        byte.

    Raises:
        DarkbnError, ShapeError: the module is another network's. Nothing has been changed then.
    """
    load_state_dict(net, module.state_dict())
    net.seen = int(module.seen)
    return net


# -- parameters of other programs --------------------------------------------------------------------------------------


def load_state_dict(net: Network, state: Mapping[str, Any], *, epsilon: float | None = None) -> None:
    """Read the parameters of a cfg-shaped PyTorch model into a network.

    Names are understood as `<anything>.<layer>.<module>.<parameter>` with Darknet's layer number, which covers
    `module_list.0.Conv2d.weight` (ultralytics, WongKinYiu), `module_list.0.conv_0.weight` (eriklindernoren),
    `models.0.conv1.weight` (marvis, Tianxiaomo), `layers.0.conv.weight` (to_module), also behind `module.`. What is
    what follows from the tensors: those with running statistics are batch normalization.

    A fused model (its convolutions have biases, the batch normalization is gone) goes into a network with
    batch_normalize=1, too: batch normalization then becomes one that changes nothing, to within one rounding.

    Args:
        net: the network.
        state: the state_dict; tensors or arrays.
        epsilon: what the model's batch normalization adds to the variance. Given, the rolling variances are changed
            so that the network, with its own epsilon, computes the same; None: they are taken as they are.

    Raises:
        DarkbnError: parameters that the network does not have, or lacks.
        ShapeError: one of another shape. In both cases nothing has been changed.
    """
    groups, taken = _groups(state), []
    for index, layer in enumerate(net.layers):
        part: Any = layer.host if isinstance(layer, AntialiasedLayer) else layer
        names = part.weights_order()
        found = groups.pop(index, {})
        if not names:
            continue  # what shares parameters with another layer, and buffers of heads
        taken += [(index, part, name, value) for name, value in _arrays(index, part, found, epsilon).items()]
    unknown = [index for index in groups if index >= len(net.layers)]
    if unknown:
        raise DarkbnError(f"there are parameters of layer {unknown[0]}, but the network has {len(net.layers)} layers")
    for index, part, name, value in taken:
        expected = getattr(part, name).shape
        if value.size != getattr(part, name).size or (value.ndim == len(expected) and value.shape != expected):
            raise ShapeError(f"layer {index} [{part.type}] {name}: expected {expected}, found {value.shape}")
    for _, part, name, value in taken:
        target = getattr(part, name)
        target[...] = part.backend.array(np.ascontiguousarray(value, np.float32).reshape(target.shape))
    net.changed()


def state_dict(net: Network, layout: str = "darkbn") -> dict[str, Any]:
    """The network's parameters as tensors by the names of a PyTorch port.

    Args:
        net: a network of [convolutional] and [connected] layers with parameters; layout "darkbn" takes all.
        layout: "darkbn" (what `to_module` has), "ultralytics" (module_list.0.Conv2d.weight,
            module_list.0.BatchNorm2d.weight), "eriklindernoren" (module_list.0.conv_0.weight,
            module_list.0.batch_norm_0.weight), "pytorch-yolov4" (models.0.conv1.weight, models.0.bn1.weight, where
            convolutions are counted from 1; also darknet2pytorch).

    Raises:
        UnsupportedError: parameters that the layout has no name for, or an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UnsupportedError(f"layout must be one of {', '.join(LAYOUTS)}, found {layout!r}")
    if layout == "darkbn":
        state: dict[str, Any] = to_module(net).state_dict()
        return state
    torch, result, count = require("torch", extra="peers"), {}, 0
    for index, layer in enumerate(net.layers):
        any_layer: Any = layer
        if layer.type == "convolutional" and not isinstance(layer, AntialiasedLayer):
            count += 1
        elif layer.weights_order():
            raise UnsupportedError(f"layout {layout!r} has no names for layer {index} [{layer.type}]")
        else:
            continue
        conv, norm = _port_names(layout, index, count)
        own = norm if any_layer.batch_normalize else conv
        result[f"{conv}.weight"] = any_layer.weights
        result[f"{own}.bias"] = any_layer.biases
        if any_layer.batch_normalize:
            result |= {f"{norm}.{name}": getattr(any_layer, a) for name, a in _NORM.items()}
            result[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)
    return {name: torch.from_numpy(np.array(_host(value))) for name, value in result.items()}


def weights_from_state_dict(
    state: Mapping[str, Any],
    cfg: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    epsilon: float | None = None,
    dialect: str | None = None,
    batchnorm: str | BatchNormConvention | None = None,
) -> Network:
    """Write the parameters of a cfg-shaped PyTorch model as a .weights file; returns the network.

    Args:
        state, epsilon: as in `load_state_dict`.
        cfg: the description that the model was made from.
        path: the file.
        dialect, batchnorm: as in `darkbn.load`.
    """
    net = load(cfg, dialect=dialect, batchnorm=batchnorm)
    load_state_dict(net, state, epsilon=epsilon)
    net.save_weights(path)
    return net


def _port_names(layout: str, index: int, count: int) -> tuple[str, str]:
    """Prefixes of a convolution's names and of its batch normalization's."""
    return {
        "ultralytics": (f"module_list.{index}.Conv2d", f"module_list.{index}.BatchNorm2d"),
        "eriklindernoren": (f"module_list.{index}.conv_{index}", f"module_list.{index}.batch_norm_{index}"),
        "pytorch-yolov4": (f"models.{index}.conv{count}", f"models.{index}.bn{count}"),
    }[layout]


def _groups(state: Mapping[str, Any]) -> dict[int, dict[str, dict[str, Array]]]:
    """{layer: {module: {parameter: values}}}; modules are "" where the layer itself has the parameter."""
    groups: dict[int, dict[str, dict[str, Array]]] = {}
    for key, value in state.items():
        match = re.fullmatch(r"(?:.*?\.)?(\d+)\.(?:(.+)\.)?([^.]+)", key)
        if match is None:
            raise DarkbnError(f"{key!r} does not say which layer it belongs to")
        index, module, name = int(match[1]), match[2] or "", match[3]
        if name != "num_batches_tracked":
            groups.setdefault(index, {}).setdefault(module, {})[name] = _host(value)
    return groups


def _host(value: Any) -> Array:
    value = value.detach().cpu() if hasattr(value, "detach") else value
    value = value.float() if hasattr(value, "float") else value
    return np.asarray(to_host(value))


def _arrays(index: int, layer: Any, modules: dict[str, dict[str, Array]], epsilon: float | None) -> dict[str, Array]:
    """A layer's arrays by darkbn's names."""
    found: dict[str, Array] = {}
    for values in modules.values():
        if "running_mean" in values:
            found |= {own: values[name] for name, own in _NORM.items() if name in values}
            if epsilon is not None and "running_var" in values:
                found["rolling_variance"] = _variance(layer, values["running_var"], epsilon)
        else:
            renamed = {"weight": "weights", "bias": "biases"}
            found |= {renamed.get(name, name): value for name, value in values.items()}
    names = layer.weights_order()
    if "biases" in names and "rolling_mean" in names and "rolling_mean" not in found and "biases" in found:
        one = np.ones_like(found["biases"], dtype=np.float64)
        found |= {"rolling_mean": 0 * one, "rolling_variance": one, "scales": one / layer.convention.inverse_root(one)}
    if "biases" not in names:
        found.pop("biases", None)  # [batchnorm] of dialect darknet has none
    missing, extra = [n for n in names if n not in found], [n for n in found if n not in names]
    if missing or extra:
        what = f"lacks {', '.join(missing)}" if missing else f"has no {', '.join(extra)}"
        subject = "the model" if missing else "the network"
        raise DarkbnError(f"layer {index} [{layer.type}]: {subject} {what}")
    return found


def _variance(layer: Any, variance: Array, epsilon: float) -> Array:
    """The variance whose root, by the layer's convention, is that of variance + epsilon."""
    c, wide = layer.convention, variance.astype(np.float64) + epsilon
    if c.epsilon_outside:
        return np.asarray(np.maximum(np.sqrt(wide) - c.epsilon, 0) ** 2)
    own = wide - c.epsilon
    if own.min() < 0:
        raise DarkbnError(
            f"layer {layer.context.index} [{layer.type}]: a variance of {variance.min():.3g} with epsilon {epsilon:g}"
            f" has no equal with the network's epsilon {c.epsilon:g}"
        )
    return np.asarray(own)
