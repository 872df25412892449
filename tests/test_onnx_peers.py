"""OpenCV 5 and OpenVINO run exported models with darkbn's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goldens
import networks
import numpy as np
import pytest

import darkbn

pytest.importorskip("onnx")

from darkbn.interop.onnx import export_onnx

#: Official networks, by reference case; resnet50 of pjreddie is there as resnext50.
OFFICIAL = (
    "net__yolov3__pjreddie",
    "net__yolov4-tiny__alexeyab",
    "net__yolov7-tiny__alexeyab",
    "net__resnext50__pjreddie",
)


def opencv5(path: Path, x: Any) -> list[Any]:
    """Outputs that OpenCV computes, in the order of the model's."""
    cv2 = pytest.importorskip("cv2")
    if cv2.__version__ < "5":
        pytest.skip("needs OpenCV 5")
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(x)
    names = net.getUnconnectedOutLayersNames()
    found = net.forward(names)
    return [np.asarray(value) for _, value in sorted(zip(names, found, strict=True))]


def openvino(path: Path, x: Any) -> list[Any]:
    """Outputs that OpenVINO computes, in float32, by their names."""
    runtime = pytest.importorskip("openvino")
    core = runtime.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    model = core.compile_model(str(path), "CPU")
    found = model([x])
    return [found[output] for output in sorted(model.outputs, key=lambda output: output.any_name)]


PEERS = {"opencv5": opencv5, "openvino": openvino}


def check(peer: str, net: Any, tmp_path: Path, heads: str = "raw", limit: float = 1e-4) -> None:
    result = export_onnx(net, tmp_path / "model.onnx", heads=heads, verify=False)
    x = np.random.default_rng(1).uniform(0, 1, net.input_shape).astype(np.float32)
    found = PEERS[peer](tmp_path / "model.onnx", x)
    net.forward(x)
    if heads == "raw":
        layers = {f"layer_{l.context.index}": l.output for l in net.heads or [net.output_layer]}
        expected = [layers[name] for name in sorted(result.outputs)]
    else:
        rows = np.concatenate([head.detections(0, -np.inf, 1) for head in net.heads])
        expected = [rows[np.newaxis, :, :4], rows[np.newaxis, :, 5:]]
    for one, other in zip(found, expected, strict=True):
        assert goldens.error(one, other) < limit


@pytest.mark.parametrize("heads", ["raw", "decoded"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_small_detector(peer: str, heads: str, tmp_path: Path) -> None:
    check(peer, darkbn.load(networks.TWO_HEADS, seed=1), tmp_path, heads)


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_networks(name: str, peer: str, tmp_path: Path) -> None:
    path = goldens.folder() / f"{name}.npz"
    if not path.exists():
        pytest.skip("needs the reference cases: set DARKBN_REFERENCE")
    case = goldens.Case(path)
    goldens.helper().write_weights(case.data, tmp_path / "net.weights")
    check(peer, case.load(tmp_path / "net.weights"), tmp_path)
