"""What lies between a network and its plan: every pass on its own, also where it must do nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import darkbn
from darkbn.activations import Activation
from darkbn.errors import DarkbnError
from darkbn.inference import fuse
from darkbn.inference.algorithms import METHODS, candidates
from darkbn.inference.graph import checked_outputs, default_outputs, layer_reads, needed_layers
from darkbn.inference.layout import assign_layouts
from darkbn.inference.lower import lower
from darkbn.inference.memory import ALIGNMENT, Interval, assign_offsets, lower_bound
from darkbn.inference.placement import Copy, Place, lifetimes, place
from darkbn.inference.program import INPUT, Concat, Convolution, Geometry, Layout, Op, Pool, Program, Tensor

LINEAR, LEAKY, RELU = Activation.LINEAR, Activation.LEAKY, Activation.RELU


def geometry(c: int = 16, n: int = 16, size: int = 3, h: int = 8, **more: Any) -> Geometry:
    return Geometry(1, c, h, h, n, size, h, h, pad=size // 2, **more)


def conv(reads: int | tuple[int, ...], writes: int, activation: int = LEAKY, **more: Any) -> Op:
    reads = reads if isinstance(reads, tuple) else (reads,)
    return Op("convolution", reads, writes, (writes,), None, Convolution(geometry(), activation, **more))


def add(a: int, b: int, writes: int, activation: int = LINEAR) -> Op:
    return Op("add", (a, b), writes, (writes,), None, activation)


def pool(source: int, writes: int, size: int, **more: Any) -> Op:
    windows = {"size": size, "stride_y": 1, "stride_x": 1, "padding": size - 1, **more}
    return Op("maxpool", (source,), writes, (writes,), None, Pool(**windows))


def program(*ops: Op, outputs: tuple[int, ...] = (), channels: int = 16, batch: int = 1, **sizes: int) -> Program:
    """A program whose tensors are all of one size, but for those named t<number>=channels."""
    tensors = {INPUT: Tensor(batch, channels, 8, 8)}
    for op in ops:
        tensors[op.writes] = Tensor(batch, sizes.get(f"t{op.writes}", channels), 8, 8)
    made = Program(tensors, ops, {i: i for i in outputs or (ops[-1].writes,)})
    made.check()
    return made


def in_blocks(made: Program) -> dict[int, Tensor]:
    return {number: replace(tensor, layout=Layout.BLOCKED) for number, tensor in made.tensors.items()}


def kinds(made: Program) -> list[str]:
    return [op.kind for op in made.ops]


# graph

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
TREE = NET + CONV * 3 + "[route]\nlayers=0,-1\n" + CONV + "[shortcut]\nfrom=0\nactivation=linear\n" + CONV


def test_graph_tells_who_reads_whom() -> None:
    layers = darkbn.load(TREE).layers
    assert [layer_reads(l, i) for i, l in enumerate(layers)] == [(-1,), (0,), (1,), (0, 2), (3,), (4, 0), (5,)]


def test_only_needed_layers_are_kept() -> None:
    layers = darkbn.load(TREE).layers
    assert needed_layers(layers, [1]) == (0, 1)
    assert needed_layers(layers, [5]) == (0, 1, 2, 3, 4, 5)
    assert needed_layers(layers, [1, 0]) == (0, 1)


def test_outputs_are_heads_or_the_last_layer() -> None:
    net = darkbn.load(TREE + "[cost]\n")
    assert default_outputs(net) == (6,)
    assert checked_outputs(net, [-1, 2, 7]) == (7, 2)
    for wrong in ([8], [-9], []):
        with pytest.raises(DarkbnError, match="outputs"):
            checked_outputs(net, wrong)


def test_a_check_finds_wrong_orders() -> None:
    made = program(conv(INPUT, 0), conv(0, 1))
    with pytest.raises(AssertionError, match="not written yet"):
        replace(made, ops=made.ops[::-1]).check()
    with pytest.raises(AssertionError, match="twice"):
        replace(made, ops=(*made.ops, conv(1, 0))).check()


# fusions


def test_identities_vanish_unless_their_output_is_wanted() -> None:
    ops = (conv(INPUT, 0), Op("identity", (0,), 1, (1,)), Op("identity", (1,), 2, (2,)), conv(2, 3))
    assert [op.reads for op in fuse.drop_identities(program(*ops)).ops] == [(INPUT,), (0,)]
    kept = fuse.drop_identities(program(*ops, outputs=(1, 3)))
    assert kinds(kept) == ["convolution", "copy", "convolution"]
    assert kept.ops[2].reads == (0,)


def test_a_shortcut_goes_into_the_convolution_before_it() -> None:
    fused = fuse.fuse_shortcuts(program(conv(INPUT, 0), conv(0, 1), add(1, 0, 2, RELU), conv(2, 3)))
    assert kinds(fused) == ["convolution"] * 3
    assert fused.ops[1].reads == (0, 0)
    assert (fused.ops[1].writes, fused.ops[1].layers) == (2, (1, 2))
    assert fused.ops[1].arguments == Convolution(geometry(), LEAKY, RELU)
    # the convolution may be the second operand
    assert kinds(fuse.fuse_shortcuts(program(conv(INPUT, 0), conv(0, 1), add(0, 1, 2)))) == ["convolution"] * 2


@pytest.mark.parametrize(
    "wrong",
    [
        program(conv(INPUT, 0), conv(0, 1), add(1, 0, 2), conv(1, 3), add(2, 3, 4), outputs=(2, 3)),  # read twice
        program(conv(INPUT, 0), conv(0, 1), add(1, 0, 2), outputs=(1, 2)),  # wanted itself
        program(conv(INPUT, 0), add(0, 0, 1)),  # twice itself
        program(conv(INPUT, 0), conv(0, 1, Activation.NORMALIZE_CHANNELS), pool(1, 2, 3), add(1, 2, 3)),
        program(conv(INPUT, 0), conv(INPUT, 1), pool(1, 2, 3), add(0, 2, 3)),  # the other comes later
        program(pool(INPUT, 0, 3), add(0, INPUT, 1)),  # no convolution
    ],
)
def test_other_shortcuts_stay(wrong: Program) -> None:
    assert fuse.fuse_shortcuts(wrong).ops.count(wrong.ops[2 if len(wrong.ops) > 2 else 1]) == 1


def test_a_convolution_takes_one_shortcut_only() -> None:
    fused = fuse.fuse_shortcuts(program(conv(INPUT, 0), conv(0, 1), add(1, 0, 2), add(2, 0, 3)))
    assert kinds(fused) == ["convolution", "convolution", "add"]


def test_an_activation_goes_into_a_linear_convolution() -> None:
    def made(first: int, **more: Any) -> Program:
        return program(conv(INPUT, 0, first), Op("activation", (0,), 1, (1,), None, RELU), **more)

    fused = fuse.fuse_activations(made(LINEAR))
    assert [(op.writes, op.arguments.activation, op.layers) for op in fused.ops] == [(1, RELU, (0, 1))]
    assert kinds(fuse.fuse_activations(made(LEAKY))) == ["convolution", "activation"]
    assert kinds(fuse.fuse_activations(made(LINEAR, outputs=(0, 1)))) == ["convolution", "activation"]


def test_batch_normalization_goes_into_a_linear_convolution() -> None:
    def fused(activation: str) -> list[str]:
        text = NET + CONV.replace("leaky", activation) + "[batchnorm]\n" + "[activation]\nactivation=relu\n"
        return kinds(fuse.fuse(lower(darkbn.load(text).layers, [2])))

    assert fused("linear") == ["convolution"]
    assert fused("leaky") == ["convolution", "batchnorm", "activation"]


def test_large_windows_are_taken_from_smaller_ones() -> None:
    fused = fuse.chain_pools(program(conv(INPUT, 0), pool(0, 1, 5), pool(0, 2, 9), pool(0, 3, 13), outputs=(1, 2, 3)))
    assert [(op.reads, op.arguments.size, op.arguments.padding) for op in fused.ops[1:]] == [
        ((0,), 5, 4),
        ((1,), 5, 4),
        ((2,), 5, 4),
    ]
    # from the largest that is there already; other sources, strides and even windows stay as they are
    others = (pool(0, 1, 13), pool(0, 2, 5), pool(2, 3, 9), pool(0, 4, 4), pool(0, 5, 15, stride_x=2), pool(0, 6, 9))
    same = fuse.chain_pools(program(conv(INPUT, 0), *others, outputs=(1, 2, 3, 4, 5, 6)))
    assert [op.reads for op in same.ops[1:]] == [(0,), (0,), (2,), (0,), (0,), (2,)]


# layouts


def layouts(made: Program, blocked: bool = True) -> Program:
    return assign_layouts(made, lambda op, plain: candidates(op.arguments.geometry, blocked, plain)[0])


def test_without_blocked_kernels_everything_is_plain() -> None:
    made = layouts(program(conv(INPUT, 0), pool(0, 1, 3)), blocked=False)
    assert {tensor.layout for tensor in made.tensors.values()} == {Layout.PLAIN}
    assert kinds(made) == ["convolution", "maxpool"]


def test_conversions_are_made_once_and_where_needed() -> None:
    softmax = Op("softmax", (1,), 2, (2,))
    more = Op("softmax", (1,), 3, (3,))
    made = layouts(program(conv(INPUT, 0), pool(0, 1, 3), softmax, more, conv(1, 4), outputs=(2, 3, 4)))
    assert kinds(made) == [
        "to_blocked", "convolution", "maxpool", "to_plain", "softmax", "softmax", "convolution", "to_plain",
    ]  # fmt: skip
    assert made.ops[-1].writes == 4
    assert made.tensors[4].layout is Layout.PLAIN
    assert made.ops[4].reads == made.ops[5].reads == (made.ops[3].writes,)


def test_every_algorithm_declines_what_it_cannot_do() -> None:
    def names(g: Geometry, plain: bool = False) -> set[str]:
        return {a.name for a in candidates(g, True, plain)}

    assert {"winograd_2", "winograd_4", "gemm"} <= names(geometry())
    for g in (geometry(size=5), geometry(stride_x=2), geometry(dilation=2), geometry(groups=2)):
        assert not any(name.startswith("winograd") for name in names(g))
    assert names(geometry(groups=4)) == {"gemm"}
    assert "depthwise" in names(geometry(groups=16))
    assert "first" in names(geometry(c=3), plain=True)
    assert "first" not in names(geometry(c=3)) | names(geometry(), plain=True)
    assert [m.name for m in candidates(geometry(), False, True)] == ["plain"]
    assert all(m.cost(geometry()) > 0 for m in METHODS.values())


# placement


def concat(reads: tuple[int, ...], writes: int, counts: tuple[int, ...], starts: tuple[int, ...] | None = None) -> Op:
    return Op("concat", reads, writes, (writes,), None, Concat(starts or (0,) * len(counts), counts))


def test_parts_are_written_where_they_end_up() -> None:
    joined = concat((1, 0), 2, (16 * 64, 16 * 64))
    found = place(program(conv(INPUT, 0), conv(0, 1), joined, conv(2, 3), t2=32))
    assert [op.kind for op in found.ops] == ["convolution"] * 3
    assert found.places == {INPUT: Place(INPUT), 0: Place(2, 16 * 64), 1: Place(2, 0), 2: Place(2), 3: Place(3)}


def test_what_cannot_be_placed_is_copied() -> None:
    twice = concat((0, 0), 1, (16 * 64, 16 * 64))
    found = place(program(conv(INPUT, 0), twice, conv(1, 2), t1=32))
    assert [op.arguments for op in found.ops[1:2]] == [Copy(0, 16 * 64, 16 * 64)]
    wanted = place(program(conv(INPUT, 0), concat((0, INPUT), 1, (1024, 1024)), outputs=(0, 1), t1=32))
    assert [op.kind for op in wanted.ops[1:]] == ["copy_part", "copy_part"]
    half = place(program(conv(INPUT, 0), concat((0, 0), 1, (512, 512), (512, 512)), conv(1, 2)))
    assert [op.arguments for op in half.ops[1:3]] == [Copy(512, 0, 512), Copy(512, 512, 512)]
    batch = place(program(conv(INPUT, 0), conv(0, 1), concat((1, 0), 2, (1024, 1024)), batch=2, t2=32))
    assert [op.kind for op in batch.ops[2:]] == ["copy_part", "copy_part"]


def test_slices_are_read_where_they_are() -> None:
    part = concat((0,), 1, (8 * 64,), (8 * 64,))
    found = place(program(conv(INPUT, 0), part, conv(1, 2), t1=8))
    assert found.places[1] == Place(0, 8 * 64)
    assert [op.kind for op in found.ops] == ["convolution"] * 2
    copied = place(program(conv(INPUT, 0), part, conv(1, 2), t1=8, batch=2))
    assert [op.kind for op in copied.ops] == ["convolution", "copy_part", "convolution"]


def test_blocked_parts_start_at_whole_blocks() -> None:
    def placed(first: int, second: int) -> list[Any]:
        joined = concat((0, 1), 2, (first * 64, second * 64))
        made = program(conv(INPUT, 0), conv(0, 1), joined, batch=2, t0=first, t1=second, t2=first + second)
        made = replace(
            made, tensors={n: replace(t, layout=Layout.BLOCKED) for n, t in made.tensors.items()}, outputs={}
        )
        found = place(made)
        return [op.arguments if op.kind == "copy_part" else op.kind for op in found.ops[2:]]

    assert placed(16, 20) == []  # the last part may end in a part block
    assert placed(20, 16) == [Copy(0, 0, 20), Copy(0, 20, 16)]


def test_nested_concatenations_share_one_root() -> None:
    inner, outer = concat((0, 1), 2, (1024, 1024)), concat((3, 2), 4, (1024, 2048))
    found = place(program(conv(INPUT, 0), conv(0, 1), inner, conv(2, 3), outer, conv(4, 5), t2=32, t4=48))
    assert [op.kind for op in found.ops] == ["convolution"] * 4
    assert found.places[1] == Place(4, 2048)
    assert lifetimes(found)[4] == (0, 3)


def test_a_sum_takes_over_what_it_adds() -> None:
    def roots(*ops: Op, outputs: tuple[int, ...] = ()) -> list[int]:
        made = program(*ops, outputs=outputs)
        return [found.root for _, found in sorted(place(replace(made, tensors=in_blocks(made))).places.items())][1:]

    block = (conv(INPUT, 0), conv(0, 1), conv((1, 0), 2, residual_activation=LINEAR))
    after = (conv(2, 3), conv((3, 2), 4, residual_activation=LINEAR), conv(4, 5))
    assert roots(*block, *after) == [0, 1, 0, 3, 0, 5]
    assert roots(*block, conv(0, 3), add(2, 3, 4)) == [0, 1, 2, 3, 4]  # read later
    assert roots(*block, *after, outputs=(0, 5)) == [0, 1, 2, 3, 2, 5]  # wanted
    same = (conv(INPUT, 0), conv((0, 0), 1, residual_activation=LINEAR), conv(1, 2))
    assert roots(*same) == [0, 1, 2]  # the convolution reads it all over


def test_the_plain_kernel_does_not_overwrite_what_it_adds() -> None:
    found = place(program(conv(INPUT, 0), conv(0, 1), conv((1, 0), 2, residual_activation=LINEAR), conv(2, 3)))
    assert found.places[2] == Place(2)


# memory


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5000)).map(
            lambda t: Interval(min(t[:2]), max(t[:2]), t[2])
        ),
        max_size=24,
    )
)
def test_arrays_that_live_together_never_overlap(intervals: list[Interval]) -> None:
    offsets, total = assign_offsets(intervals)
    for i, (a, at) in enumerate(zip(intervals, offsets, strict=True)):
        assert at % ALIGNMENT == 0
        assert 0 <= at <= at + a.size <= total
        for b, other in zip(intervals[i + 1 :], offsets[i + 1 :], strict=True):
            apart = at + a.size <= other or other + b.size <= at
            assert apart or not a.meets(b) or 0 in (a.size, b.size)
    assert total >= lower_bound(intervals)


def test_memory_is_used_again() -> None:
    chain = [Interval(i, i + 1, 1000) for i in range(10)]
    assert assign_offsets(chain) == ([0, 1024] * 5, 2048)
    assert lower_bound(chain) == 2048
    assert assign_offsets([]) == ([], 0)
