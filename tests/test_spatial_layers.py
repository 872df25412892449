"""[maxpool] [avgpool] [route] [shortcut] [upsample] [reorg] on their own: gradients, sizes, what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import darkbn
from darkbn.backend import get_backend
from darkbn.errors import CfgError
from darkbn.layers.avgpool import make_avgpool_layer
from darkbn.layers.base import Layer
from darkbn.layers.maxpool import make_maxpool_layer, resize_maxpool_layer
from darkbn.layers.reorg import make_reorg_layer, resize_reorg_layer
from darkbn.layers.route import make_route_layer, resize_route_layer
from darkbn.layers.shortcut import make_shortcut_layer
from darkbn.layers.upsample import make_upsample_layer
from darkbn.state import NetworkState

#: A layer's maker and the shape (batch, c, h, w) of its input; it may use two earlier layers, (4, 6, 8) and (3, 3, 4).
MAKERS: dict[str, tuple[Callable[..., Layer], tuple[int, int, int, int]]] = {
    "maxpool": (lambda e, **k: make_maxpool_layer(2, 7, 9, 3, 3, 2, **k), (2, 3, 7, 9)),
    "maxpool-xy": (lambda e, **k: make_maxpool_layer(2, 8, 9, 3, 2, 2, 0, stride_y=1, **k), (2, 3, 8, 9)),
    "maxpool-spp": (lambda e, **k: make_maxpool_layer(1, 6, 5, 2, 5, 1, **k), (1, 2, 6, 5)),
    "maxpool-depth": (
        lambda e, **k: make_maxpool_layer(2, 4, 5, 7, 1, 1, maxpool_depth=True, out_channels=3, **k),
        (2, 7, 4, 5),
    ),
    "avgpool": (lambda e, **k: make_avgpool_layer(2, 5, 4, 3, **k), (2, 3, 4, 5)),
    "route": (lambda e, **k: make_route_layer(2, e, [-1, 0, -1], **k), (2, 1, 1, 1)),
    "route-groups": (lambda e, **k: make_route_layer(2, e[:1], [0], 2, 1, **k), (2, 1, 1, 1)),
    "shortcut": (
        lambda e, **k: make_shortcut_layer(2, e, [0], 8, 6, 4, "leaky", alpha=0.5, beta=-2.0, **k),
        (2, 4, 6, 8),
    ),
    "shortcut-larger": (lambda e, **k: make_shortcut_layer(2, e, [0, -1], 4, 3, 5, alpha=0.5, **k), (2, 5, 3, 4)),
    "shortcut-smaller": (lambda e, **k: make_shortcut_layer(2, e, [1, 0], 8, 6, 2, "mish", **k), (2, 2, 6, 8)),
    "upsample": (lambda e, **k: make_upsample_layer(2, 5, 4, 3, 2, 1.5, **k), (2, 3, 4, 5)),
    "upsample-down": (lambda e, **k: make_upsample_layer(2, 7, 6, 3, -3, 0.5, **k), (2, 3, 6, 7)),
    "reorg": (lambda e, **k: make_reorg_layer(2, 6, 4, 8, 2, **k), (2, 8, 4, 6)),
    "reorg-reverse": (lambda e, **k: make_reorg_layer(2, 3, 5, 8, 2, reverse=True, **k), (2, 8, 5, 3)),
    "reorg-flatten": (lambda e, **k: make_reorg_layer(2, 6, 4, 5, 2, flatten=True, **k), (2, 5, 4, 6)),
    "reorg-unflatten": (lambda e, **k: make_reorg_layer(2, 3, 4, 5, 1, reverse=True, flatten=True, **k), (2, 5, 4, 3)),
    "reorg-extra": (lambda e, **k: make_reorg_layer(2, 3, 4, 5, 1, extra=7, **k), (2, 5, 4, 3)),
}


class Setup:
    """A layer with its input and the two earlier layers it may use, all filled with random numbers."""

    def __init__(self, name: str, device: str) -> None:
        make, shape = MAKERS[name]
        backend = get_backend(device)
        rng = np.random.default_rng(0)

        def random(shape: tuple[int, ...]) -> Any:
            return backend.array(rng.standard_normal(shape).astype(np.float32))

        self.earlier: list[Layer] = []
        for index, (c, h, w) in enumerate([(4, 6, 8), (3, 3, 4)]):
            layer = make_upsample_layer(2, w, h, c, 1, backend=backend, index=index)
            layer.output[...], layer.delta[...] = random(layer.output.shape), random(layer.output.shape)
            self.earlier.append(layer)
        self.layer = make(self.earlier, backend=backend)
        self.net = NetworkState(input=random(shape), delta=random(shape), train=True, threads=2)
        self.given = random(self.layer.output.shape)

    def forward(self) -> Any:
        self.layer.forward(self.net)
        return self.layer.output.copy()

    def backward(self) -> list[Any]:
        """What backward adds to each delta."""
        deltas = [self.net.delta, *(layer.delta for layer in self.earlier)]
        before = [delta.copy() for delta in deltas]
        self.layer.delta[...] = self.given
        self.layer.backward(self.net)
        return [after - start for after, start in zip(deltas, before, strict=True)]


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    setup = Setup(name, "reference")
    setup.forward()
    found = setup.backward()
    step = 1e-6
    for array, gradient in zip([setup.net.input, *(l.output for l in setup.earlier)], found, strict=True):
        expected = np.zeros(array.shape)
        for at in np.ndindex(array.shape):
            value, sides = array[at], []
            for side in (step, -step):
                array[at] = value + side
                sides.append(float((setup.forward() * setup.given).sum()))
            array[at] = value
            expected[at] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, atol=1e-7)


@pytest.mark.parametrize("name", MAKERS)
def test_cpu_equals_reference(name: str) -> None:
    a, b = Setup(name, "cpu"), Setup(name, "reference")
    for found, expected in zip([a.forward(), *a.backward()], [b.forward(), *b.backward()], strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_inference_equals_training_and_needs_no_delta(name: str) -> None:
    setup = Setup(name, "cpu")
    trained = setup.forward()
    setup.net.train = False
    np.testing.assert_array_equal(setup.forward(), trained)
    setup.net.delta = None
    setup.layer.backward(setup.net)


def test_the_first_of_equal_maxima_is_taken() -> None:
    l = make_maxpool_layer(1, 2, 4, 1, 2, 2, 0)
    net = NetworkState(input=np.zeros((1, 1, 2, 4), np.float32), delta=np.zeros((1, 1, 2, 4), np.float32), train=True)
    l.forward(net)
    assert l.indexes.ravel().tolist() == [0, 2]
    l.delta[...] = [[[[3, 5]]]]
    l.backward(net)
    assert net.delta.tolist() == [[[[3, 0, 5, 0], [0, 0, 0, 0]]]]


def test_resize() -> None:
    pool = make_maxpool_layer(2, 8, 8, 3, 2, 2)
    resize_maxpool_layer(pool, 13, 5)
    assert pool.output.shape == pool.delta.shape == pool.indexes.shape == (2, 3, 3, 7)
    extra = make_reorg_layer(2, 3, 4, 5, 1, extra=7)
    resize_reorg_layer(extra, 2, 2)
    assert (extra.inputs, extra.output.shape) == (20, (2, 27))
    route = make_route_layer(2, [pool, extra], [0, 1])
    assert (route.out_c, route.output.shape) == (0, (2, 3 * 3 * 7 + 27))
    resize_maxpool_layer(pool, 4, 4)
    resize_route_layer(route, 2, 2)
    assert route.output.shape == (2, 3 * 2 * 2 + 27)


def describe(layers: str, width: int = 8, height: int = 6) -> str:
    """A network with that many pixels; the layers follow a convolution with 4 filters."""
    head = f"[net]\nwidth={width}\nheight={height}\nchannels=3\n[convolutional]\nfilters=4\nactivation=linear\n"
    return head + layers


BAD = [
    ("[route]\nlayers=-2\n", r"<text>:9: \[route\] \(layer 1\) layers: -2 means layer -1.*0 to 0 or -1 to -1"),
    ("[route]\nlayers=-1,1\n", "layers: 1 means layer 1"),
    ("[route]\nlayers=#\n", "layers: at least one"),
    ("[route]\n", "layers= is missing"),
    ("[route]\nlayers=-1\ngroups=3\n", "groups: 3 does not divide the 4 channels of layer 0"),
    ("[route]\nlayers=-1\ngroups=0\n", "groups: must be at least 1"),
    ("[route]\nlayers=-1\ngroups=2\ngroup_id=2\n", "group_id: must be 0 to 1"),
    ("[route]\nlayers=-1\ngroups=2\ngroup_id=-1\n", "group_id: must be at least 0"),
    ("[shortcut]\nfrom=-3\n", "from: -3 means layer -2.*-1 to -1"),
    ("[shortcut]\nfrom=5\n", "from: 5 means layer 5"),
    ("[shortcut]\n", "from= is missing"),
    ("[maxpool]\nsize=3\npadding=0\n[shortcut]\nfrom=-2\n", None),
    (
        "[upsample]\nstride=-2\n[maxpool]\nsize=2\npadding=0\n[shortcut]\nfrom=0\n",
        r"8 x 6 x 4.*cannot be added.*3 x 2 x 4",
    ),
    ("[route]\nlayers=0\n[avgpool]\n[connected]\noutput=5\n[shortcut]\nfrom=0\n", "cannot be added"),
    ("[maxpool]\nstride=2\n[route]\nlayers=-1,-2\n[shortcut]\nfrom=0\n", "needs an input with width"),
    (
        "[maxpool]\nstride=2\n[route]\nlayers=-1,-2\n[maxpool]\nstride=2\n",
        "layer 2 gives 240 values without image shape",
    ),
    ("[maxpool]\nsize=0\n", "size: must be at least 1"),
    ("[maxpool]\nsize=2000\n", "size: must be at most 1024"),
    ("[maxpool]\nstride=0\n", "stride: must be at least 1"),
    ("[maxpool]\npadding=-1\n", "padding: must be at least 0"),
    ("[maxpool]\nsize=9\npadding=0\n", "the output would be"),
    ("[upsample]\nstride=0\n", "stride: must not be 0"),
    ("[upsample]\nstride=-7\n", "the output would be"),
    ("[reorg]\nstride=0\n", "stride: must be at least 1"),
    ("[reorg]\nstride=4\n", "stride: 4 does not divide the input's 8 x 6 pixels"),
    ("[upsample]\nstride=3\n[reorg]\nstride=3\n", "stride: 3 x 3 does not divide the input's 4 channels"),
    ("[reorg]\nextra=5\nreverse=1\n", "extra: cannot be used together"),
    ("[reorg]\nextra=-5\n", "extra: must be at least 0"),
]


@pytest.mark.parametrize(("layers", "message"), BAD)
def test_what_cannot_be_is_refused(layers: str, message: str | None) -> None:
    if message is None:  # 8 x 6 and 6 x 4: both 1 time as large, the first pixels meet
        assert darkbn.load(describe(layers)).layers[-1].output.shape == (1, 4, 4, 6)
        return
    with pytest.raises(CfgError, match=message):
        darkbn.load(describe(layers))


def test_more_channels_than_there_are() -> None:
    with pytest.raises(CfgError, match="out_channels: must be at most the 4 channels"):
        darkbn.load(describe("[maxpool]\nmaxpool_depth=1\nout_channels=5\n"), dialect="alexeyab")


def test_dialects() -> None:
    grouped = describe("[route]\nlayers=-1\ngroups=2\ngroup_id=1\n")
    assert darkbn.load(grouped).dialect == "alexeyab"
    for dialect in ("darknet", "alexeyab"):
        net = darkbn.load(grouped, dialect=dialect, seed=0)
        net.forward(np.random.default_rng(0).random(net.input_shape))
        np.testing.assert_array_equal(net.layers[1].output, net.layers[0].output[:, 2:])
    strided = describe("[maxpool]\nsize=2\nstride=1\nstride_x=2\n")
    assert darkbn.load(strided, dialect="alexeyab").layers[1].output.shape == (1, 4, 6, 4)
    net = darkbn.load(strided, dialect="darknet")
    assert net.layers[1].output.shape == (1, 4, 6, 8)
    assert any("stride_x" in warning for warning in net.warnings)
    scaled = describe("[shortcut]\nfrom=-1\nalpha=3\nbeta=2\n")
    for dialect, factor in (("darknet", 5), ("alexeyab", 2)):
        net = darkbn.load(scaled, dialect=dialect, seed=0)
        net.forward(np.ones(net.input_shape))
        np.testing.assert_allclose(net.layers[1].output, factor * net.layers[0].output, rtol=1e-6)
