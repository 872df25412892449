"""Backward passes against finite differences, on the reference backend: every layer type has a row here or elsewhere.

Heads and losses of boxes, masks and embeddings are not among them: their deltas are no derivatives of their costs, in
Darknet as here; the reference cases hold them, or numbers from Darknet in their tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradient_check import check_gradients, differences
from test_recurrent import ALL as RECURRENT
from test_sections import GRADIENTS as SECTIONS

import darkbn
from darkbn.activations import NAMES
from darkbn.layers import LAYERS

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=logistic"
WIDE = "[convolutional]\nfilters=17\nsize=3\npad=1\nactivation=logistic"
SMOOTH = "[convolutional]\nfilters=3\nsize=1\nactivation=tanh"
HEADS = {"yolo", "region", "detection", "Gaussian_yolo", "iseg", "contrastive"}


def net(*sections: str, w: int = 6, h: int = 5, c: int = 3) -> str:
    return "\n\n".join([f"[net]\nbatch=2\nwidth={w}\nheight={h}\nchannels={c}", *sections, ""])


def flat(*sections: str) -> str:
    """A network whose input has no image shape."""
    return "\n\n".join(["[net]\nbatch=3\ninputs=7", *sections, ""])


ROWS: dict[str, tuple[str, str]] = {
    "convolutional": ("darknet", net(CONV, CONV)),
    "convolutional, normalized": ("darknet", net(f"{CONV}\nbatch_normalize=1", CONV)),
    "convolutional, no padding": ("darknet", net(f"{CONV}\npad=0", CONV)),
    "convolutional, wide padding": ("darknet", net("[conv]\nfilters=2\nsize=2\npadding=3\nactivation=tanh", SMOOTH)),
    "convolutional, stride": ("darknet", net(SMOOTH, "[conv]\nfilters=2\nsize=3\nstride=2\npad=1\nactivation=tanh")),
    "convolutional, 1x1": ("darknet", net(SMOOTH, "[conv]\nfilters=5\nsize=1\nactivation=logistic")),
    "convolutional, 1x1 stride": ("darknet", net(SMOOTH, "[conv]\nfilters=5\nstride=2\nactivation=logistic")),
    "convolutional, winograd": ("darknet", net("[conv]\nfilters=16\nsize=3\npad=1\nactivation=tanh", WIDE, SMOOTH)),
    "convolutional, winograd with stride 2": (
        "darknet",
        net("[conv]\nfilters=16\nsize=3\npad=1\nactivation=tanh", f"{WIDE}\nstride=2", SMOOTH),
    ),
    "convolutional, groups": ("darknet", net(CONV, "[conv]\nfilters=6\nsize=3\ngroups=2\npad=1\nactivation=tanh")),
    "convolutional, depthwise": ("darknet", net(CONV, "[conv]\nfilters=4\nsize=3\ngroups=4\npad=1\nactivation=tanh")),
    "convolutional, two strides": (
        "alexeyab",
        net(SMOOTH, "[conv]\nfilters=2\nsize=3\nstride_x=2\nstride_y=1\npad=1\nactivation=tanh"),
    ),
    "convolutional, dilation": (
        "alexeyab",
        net(SMOOTH, "[conv]\nfilters=2\nsize=3\ndilation=2\npad=1\nactivation=tanh"),
    ),
    "connected": ("darknet", flat("[connected]\noutput=5\nactivation=tanh", "[connected]\noutput=2")),
    "connected after an image": ("darknet", net(CONV, "[connected]\noutput=4\nactivation=tanh")),
    "connected, normalized": ("darknet", flat("[connected]\noutput=5\nbatch_normalize=1\nactivation=tanh")),
    "batchnorm": ("alexeyab", net(SMOOTH, "[batchnorm]", CONV)),
    "batchnorm first": ("alexeyab", net("[batchnorm]", CONV)),
    "batchnorm without image": ("alexeyab", flat("[connected]\noutput=5\nactivation=tanh", "[batchnorm]")),
    "activation": ("darknet", net(SMOOTH, "[activation]\nactivation=logistic", CONV)),
    "dropout": ("darknet", net(SMOOTH, "[dropout]\nprobability=.4", CONV)),
    "maxpool": ("darknet", net(SMOOTH, "[maxpool]\nsize=2\nstride=2", CONV)),
    "maxpool, overlapping": ("darknet", net(SMOOTH, "[maxpool]\nsize=3\nstride=1", CONV)),
    "maxpool, two strides": ("alexeyab", net(SMOOTH, "[maxpool]\nsize=3\nstride_x=1\nstride_y=2", CONV)),
    "maxpool over channels": ("alexeyab", net(CONV, "[maxpool]\nmaxpool_depth=1\nout_channels=2", CONV)),
    "maxpool, maxima only": ("alexeyab", net(SMOOTH, "[maxpool]\nsize=3\nstride=1\nmaxpool_zero_nonmax=1", CONV)),
    "convolutional, coordinates": ("alexeyab", net(SMOOTH, f"{CONV}\ncoordconv=1", CONV)),
    "convolutional, blurred coordinates": (
        "alexeyab",
        net(SMOOTH, f"{CONV}\ncoordconv=1\nantialiasing=1\nstride=2", CONV),
    ),
    "dropblock": (
        "alexeyab",
        net(SMOOTH, "[dropout]\nprobability=.9\ndropblock=1\ndropblock_size_abs=3", CONV),
    ),
    "avgpool": ("darknet", net(CONV, "[avgpool]", "[connected]\noutput=2\nactivation=linear")),
    "route": ("darknet", net(CONV, SMOOTH, "[route]\nlayers=-1,-2", CONV)),
    "route back": ("darknet", net(CONV, SMOOTH, "[route]\nlayers=0", CONV)),
    "route, same layer twice": ("darknet", net(CONV, "[route]\nlayers=-1,-1", CONV)),
    "route of groups": ("alexeyab", net(CONV, CONV, "[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1", CONV)),
    "route of other sizes": ("darknet", net(CONV, "[maxpool]", "[route]\nlayers=0,1", "[connected]\noutput=2")),
    "shortcut": ("darknet", net(CONV, CONV, "[shortcut]\nfrom=-2\nactivation=tanh", CONV)),
    "shortcut, scaled": ("darknet", net(CONV, CONV, "[shortcut]\nfrom=-2\nalpha=.5\nbeta=-1.5\nactivation=linear")),
    "shortcut from a larger": (
        "darknet",
        net(CONV, "[maxpool]", SMOOTH, "[shortcut]\nfrom=0\nactivation=tanh", w=8, h=8),
    ),
    "shortcut from a smaller": (
        "darknet",
        net(CONV, "[maxpool]", "[upsample]", SMOOTH, "[shortcut]\nfrom=1\nactivation=tanh", w=8, h=8),
    ),
    "shortcut, more channels": ("alexeyab", net(CONV, SMOOTH, "[shortcut]\nfrom=-2\nactivation=tanh", CONV)),
    "shortcut, several": ("alexeyab", net(CONV, CONV, CONV, "[shortcut]\nfrom=-2,-3\nactivation=mish", CONV)),
    **{
        f"shortcut, {kind}, {normalization}": (
            "alexeyab",
            net(
                CONV,
                CONV,
                CONV,
                f"[shortcut]\nfrom=-2,-3\nactivation=tanh\nweights_type={kind}\nweights_normalization={normalization}",
                CONV,
            ),
        )
        for kind in ("per_feature", "per_channel")
        for normalization in ("relu", "softmax")
    },
    "upsample": ("darknet", net(CONV, "[upsample]\nstride=3\nscale=.5", CONV)),
    "upsample, reverse": ("darknet", net(CONV, "[upsample]\nstride=-2", CONV, w=6, h=4)),
    "reorg": ("darknet", net(CONV, "[reorg]\nstride=2", CONV, w=6, h=4)),
    "reorg, reverse": ("darknet", net(CONV, "[reorg]\nstride=2\nreverse=1", CONV)),
}


@pytest.mark.parametrize("name", ROWS)
def test_gradients(name: str) -> None:
    dialect, cfg = ROWS[name]
    check_gradients(cfg, dialect)


@pytest.mark.parametrize("name", sorted({*NAMES["darknet"], *NAMES["alexeyab"]} - {"stair"}))
def test_activations(name: str) -> None:
    """All but `stair`, whose gradient is 1 by definition and not 0 as its slope."""
    dialect = "darknet" if name in NAMES["darknet"] else "alexeyab"
    check_gradients(net(f"[convolutional]\nfilters=5\nsize=3\nactivation={name}", SMOOTH), dialect)


def test_cross_iteration_batch_normalization_in_the_first_pass() -> None:
    """Later passes see the statistics of those before, which the gradient does not know."""
    check_gradients(net(SMOOTH, f"{CONV}\ncbn=1", SMOOTH), "alexeyab", batchnorm="cudnn")


@pytest.mark.parametrize("convention", ["exact", "cudnn", "pytorch", "keras", "cs231n"])
@pytest.mark.parametrize("section", [f"{CONV}\nbatch_normalize=1", "[batchnorm]"], ids=["convolutional", "batchnorm"])
def test_conventions_with_the_exact_gradient(section: str, convention: str) -> None:
    check_gradients(net(SMOOTH, section, SMOOTH), "alexeyab", batchnorm=convention)


# Losses: delta is minus the derivative of the cost, times a factor that Darknet leaves out.

LOSSES: dict[str, tuple[str, str, float]] = {
    "cost, sse": ("darknet", "[connected]\noutput=4\nactivation=tanh\n\n[cost]\ntype=sse", 0.5),
    "cost, smooth": ("darknet", "[connected]\noutput=4\nactivation=linear\n\n[cost]\ntype=smooth", 0.5),
    "cost, L1": ("darknet", "[connected]\noutput=4\nactivation=tanh\n\n[cost]\ntype=L1", 1.0),
    "softmax": ("darknet", "[connected]\noutput=4\nactivation=linear\n\n[softmax]", 1.0),
    "logistic": ("darknet", "[connected]\noutput=4\nactivation=linear\n\n[logistic]", 1.0),
    "softmax, groups": ("darknet", "[connected]\noutput=4\nactivation=linear\n\n[softmax]\ngroups=2", 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    dialect, sections, factor = LOSSES[name]
    net = darkbn.load(flat(sections), dialect=dialect, device="reference", train=True, seed=0)
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((3, 7)), np.eye(4)[[2, 0, 3]]
    if "groups" in name:
        truth[:, :] = np.tile(np.eye(2)[[1, 0, 1]], 2)

    def cost() -> float:
        net.forward(x, truth, train=True)
        return float(net.cost or 0)

    cost()
    net.backward()
    for array, gradient in ((x, net.input_delta.copy()), (net.layers[0].weights, net.layers[0].weight_updates.copy())):
        pairs = [(gradient.reshape(-1)[index], -factor * slope) for index, slope in differences(cost, array)]
        found, expected = np.array(pairs).T
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from darkbn.layers import connected

    right = connected.backward_connected_layer

    def slightly_wrong(l: Any, state: Any) -> None:
        right(l, state)
        l.weight_updates *= 1.00001

    monkeypatch.setattr(connected, "backward_connected_layer", slightly_wrong)
    with pytest.raises(AssertionError, match=r"weights of layer . \[connected\]: error 1e-05"):
        check_gradients(ROWS["connected"][1], "darknet")


def test_every_layer_type_has_a_row() -> None:
    text = "".join(cfg for _, cfg in [*ROWS.values(), *SECTIONS.values()]) + "".join(s for _, s, _ in LOSSES.values())
    text += "".join(f"[{case.section}]" for case in RECURRENT)
    without = {l.type for l in LAYERS if not any(f"[{name}]" in text for name in l.sections)}
    assert sorted(without - HEADS) == []
