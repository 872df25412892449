"""A step of `train_step`, which does not clear the deltas that it replaces, against the passes one by one."""

from __future__ import annotations

import numpy as np
import pytest

import darkbn
from darkbn.layers.base import Role

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky"
COST = "[cost]\ntype=sse"

#: Sections between two convolutions of 4 maps of 6 x 6 and the loss; in dialect alexeyab.
MIDDLES = {
    "none": "",
    "maxpool": "[maxpool]\nsize=2\nstride=2",
    "overlapping maxpool": "[maxpool]\nsize=3\nstride=1",
    "maxpool over channels": "[maxpool]\nmaxpool_depth=1\nout_channels=2",
    "maxima": "[maxpool]\nsize=3\nstride=1\nmaxpool_zero_nonmax=1",
    "avgpool": "[avgpool]",
    "local avgpool": "[local_avgpool]\nsize=2\nstride=2",
    "upsample": "[upsample]\nstride=2",
    "shortcut": "[shortcut]\nfrom=-2\nactivation=relu",
    "shortcut to itself": "[shortcut]\nfrom=-1",
    "shortcuts": f"[shortcut]\nfrom=-2,-3\n\n{CONV}\n\n[shortcut]\nfrom=-2,-4",
    "weighted shortcut": "[shortcut]\nfrom=-2,-3\nweights_type=per_channel",
    "smaller shortcut": f"[maxpool]\nsize=2\nstride=2\n\n{CONV.replace('=4', '=3')}\n\n[shortcut]\nfrom=-3",
    "route": "[route]\nlayers=-1,-2,-3",
    "route of groups": "[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1",
    "two routes": f"[route]\nlayers=-2\n\n{CONV}\n\n[route]\nlayers=-1,-3,-4",
    "the same twice": "[route]\nlayers=-1,-1",
    "sam": "[sam]\nfrom=-2",
    "excitation": "[avgpool]\n\n[convolutional]\nfilters=4\nactivation=logistic\n\n[scale_channels]\nfrom=-3",
    "dropout": "[dropout]\nprobability=.3",
    "batchnorm": "[batchnorm]",
    "activation": "[activation]\nactivation=mish",
    "reorg": "[reorg]\nstride=2",
    "connected": "[connected]\noutput=7\nactivation=tanh",
    "recurrent": "[gru]\noutput=5",
    "strided": CONV.replace("size=3", "size=3\nstride=2"),
    "grouped": CONV.replace("size=3", "size=3\ngroups=2"),
    "coordinates": f"{CONV}\ncoordconv=1",
    "blurred": f"{CONV}\nstride=2\nantialiasing=1",
    "shared": f"{CONV}\nshare_index=-1",
    "swish": CONV.replace("leaky", "swish"),
    "normalized channels": CONV.replace("leaky", "normalize_channels"),
    "frozen": CONV + "\nstopbackward=1",
}


def network(middle: str) -> darkbn.Network:
    head = "[net]\nbatch=3\nwidth=6\nheight=6\nchannels=3\nlearning_rate=0.01\nmomentum=.9\ndecay=.01"
    return darkbn.load("\n\n".join([head, CONV, CONV, CONV, middle, COST, ""]), train=True, seed=3, dialect="alexeyab")


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES)
def test_a_step_is_its_passes(middle: str) -> None:
    whole, parts = network(middle), network(middle)
    rng = np.random.default_rng(5)
    for _ in range(2):
        x = rng.standard_normal(whole.input_shape).astype(np.float32)
        truth = rng.standard_normal(whole.layers[-1].output_shape).astype(np.float32)
        for layer in whole.layers:
            layer.delta.fill(np.nan)
        loss = whole.train_step(x, truth)
        parts.seen += parts.batch
        parts.forward(x, truth, train=True)
        parts.backward(input_delta=False)
        parts.update()
        assert loss == parts.cost
    for mine, other in zip(whole.layers, parts.layers, strict=True):
        for (_, a), (_, b) in zip(mine.walk(), other.walk(), strict=True):
            names = [x.name for x in a.buffers() if x.role in (Role.PARAMETER, Role.UPDATE, Role.STATISTIC)]
            for name in names:
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=f"{mine} {name}")


@pytest.mark.parametrize("middle", ["none", "route", "shortcuts"])
def test_deltas_given_between_the_passes_count(middle: str) -> None:
    """Only `train_step` may leave deltas as they are: between passes they are the caller's."""
    net = network(MIDDLES[middle])
    x = np.random.default_rng(5).standard_normal(net.input_shape).astype(np.float32)
    net.train_step(x, np.zeros(net.layers[-1].output_shape, np.float32))
    net.forward(x, train=True)
    assert not any(layer.delta.any() for layer in net.layers)
    for layer in net.layers:
        layer.delta.fill(1)
    before = net.layers[0].bias_updates.copy()
    net.backward()
    assert (net.layers[0].bias_updates != before).any()
    assert net.input_delta is not None
    assert net.input_delta.any()
