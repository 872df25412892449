"""The reader with OpenCV's methods, against OpenCV 4's own importer, and OpenCV 5 and OpenVINO on exported models.

OpenCV 4 and 5 cannot be installed together: DARKBN_OPENCV4 names a Python that has OpenCV 4 (and NumPy).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import goldens
import networks
import numpy as np
import pytest

import darkbn
from darkbn import blob_from_image, read_net_from_darknet
from darkbn.errors import DarkbnError, ShapeError, UnsupportedError
from darkbn.imageio import read_pixels
from darkbn.interop.opencv import blob_from_images

#: Runs in the other Python: argv are cfg, weights, input and output files.
PROGRAM = """
import sys
import cv2
import numpy as np
cfg, weights, given, result = sys.argv[1:]
files = np.load(given)
net = cv2.dnn.readNetFromDarknet(cfg, weights)
names = net.getUnconnectedOutLayersNames()
out = {"layer_names": net.getLayerNames(), "out_names": names, "out_ids": net.getUnconnectedOutLayers()}
for key in files:
    net.setInput(files[key])
    for name, value in zip(names, net.forward(names)):
        out[f"{key}.{name}"] = value
    out[f"{key}.last"] = net.forward()
np.savez(result, **out)
"""

#: OpenCV adds 1e-6 to the variance, whatever the dialect.
CONVENTION = dataclasses.replace(darkbn.get_convention("alexeyab-gpu"), name="opencv", epsilon=1e-6)

REGION = """
[net]
width=64
height=48
channels=3
[convolutional]
filters=8
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=1
[reorg]
stride=2
[route]
layers=-1
[convolutional]
filters=24
size=1
activation=linear
[region]
classes=3
num=3
softmax=1
anchors=1,2,3,4,1,1
"""

BODY = """
[net]
width=32
height=64
channels=3
[convolutional]
filters=8
size=3
stride=2
pad=1
groups=1
batch_normalize=1
activation=mish
[convolutional]
filters=8
size=3
pad=1
batch_normalize=1
activation=swish
[shortcut]
from=-2
activation=linear
[route]
layers=-1
groups=2
group_id=1
[upsample]
stride=2
[route]
layers=-1,-2
[avgpool]
[connected]
output=5
activation=linear
[softmax]
"""

NETS = {
    "two-heads": networks.TWO_HEADS,
    "spread": networks.TWO_HEADS.replace("num=4", "num=4\nscale_x_y=1.2"),
    "new-coords": networks.TWO_HEADS.replace("num=4", "num=4\nnew_coords=1\nscale_x_y=2").replace(
        "=linear\n\n[y", "=logistic\n\n[y"
    ),
    "region": REGION,
    "region-thresh": REGION + "thresh=.3\n",
    "body": BODY.replace("[route]\nlayers=-1,-2\n", ""),
}


def opencv4() -> str | None:
    """A Python with OpenCV 4."""
    if os.environ.get("DARKBN_OPENCV4"):
        return os.environ["DARKBN_OPENCV4"]
    if importlib.util.find_spec("cv2") is None:
        return None
    import cv2

    return sys.executable if cv2.__version__ < "5" else None


needs_opencv4 = pytest.mark.skipif(opencv4() is None, reason="needs OpenCV 4; DARKBN_OPENCV4 can name its Python")


def random_files(cfg: str, tmp_path: Path) -> tuple[Path, Path]:
    """A network with random parameters: cfg and weights."""
    net = darkbn.load(cfg, dialect="alexeyab", seed=3)
    rng = np.random.default_rng(4)
    for layer in net.layers:
        for name in layer.weights_order():
            array = getattr(layer, name)
            if name == "rolling_variance":
                array[...] = rng.uniform(0.5, 1.5, array.shape)
            elif name != "weights":
                array[...] = rng.normal(0.2, 0.5, array.shape)
    (tmp_path / "net.cfg").write_text(cfg)
    net.save_weights(tmp_path / "net.weights")
    return tmp_path / "net.cfg", tmp_path / "net.weights"


def run_opencv4(cfg: Path, weights: Path, inputs: dict[str, Any], folder: Path) -> Any:
    np.savez(folder / "in.npz", **inputs)
    command = [opencv4(), "-c", PROGRAM, str(cfg), str(weights), str(folder / "in.npz"), str(folder / "out.npz")]
    subprocess.run(command, check=True, capture_output=True, text=True)  # type: ignore[arg-type]
    return np.load(folder / "out.npz")


def compare(net: Any, inputs: dict[str, Any], expected: Any, limit: float) -> None:
    assert net.getLayerNames() == tuple(expected["layer_names"])
    names = net.getUnconnectedOutLayersNames()
    assert names == tuple(expected["out_names"])
    assert net.getUnconnectedOutLayers().tolist() == expected["out_ids"].tolist()
    for key, blob in inputs.items():
        net.setInput(blob)
        for name, found in zip(names, net.forward(names), strict=True):
            wanted = expected[f"{key}.{name}"]
            assert found.shape == wanted.shape
            assert found.dtype == np.float32
            assert goldens.error(found, wanted) < limit
        assert goldens.error(net.forward(), expected[f"{key}.last"]) < limit


@needs_opencv4
@pytest.mark.parametrize("name", NETS)
def test_values_and_layout_of_opencv4(name: str, tmp_path: Path) -> None:
    files = random_files(NETS[name], tmp_path)
    net = read_net_from_darknet(*files, dialect="alexeyab", batchnorm=CONVENTION)
    rng = np.random.default_rng(5)
    size = (net.network.height, net.network.width)
    sizes = {"one": (1, *size), "two": (2, *size)}
    if name != "body":
        sizes["other"] = (1, size[0] * 2, size[1])
    else:
        del sizes["two"]
    inputs = {key: rng.uniform(0, 1, (s[0], 3, *s[1:])).astype(np.float32) for key, s in sizes.items()}
    compare(net, inputs, run_opencv4(*files, inputs, tmp_path), 1e-5)


@needs_opencv4
def test_trained_model_as_in_opencv4(tmp_path: Path) -> None:
    folder = goldens.folder() / "models" / "yolo-fastest-1.1"
    if not folder.exists():
        pytest.skip("needs the reference models: set DARKBN_REFERENCE")
    files = folder / "yolo-fastest-1.1.cfg", folder / "yolo-fastest-1.1.weights"
    picture = read_pixels(goldens.folder() / "images" / "dog.jpg")
    inputs = {"picture": blob_from_image(picture, 1 / 255, (320, 320))}
    expected = run_opencv4(*files, inputs, tmp_path)
    compare(read_net_from_darknet(*files, batchnorm=CONVENTION), inputs, expected, 1e-5)
    # The dialect's epsilon, 1e-5, moves the numbers by more.
    net = read_net_from_darknet(*files)
    net.setInput(inputs["picture"])
    assert goldens.error(net.forward("yolo_130"), expected["picture.yolo_130"]) > 1e-4


BLOB = """
import sys
import cv2
import numpy as np
given, result = sys.argv[1:]
picture = np.load(given)
blob = cv2.dnn.blobFromImage
np.savez(
    result,
    same=blob(picture),
    scaled=blob(picture, 1 / 255, (64, 48), swapRB=True),
    larger=blob(picture, 1 / 255, (160, 150)),
    mean=blob(picture, 0.5, (64, 48), (10, 20, 30), swapRB=True),
    crop=blob(picture, 1.0, (64, 32), crop=True),
    floats=blob(picture.astype(np.float32), 1.0, (50, 90)),
    gray=blob(picture[:, :, 0], 1.0, (50, 30)),
)
"""


@needs_opencv4
def test_blobs_of_opencv4(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    picture = np.kron(rng.integers(0, 256, (11, 13, 3)), np.ones((7, 6, 1))).astype(np.uint8)
    np.save(tmp_path / "in.npy", picture)
    command = [opencv4(), "-c", BLOB, str(tmp_path / "in.npy"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, capture_output=True, text=True)  # type: ignore[arg-type]
    expected = np.load(tmp_path / "out.npz")
    found = {
        "same": (blob_from_image(picture), 0),
        "scaled": (blob_from_image(picture, 1 / 255, (64, 48), swapRB=True), 1.01 / 255),
        "larger": (blob_from_image(picture, 1 / 255, (160, 150)), 1.01 / 255),
        "mean": (blob_from_image(picture, 0.5, (64, 48), (10, 20, 30), swapRB=True), 0.501),
        "crop": (blob_from_image(picture, 1.0, (64, 32), crop=True), 1.01),
        "floats": (blob_from_image(picture.astype(np.float32), 1.0, (50, 90)), 1e-3),
        "gray": (blob_from_image(picture[:, :, 0], 1.0, (50, 30)), 1.01),
    }
    for name, (blob, limit) in found.items():
        assert blob.shape == expected[name].shape, name
        assert np.abs(blob - expected[name]).max() <= limit, name


# -- without OpenCV


def test_migration(tmp_path: Path) -> None:
    """What programs do with the object."""
    net = read_net_from_darknet(*random_files(networks.TWO_HEADS, tmp_path))
    names = net.getLayerNames()
    assert names[:3] == ("conv_0", "bn_0", "leaky_1")
    assert [names[i - 1] for i in net.getUnconnectedOutLayers()] == ["yolo_5", "yolo_10"]
    picture = np.zeros((40, 30, 3), np.uint8)
    net.setInput(blob_from_image(picture, 1 / 255, (16, 16), swapRB=True))
    first, second = net.forward(net.getUnconnectedOutLayersNames())
    assert (first.shape, second.shape) == ((32, 8), (128, 8))
    assert net.forward().shape == (128, 8)
    ticks, _ = net.getPerfProfile()
    assert ticks > 0
    assert net.getLayerId("yolo_5") == names.index("yolo_5") + 1
    assert net.getLayerId("nothing") == -1
    (weights,) = net.getLayer("conv_0").blobs
    assert weights.shape == (8, 3, 3, 3)
    assert [b.shape for b in net.getLayer("bn_0").blobs] == [(8,)] * 4
    assert net.getLayer(net.getLayerId("leaky_1")).type == "ReLU"
    assert net.getLayersCount("Region") == 2
    assert not net.empty()


def test_values_between_layers(tmp_path: Path) -> None:
    net = read_net_from_darknet(*random_files(networks.TWO_HEADS, tmp_path))
    x = np.random.default_rng(0).uniform(0, 1, (3, 3, 16, 16)).astype(np.float32)
    net.setInput(x)
    found = net.forward("leaky_1")
    assert found.shape == (3, 8, 8, 8)
    for image in range(3):
        net.network.forward(x[image : image + 1])
        assert (found[image] == net.network.layers[0].output[0]).all()
    with pytest.raises(UnsupportedError, match=r"conv_0 is a part of Darknet's layer 0, .*: leaky_1"):
        net.forward("conv_0")


def test_wrong_use(tmp_path: Path) -> None:
    net = read_net_from_darknet(*random_files(networks.TWO_HEADS, tmp_path))
    with pytest.raises(DarkbnError, match="call setInput first"):
        net.forward()
    with pytest.raises(ShapeError, match=r"expected a blob of shape \(images, 3, height, width\)"):
        net.setInput(np.zeros((3, 16, 16)))
    with pytest.raises(DarkbnError, match="there is no input 'other'"):
        net.setInput(np.zeros((1, 3, 16, 16)), "other")
    net.setInput(np.zeros((1, 3, 16, 16)))
    with pytest.raises(DarkbnError, match="there is no layer 'yolo_6'"):
        net.forward("yolo_6")
    with pytest.raises(DarkbnError, match="numbers are 0 to"):
        net.getLayer(99)
    with pytest.raises(ShapeError, match="expected a picture"):
        blob_from_image(np.zeros(3))
    with pytest.raises(ShapeError, match="different sizes need size="):
        blob_from_images([np.zeros((2, 3, 3)), np.zeros((3, 3, 3))])


def test_mean_and_scale_of_set_input(tmp_path: Path) -> None:
    net = read_net_from_darknet(*random_files(networks.TWO_HEADS, tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16)).astype(np.float32)
    net.setInput(picture, scalefactor=1 / 255, mean=(1, 2, 3))
    found = net.forward()
    net.setInput((picture - np.array([1, 2, 3]).reshape(1, 3, 1, 1)) / 255)
    assert goldens.error(found, net.forward()) < 1e-5
