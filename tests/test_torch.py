"""PyTorch modules of networks: values, gradients, files; parameters of other PyTorch programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest

import darkbn
from darkbn.conventions import CONVENTIONS
from darkbn.errors import DarkbnError, ShapeError, UnsupportedError

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import goldens  # noqa: E402
from test_onnx import ALEXEYAB, DARKNET, HEADS, random_net, some  # noqa: E402

from darkbn.interop.torch import (  # noqa: E402
    LAYOUTS,
    from_module,
    load_state_dict,
    state_dict,
    to_module,
    weights_from_state_dict,
)


def compare(net: Any, limit: float = 1e-5) -> None:
    x = np.random.default_rng(0).uniform(0, 1, net.input_shape).astype(np.float32)
    net.forward(x)
    with torch.no_grad():
        found = to_module(net)(torch.from_numpy(x))
    found = found if isinstance(found, tuple) else (found,)
    layers = net.heads or [net.output_layer]
    for one, layer in zip(found, layers, strict=True):
        assert goldens.error(one.numpy(), layer.output) < limit


@pytest.mark.parametrize(("cfg", "dialect"), [(DARKNET, "darknet"), (ALEXEYAB, "alexeyab"), *HEADS.values()])
def test_same_values(cfg: str, dialect: str) -> None:
    compare(random_net(cfg, dialect, batch=2))


@pytest.mark.parametrize("case", some("layer", "local", "shortcut-", "act-", "maxpool"))
def test_layers_of_the_reference_cases(case: goldens.Case) -> None:
    net = case.load()
    recurrent = ("rnn", "gru", "lstm", "crnn", "conv_lstm", "history")
    if any(layer.type in recurrent for layer in net.layers):
        with pytest.raises(UnsupportedError, match=r"no PyTorch module for layer \d+ \["):
            to_module(net)
    else:
        compare(net)


NORMALIZED = """
[net]
batch=4
width=6
height=5
channels=3
[convolutional]
batch_normalize=1
filters=5
size=3
pad=1
activation=leaky
[connected]
batch_normalize=1
output=7
activation=linear
"""


@pytest.mark.parametrize("name", [n for n, c in CONVENTIONS.items() if c.rolling_decay_connected is None])
def test_training_by_every_convention(name: str) -> None:
    """Outputs, rolling statistics, and gradients of parameters and input in training."""
    net = random_net(NORMALIZED, "darknet", batch=4, train=True, batchnorm=name)
    module = to_module(net).train()
    rng = np.random.default_rng(7)
    x, delta = rng.normal(0, 1, net.input_shape), rng.normal(0, 1, (4, 7))
    given = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    found = module(given)
    found.backward(torch.tensor(delta, dtype=torch.float32))
    net.forward(x, train=True)
    net.layers[-1].delta[...] = delta
    net.backward()
    assert goldens.error(found.detach().numpy(), net.layers[-1].output) < 1e-5
    assert goldens.error(given.grad.numpy(), net.input_delta) < 1e-4
    for block, layer in zip(module.layers, net.layers, strict=True):
        pairs = {"weight_updates": block.conv.weight, "scale_updates": block.norm.weight}
        pairs["bias_updates"] = block.norm.bias
        for array, parameter in pairs.items():
            gradient = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
            assert goldens.error(gradient, getattr(layer, array)) < 1e-4, array
        assert goldens.error(block.norm.running_mean.numpy(), layer.rolling_mean) < 1e-5
        assert goldens.error(block.norm.running_var.numpy(), layer.rolling_variance) < 1e-5
    native = name in ("cudnn", "pytorch")
    assert (type(module.layers[0].norm) is torch.nn.BatchNorm2d) == native


def test_one_value_per_channel_is_refused() -> None:
    module = to_module(random_net(NORMALIZED, "darknet")).train()
    with pytest.raises(ValueError, match="one value per channel"):
        module(torch.zeros(1, 3, 5, 6))


@pytest.mark.parametrize("cfg", [DARKNET, ALEXEYAB, networks.TWO_HEADS, networks.CLASSIFIER])
@pytest.mark.parametrize("batchnorm", ["darknet", "pytorch"])
def test_files_come_back_byte_for_byte(cfg: str, batchnorm: str, tmp_path: Path) -> None:
    dialect = "alexeyab" if cfg is ALEXEYAB else "darknet"
    net = random_net(cfg, dialect, batchnorm=batchnorm)
    net.seen = 12345 * net.batch
    net.save_weights(tmp_path / "before.weights")
    other = darkbn.load(cfg, dialect=dialect, batchnorm=batchnorm, seed=9)
    from_module(to_module(net), other).save_weights(tmp_path / "after.weights")
    assert (tmp_path / "after.weights").read_bytes() == (tmp_path / "before.weights").read_bytes()


# -- other programs


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_other_programs(layout: str, prefix: str, tmp_path: Path) -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    net.save_weights(tmp_path / "before.weights")
    state = {prefix + key: value for key, value in state_dict(net, layout).items()}
    weights_from_state_dict(state, networks.TWO_HEADS, tmp_path / "after.weights", dialect="darknet")
    assert (tmp_path / "after.weights").read_bytes() == (tmp_path / "before.weights").read_bytes()


def test_names_of_the_layouts() -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    assert {"module_list.0.Conv2d.weight", "module_list.0.BatchNorm2d.running_var", "module_list.4.Conv2d.bias"} <= set(
        state_dict(net, "ultralytics")
    )
    assert {"module_list.1.conv_1.weight", "module_list.1.batch_norm_1.bias"} <= set(state_dict(net, "eriklindernoren"))
    assert {"models.0.conv1.weight", "models.1.bn2.weight", "models.4.conv3.bias"} <= set(
        state_dict(net, "pytorch-yolov4")
    )


@pytest.mark.parametrize("batchnorm", ["darknet", "alexeyab-gpu"])
def test_a_fused_model(batchnorm: str) -> None:
    net = random_net(networks.TWO_HEADS, "darknet", batchnorm=batchnorm)
    state = state_dict(net, "ultralytics")
    for index in (0, 1):
        norm = {n: state.pop(f"module_list.{index}.BatchNorm2d.{n}").numpy() for n in ("weight", "bias")}
        mean, var = (state.pop(f"module_list.{index}.BatchNorm2d.running_{n}").numpy() for n in ("mean", "var"))
        del state[f"module_list.{index}.BatchNorm2d.num_batches_tracked"]
        factor = norm["weight"] * net.convention.inverse_root(var)
        key = f"module_list.{index}.Conv2d"
        state[f"{key}.weight"] = state[f"{key}.weight"] * torch.from_numpy(factor).reshape(-1, 1, 1, 1)
        state[f"{key}.bias"] = torch.from_numpy(norm["bias"] - mean * factor)
    other = darkbn.load(networks.TWO_HEADS, dialect="darknet", batchnorm=batchnorm)
    load_state_dict(other, state)
    x = np.random.default_rng(0).uniform(0, 1, net.input_shape)
    assert goldens.error(other.forward(x), net.forward(x)) < 1e-5


@pytest.mark.parametrize("batchnorm", ["darknet", "alexeyab-gpu"])
def test_another_epsilon(batchnorm: str) -> None:
    source = random_net(networks.TWO_HEADS, "darknet", batchnorm="keras")  # 1e-3 in the root
    net = darkbn.load(networks.TWO_HEADS, dialect="darknet", batchnorm=batchnorm)
    state = state_dict(source, "eriklindernoren")
    x = np.random.default_rng(0).uniform(0, 1, net.input_shape)
    load_state_dict(net, state, epsilon=1e-3)
    assert goldens.error(net.forward(x), source.forward(x)) < 1e-5
    load_state_dict(net, state)
    assert goldens.error(net.forward(x), source.forward(x)) > 1e-4


def test_parameters_that_do_not_fit() -> None:
    net = random_net(networks.TWO_HEADS, "darknet")
    before = [layer.weights.copy() for layer in net.layers if layer.weights_order()]
    state = state_dict(net, "ultralytics")

    def wrong(change: dict[str, Any], without: str = "-") -> dict[str, Any]:
        return {**{k: v + 1 for k, v in state.items() if without not in k}, **change}

    for bad, error, text in (
        (wrong({"module_list.9.Conv2d.weight": torch.zeros(2)}), ShapeError, "layer 9 [convolutional] weights"),
        (wrong({}, "4.Conv2d.weight"), DarkbnError, "layer 4 [convolutional]: the model lacks weights"),
        (wrong({"module_list.99.Conv2d.weight": torch.zeros(2)}), DarkbnError, "parameters of layer 99"),
        (wrong({"module_list.4.BatchNorm2d.running_mean": torch.zeros(16)}), DarkbnError, "the network has no rolling"),
        (wrong({"stem.weight": torch.zeros(2)}), DarkbnError, "'stem.weight' does not say"),
    ):
        with pytest.raises(error, match=re.escape(text)):
            load_state_dict(net, bad)
    after = [layer.weights for layer in net.layers if layer.weights_order()]
    assert all((a == b).all() for a, b in zip(after, before, strict=True))
    with pytest.raises(UnsupportedError, match="layout must be one of"):
        state_dict(net, "mmdetection")
    with pytest.raises(UnsupportedError, match=r"no names for layer 2 \[connected\]"):
        state_dict(random_net(networks.CLASSIFIER, "darknet"), "ultralytics")
