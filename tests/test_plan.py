"""Plans: equal to `forward` for every section, never stale, safe in several threads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import Case, cases, error
from networks import CLASSIFIER, TWO_HEADS

import darkbn
from darkbn.errors import DarkbnError, ShapeError
from darkbn.layers.base import Role
from darkbn.network import Network

#: Relative to the largest magnitude of an output.
LIMIT = 1e-5


def randomize(net: Network, seed: int = 0) -> None:
    """Statistics and scales as after training."""
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        for _, part in layer.walk():
            for buffer in part.buffers():
                if buffer.role is Role.STATISTIC or buffer.name in ("scales", "biases"):
                    getattr(part, buffer.name)[...] = rng.uniform(0.5, 1.5, buffer.shape)


def inputs(net: Network, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(net.input_shape, dtype=np.float32)


def differences(net: Network, outputs: Any = None, passes: int = 2) -> list[str]:
    """Where a plan's outputs differ from those of `forward`, over some passes from the same state."""
    plan = net.compile(outputs)
    xs, wrong = [inputs(net, seed) for seed in range(passes)], []
    net.reset_state()
    expected = []
    for x in xs:
        net.forward(x)
        expected.append([net.layers[index].output.copy() for index in plan.outputs])
    net.reset_state()
    for x, values in zip(xs, expected, strict=True):
        for index in plan.outputs:
            net.layers[index].output.fill(np.nan)
        for index, found, value in zip(plan.outputs, plan(x), values, strict=True):
            if not error(found, value) <= LIMIT:
                wrong.append(f"layer {index} [{net.layers[index].type}]: error {error(found, value):.3g}")
    return wrong


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("text", [TWO_HEADS, CLASSIFIER], ids=["two heads", "classifier"])
def test_a_plan_equals_forward(text: str, batch: int) -> None:
    net = darkbn.load(text, batch=batch, seed=1)
    randomize(net)
    assert differences(net) == []
    assert differences(net, range(len(net.layers))) == []


@pytest.mark.parametrize("case", cases("layer"))
def test_every_section_in_a_plan(case: Case) -> None:
    """The small networks of the reference cases: all sections and options, both dialects, batches above 1."""
    net = case.load(seed=3)
    randomize(net)
    # A [cost] has no output when nothing is trained.
    assert differences(net, [i for i, l in enumerate(net.layers) if l.type != "cost"]) == []
    assert differences(net) == []


def residuals(c: int, batch: int = 1) -> Network:
    """Shortcuts, a concatenation, SPP, a split, an upsampling: channels that fill blocks and that do not."""
    conv = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize={}\npad=1\nactivation={}\n"
    text = f"[net]\nwidth=13\nheight=13\nchannels=3\nbatch={batch}\n" + conv.format(c, 3, "mish")
    text += (conv.format(c, 1, "leaky") + conv.format(c, 3, "swish") + "[shortcut]\nfrom=-3\nactivation=leaky\n") * 2
    for back, size in ((1, 5), (2, 9), (4, 13)):
        text += (f"[route]\nlayers=-{back}\n" if back > 1 else "") + f"[maxpool]\nstride=1\nsize={size}\n"
    text += "[route]\nlayers=-1,-3,-5,-6\n" + conv.format(2 * c, 1, "relu")
    text += "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n" + conv.format(c, 3, "logistic")
    text += "[shortcut]\nfrom=-3\nactivation=leaky\n"
    text += "[upsample]\nstride=2\n[route]\nlayers=-1\n" + conv.format(c, 3, "linear") + "[shortcut]\nfrom=0\n"
    text += "[maxpool]\nsize=2\nstride=2\n"
    return darkbn.load(text + "[route]\nlayers=-1,6\n[dropout]\n" + conv.format(5, 1, "linear"), seed=5, batch=batch)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels", [16, 20])
def test_fusions_equal_forward(channels: int, batch: int) -> None:
    net = residuals(channels, batch)
    randomize(net)
    assert differences(net) == []
    assert len(net.compile().steps) < len(net.layers) + 8
    assert differences(net, range(0, len(net.layers), 3)) == []


def test_threads_do_not_change_a_bit() -> None:
    results = []
    for threads in (1, 2, 3):
        net = residuals(24)
        randomize(net)
        net.threads = threads
        assert max(step.threads for step in net.compile().steps) <= threads
        results.append(net.predict(inputs(net)))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_the_reference_backend_has_plans_too() -> None:
    net = darkbn.load(TWO_HEADS, device="reference", seed=1)
    randomize(net)
    assert differences(net) == []


def test_compiling_changes_nothing_and_prediction_only_outputs() -> None:
    net = residuals(16)
    randomize(net)
    net.forward(inputs(net))
    before = [{k: v.copy() for k, v in vars(l).items() if isinstance(v, np.ndarray)} for l in net.layers]
    plan = net.compile()
    plan(inputs(net, 2))
    for index, (layer, arrays) in enumerate(zip(net.layers, before, strict=True)):
        for name, array in arrays.items():
            if index not in plan.outputs or name != "output":
                np.testing.assert_array_equal(getattr(layer, name), array)


# Staleness


def test_prediction_follows_training_and_loading(tmp_path: Path) -> None:
    net = darkbn.load(CLASSIFIER, batch=6, seed=4)
    x, truth = inputs(net), np.eye(4, dtype=np.float32)[np.arange(6) % 4]
    net.save_weights(tmp_path / "first.weights")
    first = net.predict(x)
    plan = net.compile()
    for change in (lambda: net.train_step(x, truth), lambda: net.forward(x, truth, train=True)):
        change()
        np.testing.assert_allclose(net.predict(x), net.forward(x), atol=1e-6)
        with pytest.raises(DarkbnError, match=r"net\.compile\(\)"):
            plan(x)
        plan = net.compile()
    assert not np.allclose(first, net.predict(x), atol=1e-6)
    net.load_weights(tmp_path / "first.weights")
    np.testing.assert_array_equal(net.predict(x), first)


def test_prediction_follows_parameters_written_by_hand() -> None:
    net = darkbn.load(CLASSIFIER, batch=6, seed=4)
    x = inputs(net)
    randomize(net)
    before, plan = net.predict(x), net.current_plan()
    assert net.current_plan() is plan
    net.layers[2].rolling_variance[...] *= 4
    assert not np.array_equal(net.predict(x), before)
    net.layers[0].weights = net.layers[0].weights * 2
    np.testing.assert_allclose(net.predict(x), net.forward(x), atol=1e-6)


def test_prediction_follows_sizes_and_threads() -> None:
    net = darkbn.load(TWO_HEADS, seed=1)
    net.predict(inputs(net))
    plan = net.compile()
    net.resize(32, 48)
    assert [part.shape for part in net.predict(inputs(net))] == [(1, 16, 12, 8), (1, 16, 24, 16)]
    with pytest.raises(DarkbnError, match="resized"):
        plan.run()
    net.threads = 1
    net.predict(inputs(net))
    assert net.current_plan().threads == 1


def test_wrong_inputs_and_outputs_are_refused() -> None:
    net = darkbn.load(TWO_HEADS, seed=1)
    with pytest.raises(ShapeError, match=r"expected an input of shape \(1, 3, 16, 16\), found \(2, 3, 16, 16\)"):
        net.compile()(np.zeros((2, 3, 16, 16)))
    with pytest.raises(DarkbnError, match="there is no layer 99"):
        net.compile([99])
    assert net.compile([0])(np.zeros((1, 768)))[0].shape == (1, 8, 8, 8)


def test_a_plan_lives_on_without_its_network() -> None:
    net = residuals(16)
    randomize(net)
    x, gone = inputs(net), weakref.ref(net.layers[0])
    expected, plan = net.predict(x), net.compile()
    del net
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(plan(x)[0], expected)


# Threads


def test_networks_in_several_threads_do_not_disturb_each_other() -> None:
    nets = [residuals(channels) for channels in (16, 20, 24, 16)]
    for net in nets:
        randomize(net)
    expected = [net.predict(inputs(net)) for net in nets]
    wrong: list[int] = []

    def work(number: int) -> None:
        net = nets[number]
        for _ in range(10):
            if not np.array_equal(net.predict(inputs(net)), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(nets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_kernels_let_go_of_the_lock() -> None:
    """Another thread counts on while a pass runs; with the lock held it would stand still for all of it."""
    text = "[net]\nwidth=320\nheight=320\nchannels=3\n" + "[convolutional]\nfilters=64\nsize=3\npad=1\n" * 2
    net = darkbn.load(text, threads=1, seed=1)
    plan = net.compile()
    (call,) = [
        call for step in plan.steps if step.layers == (1,) and step.kind == "convolution" for call in step.calls
    ][:1]
    done, counts = threading.Event(), []

    def count() -> None:
        n = 0
        while not done.is_set():
            n += 1
        counts.append(n)

    counter = threading.Thread(target=count)
    counter.start()
    call()
    done.set()
    counter.join()
    assert counts[0] > 1000


def test_the_default_number_of_threads_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(darkbn.cpu, "_chosen", [])
    before = darkbn.load(TWO_HEADS)
    darkbn.set_num_threads(3)
    assert darkbn.get_num_threads() == 3
    assert darkbn.load(TWO_HEADS).threads == 3
    assert darkbn.load(TWO_HEADS, threads=2).threads == 2
    assert before.threads == darkbn.cpu.simd.max_threads()
    with pytest.raises(ValueError, match="at least 1"):
        darkbn.set_num_threads(0)
    assert darkbn.get_num_threads() == 3


def test_the_environment_sets_the_number_of_threads() -> None:
    code = "import darkbn; print(darkbn.get_num_threads())"
    run = [sys.executable, "-P", "-c", code]
    done = subprocess.run(run, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
