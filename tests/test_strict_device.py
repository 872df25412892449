"""Everything that a network does, on arrays as strict as CuPy's: what a GPU would run, without one (fake_cupy.py).

The kernels are the emulated ones, so that results must have the bits of device "emulated". Where arrays go to NumPy and
back is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest
from goldens import Case, cases, set_parameters
from networks import CLASSIFIER, TWO_HEADS
from test_devices import labels
from test_goldens import region_seen
from test_sections import GRADIENTS

import darkbn
from darkbn.backend import to_host
from darkbn.errors import NonFiniteError, TrainingError
from darkbn.inspection import inspect
from darkbn.interop.npz import load_npz, save_npz
from darkbn.recalibrate import recalibrate
from darkbn_gpu import emulation

pytestmark = pytest.mark.skipif(not emulation.available()[0], reason=emulation.available()[1])


@pytest.fixture
def gpu() -> Iterator[fake_cupy.Device]:
    with fake_cupy.installed() as device:
        yield device


def arrays(net: darkbn.Network) -> dict[str, np.ndarray]:
    """All declared arrays of a network, on the host."""
    return {
        f"{index}.{prefix}{buffer.name}": np.array(to_host(getattr(part, buffer.name)))
        for index, layer in enumerate(net.layers)
        for prefix, part in layer.walk()
        for buffer in part.all_buffers()
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    wrong = [key for key in expected if not np.array_equal(found[key], expected[key], equal_nan=True)]
    assert found.keys() == expected.keys()
    assert not wrong, f"other bits than emulated: {wrong}"


def whole_life(net: darkbn.Network, x: Any, truth: Any, delta: Any = None) -> dict[str, Any]:
    """A training pass, a step and a prediction; all arrays, the cost and how often the host read until then."""
    net.check_finite = False
    before = fake_cupy.device.reads
    net.forward(x, truth, train=True)
    if delta is not None:
        net.backend.assign(net.layers[-1].delta, delta.reshape(net.layers[-1].delta.shape))
    net.backward()
    net.update()
    found: dict[str, Any] = {"cost": np.array(net.cost or 0)}
    assert fake_cupy.device.reads - before <= 1, "training reads more than the losses"
    plan = net.current_plan()
    before = fake_cupy.device.reads
    net.forward(x)
    plan(x)
    assert fake_cupy.device.reads == before, "inference reads something"
    found["predicted"] = np.array(to_host(net.output_layer.output))
    found |= arrays(net)
    net.to("cpu")
    assert all(np.array_equal(value, found[key], equal_nan=True) for key, value in arrays(net).items())
    return found


#: A case of every section: the smallest of those with a training step.
def _chosen() -> list[Any]:
    smallest: dict[tuple[str, str], Any] = {}
    for parameter in cases("layer"):
        case = parameter.values[0]
        if case is not None and case.keys(r"train\.0\..*") and not case.departures():
            size = case.path.stat().st_size
            key = (case.name.split("__")[1].split("-")[0], case.oracle)
            if key not in smallest or size < smallest[key][0]:
                smallest[key] = (size, parameter)
    return [parameter for _, parameter in smallest.values()] or cases("layer")


@pytest.mark.parametrize("case", _chosen())
def test_sections_of_both_darknets(case: Case, gpu: fake_cupy.Device) -> None:
    results = []
    for device in ("gpu", "emulated"):
        net = case.load(train=True, device=device)
        set_parameters(net, case.tree("init"))
        net.seen = region_seen(case)
        results.append(whole_life(net, case["input"], case.data.get("truth"), case.data.get("back.0.delta_last")))
    assert_same(*results)


@pytest.mark.parametrize("name", GRADIENTS)
def test_sections(name: str, gpu: fake_cupy.Device) -> None:
    dialect, text = GRADIENTS[name]
    results = []
    for device in ("gpu", "emulated"):
        net = darkbn.load(text, train=True, device=device, dialect=dialect, seed=3)
        rng = np.random.default_rng(0)
        x, delta = rng.random(net.input_shape), rng.random(net.layers[-1].output.shape)
        results.append(whole_life(net, x, None, delta))
    assert_same(*results)


OPTIONS = {
    "adam, averages and clipping": "adam=1\nema_alpha=0.9\nclip=0.5\nmax_batches=2",
    "rejected labels": "max_batches=4\nnum_sigmas_reject_badlabels=2\nbadlabels_rejection_percentage=1",
    "similar filters": "weights_reject_freq=1\nmax_batches=100",
    "deltas within 1": "try_fix_nan=1",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_training(name: str, gpu: fake_cupy.Device) -> None:
    text = TWO_HEADS.replace("max_batches=100", OPTIONS[name]).replace("batch=4\nsubdivisions=2", "batch=2")
    results = []
    for device in ("gpu", "emulated"):
        net = darkbn.load(text, train=True, device=device, dialect="alexeyab", seed=3)
        rng = np.random.default_rng(0)
        truth = np.zeros((net.batch, 200, 6))
        truth[:, 0] = 0.4, 0.6, 0.3, 0.5, 1, 0
        costs = [net.train_step(rng.random(net.input_shape), truth.reshape(net.batch, -1)) for _ in range(6)]
        results.append({"costs": costs, **arrays(net)})
    assert_same(*results)


def test_a_training_step_reads_losses_and_whether_updates_are_finite(gpu: fake_cupy.Device) -> None:
    net = darkbn.load(TWO_HEADS, train=True, device="gpu", seed=3)
    x, truth = np.ones(net.input_shape, np.float32), labels(net)
    reads = []
    for _ in range(4):
        before = gpu.reads
        net.train_step(x, truth)
        reads.append(gpu.reads - before)
    assert reads == [1, 2, 1, 2]  # two heads; every second pass makes a step
    net.check_finite = False
    before = gpu.reads
    net.train_step(x, truth)
    assert gpu.reads == before + 1


def test_prediction_reads_nothing(gpu: fake_cupy.Device) -> None:
    net = darkbn.load(CLASSIFIER, device="gpu", seed=3)
    x = np.ones((3, *net.input_shape[1:]), np.float32)
    net.predict(x)
    before = gpu.reads
    found = net.predict(x)
    assert isinstance(found, fake_cupy.ndarray)
    assert gpu.reads == before


def test_nan_is_found(gpu: fake_cupy.Device) -> None:
    net = darkbn.load(TWO_HEADS, train=True, device="gpu", seed=3)
    net.layers[1].weights[2, 1, 0, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"layer 1 \[convolutional\] weights: 1 of 576 .* at \(2, 1, 0, 1\)"):
        net.train_step(np.ones(net.input_shape), labels(net))


def test_wrong_labels_are_refused(gpu: fake_cupy.Device) -> None:
    net = darkbn.load(TWO_HEADS, train=True, device="gpu", seed=3)
    truth = labels(net)
    truth[1, 4] = 7
    with pytest.raises(TrainingError, match=r"truth of image 1, box 0 .* has a class that does not exist"):
        net.train_step(np.ones(net.input_shape), net.backend.array(truth))


def test_files(gpu: fake_cupy.Device, tmp_path: Path) -> None:
    """Weights, training state and parameters as .npz, from a device and back."""
    net = darkbn.load(TWO_HEADS, train=True, device="gpu", seed=3)
    x, truth = np.random.default_rng(0).random(net.input_shape), labels(net)
    net.train_step(x, truth)
    net.save_weights(tmp_path / "a.weights")
    net.save_training_state(tmp_path / "a.npz")
    save_npz(net, tmp_path / "b.npz")
    others = [darkbn.load(TWO_HEADS, train=True, device="gpu", seed=seed) for seed in (4, 5, 6)]
    others[0].load_weights(tmp_path / "a.weights")
    others[1].load_training_state(tmp_path / "a.npz")
    load_npz(others[2], tmp_path / "b.npz")
    weights = [np.array(to_host(other.layers[1].weights)) for other in (net, *others)]
    assert all(np.array_equal(one, weights[0]) for one in weights)
    costs = {other.train_step(x, truth) for other in (net, others[1])}
    assert len(costs) == 1
    assert_same(arrays(others[1]), arrays(net))


PICTURES = """
[net]
width=10
height=12
channels=3

[convolutional]
filters=5
size=3
pad=1
activation=leaky

[avgpool]

[softmax]
"""


def picture() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (19, 31, 3), np.uint8)


def test_pictures(gpu: fake_cupy.Device) -> None:
    detector, classifier = (
        [darkbn.load(text, device=device, dialect="alexeyab", seed=3) for device in ("gpu", "emulated")]
        for text in (TWO_HEADS, PICTURES)
    )
    found, expected = (net.detect(picture(), threshold=0.2, names=["a", "b", "c"]) for net in detector)
    assert found == expected
    assert found
    names = [str(i) for i in range(classifier[0].output_layer.outputs)]
    for tall in (False, True):
        shown = picture().transpose(1, 0, 2) if tall else picture()
        found, expected = (net.classify(shown, names=names) for net in classifier)
        assert found == expected


HEADS = {
    "yolo": ("darknet", "[yolo]\nclasses=3\nmask=0,1\nnum=2\nanchors=3,4, 6,5"),
    "region": ("darknet", "[region]\nclasses=3\nnum=2\nsoftmax=1\nanchors=1,2, 2,1"),
    "region by place": ("alexeyab", "[region]\nclasses=3\nnum=2\nsoftmax=1\nanchors=1,2, 2,1"),
    "gaussian": ("alexeyab", "[Gaussian_yolo]\nclasses=3\nmask=0,1\nnum=2\nanchors=3,4, 6,5"),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_picture_goes_up_and_candidates_come_down(name: str, gpu: fake_cupy.Device) -> None:
    """Bytes as they are, scaled on the device; rows of boxes that may be something."""
    dialect, head = HEADS[name]
    filters = 24 if name == "gaussian" else 16
    text = PICTURES.partition("[avgpool]")[0] + f"[convolutional]\nfilters={filters}\nactivation=linear\n\n{head}\n"
    nets = [darkbn.load(text, device=device, dialect=dialect, seed=3) for device in ("gpu", "emulated")]
    for net in nets:
        net.layers[1].weights *= 30  # some are sure of something
    nets[0].warmup()
    uploads, reads, before = gpu.uploads, gpu.reads, gpu.downloads
    results = [net.detect(picture(), threshold=0.3, names=["a", "b", "c"]) for net in nets]
    assert results[0] == results[1]
    assert results[0]
    small = 64  # places of anchors, sizes
    assert picture().nbytes <= gpu.uploads - uploads <= picture().nbytes + small
    assert gpu.reads - reads <= 2  # how many, and which
    assert gpu.downloads - before < nets[0].heads[0].output.nbytes


def test_what_looks_at_parameters(gpu: fake_cupy.Device) -> None:
    results = []
    for device in ("gpu", "emulated"):
        net = darkbn.load(TWO_HEADS, device=device, seed=3)
        seen = str(inspect(net))
        moved = str(recalibrate(net, [np.random.default_rng(1).random(net.input_shape)] * 2))
        folded = str([np.array(to_host(l.weights)) for l in net.fold().network.layers if hasattr(l, "weights")])
        results.append([seen, moved, folded])
        assert net.profile(repeat=1).steps
    assert results[0] == results[1]


def test_the_fake_is_as_strict_as_cupy(gpu: fake_cupy.Device) -> None:
    array = fake_cupy.module().zeros((2, 3))
    for wrong in (lambda: np.asarray(array), lambda: np.sqrt(array), lambda: np.concatenate([array])):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (lambda: array + np.ones(3), lambda: np.ones(3) * array, lambda: fake_cupy.module().sqrt(np.ones(3))):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match="Unsupported type"):
        array[0] = np.ones(3)


def test_cupy_has_what_the_fake_has() -> None:
    cupy = pytest.importorskip("cupy")
    fake = vars(fake_cupy.module())
    assert not [name for name in fake if not hasattr(cupy, name)]
    assert not [name for name in vars(fake["cuda"]) if not hasattr(cupy.cuda, name)]
    public = [name for name in vars(fake_cupy.ndarray) if not name.startswith("_") and name != "host"]
    assert not [name for name in public if not hasattr(cupy.ndarray, name)]
    for kind, real in ((fake_cupy.Stream, cupy.cuda.Stream), (fake_cupy.Graph, cupy.cuda.Graph)):
        assert not [name for name in vars(kind) if not name.startswith("_") and not hasattr(real, name)]
