"""Depthwise convolutions and the 1x1 convolutions around them as one operation: the pass, what it is worth, plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_plan import differences, inputs, randomize

import darkbn
from darkbn.activations import Activation
from darkbn.backend import get_backend
from darkbn.inference.bottleneck import estimated, fuse_bottlenecks, pays_by_estimate
from darkbn.inference.placement import place
from darkbn.inference.plan import methods
from darkbn.inference.program import INPUT, Bottleneck, Convolution, Geometry, Layout, Op, Program, Tensor
from darkbn.inference.tune import Tuner, read_measurements
from darkbn.network import Network

RELU, LINEAR = int(Activation.RELU), int(Activation.LINEAR)
MIXING = int(Activation.NORMALIZE_CHANNELS)


def conv(reads: int | tuple[int, ...], writes: int, c: int, n: int, size: int = 1, activation: int = RELU,
         after: int | None = None, **more: Any) -> Op:  # fmt: skip
    reads = reads if isinstance(reads, tuple) else (reads,)
    sizes = {"pad": size // 2, "groups": c if size > 1 else 1, "out_h": 8, "out_w": 8, **more}
    geometry = Geometry(1, c, 8, 8, n, size, **sizes)
    return Op("convolution", reads, writes, (writes,), None, Convolution(geometry, activation, after))


FIRST, EXPAND, DEPTHWISE, PROJECT = conv(INPUT, 0, 3, 8), conv(0, 1, 8, 48), conv(1, 2, 48, 48, 3), conv(2, 3, 48, 8)


def program(*ops: Op, outputs: tuple[int, ...] = ()) -> Program:
    tensors = {INPUT: Tensor(1, 3, 8, 8)}
    for op in ops:
        channels = op.arguments.geometry.n if op.kind == "convolution" else tensors[op.reads[0]].channels
        tensors[op.writes] = Tensor(1, channels, 8, 8)
    made = Program(tensors, ops, {i: i for i in outputs or (ops[-1].writes,)})
    made.check()
    return made


def fused(*ops: Op, outputs: tuple[int, ...] = (), pays: Any = lambda b: True) -> list[str]:
    """What the operations become; of a bottleneck, how many convolutions it has."""
    made = fuse_bottlenecks(program(*ops, outputs=outputs), pays)
    made.check()
    return [f"{len(op.arguments.parts)} in one" if op.kind == "bottleneck" else op.kind for op in made.ops]


def test_three_convolutions_become_one() -> None:
    made = fuse_bottlenecks(program(FIRST, EXPAND, DEPTHWISE, PROJECT), lambda b: True)
    assert [op.kind for op in made.ops] == ["convolution", "bottleneck"]
    op = made.ops[1]
    assert (op.reads, op.writes, op.layers) == ((0,), 3, (1, 2, 3))
    assert op.arguments == Bottleneck(EXPAND, DEPTHWISE, PROJECT)
    assert set(made.tensors) == {INPUT, 0, 3}


def test_a_residual_of_the_last_one_is_kept() -> None:
    made = fuse_bottlenecks(program(FIRST, EXPAND, DEPTHWISE, conv((2, 0), 3, 48, 8, after=RELU)), lambda b: True)
    assert made.ops[1].reads == (0, 0)
    other = conv(0, 9, 8, 8)
    made = fuse_bottlenecks(
        program(FIRST, other, EXPAND, DEPTHWISE, conv((2, 9), 3, 48, 8, after=RELU)), lambda b: True
    )
    assert made.ops[2].reads == (0, 9)


def test_what_is_added_is_overwritten_unless_it_is_the_input() -> None:
    def places(added: int) -> bool:
        last = conv((2, added), 3, 48, 8, after=RELU)
        ops = (FIRST, conv(0, 9, 8, 8), EXPAND, DEPTHWISE, last, conv(3, 4, 8, 8))
        made = fuse_bottlenecks(program(*ops), lambda b: True)
        blocked = {n: replace(t, layout=Layout.BLOCKED) for n, t in made.tensors.items()}
        return place(replace(made, tensors=blocked)).places[3].root == added

    assert places(9)
    assert not places(0)


ONE = "convolution"


@pytest.mark.parametrize(
    ("ops", "outputs", "expected"),
    [
        ([FIRST, EXPAND, DEPTHWISE], (), ["convolution", "2 in one"]),
        ([FIRST, conv(0, 2, 8, 8, 3), conv(2, 3, 8, 8)], (), ["convolution", "2 in one"]),
        # the expanded map is wanted, or somebody else reads it
        ([FIRST, EXPAND, DEPTHWISE, PROJECT], (1, 3), ["convolution", "convolution", "2 in one"]),
        ([FIRST, EXPAND, DEPTHWISE, PROJECT, conv(1, 4, 48, 8)], (3, 4), [ONE, ONE, "2 in one", ONE]),
        # the map in the middle is wanted, or somebody else reads it
        ([FIRST, EXPAND, DEPTHWISE, PROJECT], (2, 3), ["convolution", "2 in one", "convolution"]),
        ([FIRST, EXPAND, DEPTHWISE, PROJECT, conv(2, 4, 48, 8)], (3, 4), [ONE, "2 in one", ONE, ONE]),
        # one that belongs to a bottleneck already is not taken twice
        ([FIRST, EXPAND, DEPTHWISE, conv(2, 3, 48, 48), conv(3, 4, 48, 48, 3), conv(4, 5, 48, 8)], (),
         ["convolution", "3 in one", "2 in one"]),
    ],
)  # fmt: skip
def test_what_can_be_one_is_made_one(ops: list[Op], outputs: tuple[int, ...], expected: list[str]) -> None:
    assert fused(*ops, outputs=outputs) == expected


@pytest.mark.parametrize(
    "ops",
    [
        # not a filter a channel, dilated, filters too large
        [FIRST, EXPAND, conv(1, 2, 48, 48, 3, groups=1), PROJECT],
        [FIRST, EXPAND, conv(1, 2, 48, 48, 3, groups=24), PROJECT],
        [FIRST, EXPAND, conv(1, 2, 48, 48, 3, dilation=2, pad=2), PROJECT],
        [FIRST, EXPAND, conv(1, 2, 48, 48, 65), PROJECT],
        # something is added in the middle, or activations mix channels
        [FIRST, EXPAND, conv(0, 9, 8, 48), conv((1, 9), 2, 48, 48, 3, after=LINEAR), PROJECT],
        [FIRST, EXPAND, conv(1, 2, 48, 48, 3, MIXING), PROJECT],
        # neighbours that are no 1x1 convolutions of their pixels
        [FIRST, conv(0, 1, 8, 48, stride_x=2, stride_y=2), DEPTHWISE, conv(2, 3, 48, 8, 3, groups=1)],
        [FIRST, conv(0, 1, 8, 48, groups=2), DEPTHWISE, conv(2, 3, 48, 8, pad=1)],
        [FIRST, conv(0, 1, 8, 48, activation=MIXING), DEPTHWISE, conv(2, 3, 48, 8, activation=MIXING)],
        [conv(INPUT, 1, 3, 48), DEPTHWISE],
        [conv(INPUT, 2, 3, 3, 3), conv(2, 3, 3, 8)],
        # what is added before, and what is both read and added behind
        [FIRST, conv(0, 9, 8, 48), conv((0, 9), 1, 8, 48, after=LINEAR), DEPTHWISE,
         conv((2, 2), 3, 48, 48, after=LINEAR)],
        [FIRST, EXPAND, DEPTHWISE, conv((9, 2), 3, 48, 48, after=LINEAR)],
    ],
)  # fmt: skip
def test_what_the_kernel_cannot_do_stays(ops: list[Op]) -> None:
    if ops[-1].reads[0] == 9:  # the sum's first operand is another map: only the first two can be one
        ops = [ops[0], conv(0, 9, 8, 48), *ops[1:]]
        assert fused(*ops) == [ONE, ONE, "2 in one", ONE]
        return
    assert set(fused(*ops)) == {"convolution"}


MEANS = Op("avgpool", (2,), 4, (4,))
SQUEEZE, EXCITE = conv(4, 5, 48, 4), conv(5, 6, 4, 48, activation=int(Activation.LOGISTIC))
PRODUCT = Op("scale_channels", (6, 2), 7, (7,), None, LINEAR)
BEHIND = conv((7, 0), 8, 48, 8, after=RELU)
EXCITING = (FIRST, EXPAND, DEPTHWISE, MEANS, SQUEEZE, EXCITE, PRODUCT, BEHIND)


def test_squeeze_and_excitation_become_part_of_it() -> None:
    made = fuse_bottlenecks(program(*EXCITING), lambda b: True)
    assert [op.kind for op in made.ops] == ["convolution", "bottleneck"]
    assert made.ops[1].arguments == Bottleneck(EXPAND, DEPTHWISE, BEHIND, SQUEEZE, EXCITE, LINEAR)
    assert (made.ops[1].reads, made.ops[1].writes, made.ops[1].layers) == ((0, 0), 8, (1, 2, 4, 5, 6, 7, 8))
    made = fuse_bottlenecks(program(*EXCITING), lambda b: b.project is None)
    assert made.ops[1].arguments == Bottleneck(EXPAND, DEPTHWISE, None)
    assert [op.kind for op in made.ops[2:]] == [op.kind for op in EXCITING[3:]]


def without(*changed: Op) -> list[Op]:
    """The operations of squeeze and excitation, some of them others."""
    instead = {op.writes: op for op in changed}
    return [instead.get(op.writes, op) for op in EXCITING]


@pytest.mark.parametrize(
    ("ops", "outputs"),
    [
        # a map inside is wanted or read by somebody else
        *[(list(EXCITING), (wanted, 8)) for wanted in (4, 5, 6, 7)],
        *[([*EXCITING, Op("activation", (read,), 9, (9,), None, RELU)], (8, 9)) for read in (2, 4, 5, 6, 7)],
        # other operations in their places
        (without(Op("maxpool", (2,), 4, (4,))), ()),
        (without(replace(PRODUCT, arguments=MIXING)), ()),
        (without(replace(PRODUCT, kind="scale_pixels")), ()),
        (without(conv((5, 4), 6, 4, 48, after=LINEAR)), ()),
        (without(conv(4, 5, 48, 4, groups=4)), ()),
        (without(conv(5, 6, 4, 48, activation=MIXING)), ()),
        (without(conv(7, 8, 48, 8, 3, groups=1)), ()),
    ],
)
def test_what_is_no_squeeze_and_excitation_stays(ops: list[Op], outputs: tuple[int, ...]) -> None:
    made = fuse_bottlenecks(program(*ops, outputs=outputs), lambda b: True)
    assert [op.kind for op in made.ops if op.kind != "bottleneck"] != ["convolution"]
    assert not any(op.kind == "bottleneck" and op.arguments.squeeze is not None for op in made.ops)


def test_only_what_pays_is_made_one() -> None:
    assert set(fused(FIRST, EXPAND, DEPTHWISE, PROJECT, pays=lambda b: False)) == {"convolution"}
    without = fused(FIRST, EXPAND, DEPTHWISE, PROJECT, pays=lambda b: b.expand is None)
    assert without == ["convolution", "convolution", "2 in one"]
    without = fused(FIRST, EXPAND, DEPTHWISE, PROJECT, pays=lambda b: b.project is None)
    assert without == ["convolution", "2 in one", "convolution"]


def bottleneck(c: int, m: int, h: int, size: int = 3) -> Bottleneck:
    def sized(op: Op) -> Op:
        g = replace(op.arguments.geometry, h=h, w=h, out_h=h, out_w=h)
        return replace(op, arguments=replace(op.arguments, geometry=g))

    return Bottleneck(*map(sized, (conv(0, 1, c, m), conv(1, 2, m, m, size), conv(2, 3, m, c))))


def test_estimates_know_what_bands_compute_twice() -> None:
    small, large = bottleneck(96, 448, 10), bottleneck(16, 96, 80)
    assert pays_by_estimate(2)(small)
    assert pays_by_estimate(2)(large)
    assert pays_by_estimate(16)(large)
    assert not pays_by_estimate(10)(small)
    one, several = estimated(small, 1)
    assert estimated(small, 4)[0] > one
    assert estimated(small, 4)[1] == several


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, True), (3.5, False)])
def test_the_tuner_measures_and_remembers(
    seconds: float, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKBN_CACHE", str(tmp_path))
    calls: list[str] = []

    def measure(b: Bottleneck, *_: Any) -> float:
        calls.append("one")
        return seconds

    for _ in range(2):  # the second one reads the file
        tuner = Tuner(get_backend("cpu"), "level", 2, methods, lambda *_: 1.0, measure)
        assert tuner.pays(bottleneck(16, 48, 8)) is expected
        tuner.save()
    assert calls == ["one"]
    assert seconds in [row.get("bottleneck") for row in read_measurements(tuner.path).values()]


def blocks(c: int, m: int, size: int, activation: str) -> str:
    """A network of bottlenecks: with expansion, stride and shortcut, one that is read twice, one without expansion."""
    layer = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize={}\nstride={}\npad=1\ngroups={}\nactivation={}\n"

    def block(stride: int) -> str:
        first, last = layer.format(m, 1, 1, 1, activation), layer.format(c, 1, 1, 1, "linear")
        return first + layer.format(m, size, stride, m, activation) + last

    means = layer.format(4, 1, 1, 1, "leaky") + layer.format(m, 1, 1, 1, "logistic")
    text = "[net]\nwidth=23\nheight=19\nchannels=3\n" + layer.format(c, 3, 2, 1, activation)
    text += block(1) + "[shortcut]\nfrom=-4\nactivation=leaky\n" + block(2) + block(1) + "[route]\nlayers=-2\n"
    text += layer.format(m, size, 1, m, activation) + layer.format(c, 1, 1, 1, "swish")
    text += "[route]\nlayers=-1,-4\n"
    text += layer.format(m, 1, 1, 1, activation) + layer.format(m, size, 2, m, activation)
    text += f"[avgpool]\n{means}[scale_channels]\nfrom=-4\nactivation={activation}\n" + layer.format(c, 1, 1, 1, "relu")
    return text + layer.format(7, 1, 1, 1, "linear")


@pytest.mark.parametrize(("c", "m", "size", "activation", "batch"), [
    (8, 48, 3, "relu6", 1), (12, 20, 5, "swish", 1), (9, 17, 3, "leaky", 3)])  # fmt: skip
def test_bottlenecks_equal_forward(c: int, m: int, size: int, activation: str, batch: int) -> None:
    net = darkbn.load(blocks(c, m, size, activation), batch=batch, seed=1)
    randomize(net)
    found = [step for step in net.compile().steps if step.kind == "bottleneck"]
    assert len(found) == 5
    assert len(found[-1].layers) == 7  # with squeeze and excitation
    assert differences(net) == []
    assert differences(net, range(len(net.layers))) == []
    assert differences(net, range(1, len(net.layers), 3)) == []


def test_threads_do_not_change_a_bit() -> None:
    def predicted(threads: int) -> Any:
        net: Network = darkbn.load(blocks(8, 40, 3, "relu"), seed=1, threads=threads)
        randomize(net)
        plan = net.compile()
        assert any(step.kind == "bottleneck" for step in plan.steps)
        return [y.copy() for y in plan(inputs(net))]

    for threads in (2, 3):
        np.testing.assert_array_equal(predicted(1), predicted(threads))


def test_the_reference_backend_has_bottlenecks_too() -> None:
    net = darkbn.load(blocks(8, 24, 3, "leaky"), device="reference", seed=1)
    randomize(net)
    assert any(step.kind == "bottleneck" for step in net.compile().steps)
    assert differences(net) == []


def test_a_tuned_network_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKBN_CACHE", str(tmp_path))
    net = darkbn.load(blocks(8, 24, 3, "leaky"), seed=1)
    randomize(net)
    x = inputs(net)
    expected = net.forward(x).copy()
    (found,) = net.compile(tune=True)(x)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
