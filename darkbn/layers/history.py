"""[history] (dialect alexeyab): the input's maps of the last `history_size` steps, the newest first.

    output_t = (x_t, x_(t-1), ..., x_(t-history_size+1)), side by side as channels

Departure from Darknet: with one time step the history is kept, too, from pass to pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkbn.layers.base import Buffer, Context, LayerOptions, Role
from darkbn.layers.recurrent import Part, RecurrentLayer
from darkbn.options import option
from darkbn.state import NetworkState


@dataclass(frozen=True, kw_only=True)
class HistoryOptions(LayerOptions):
    """Options of [history]."""

    history_size: int = option(4, minimum=1)


class HistoryLayer(RecurrentLayer):
    """The last maps as channels. Arrays: prev_state (step_batch, out_c, h, w), the output of the pass before."""

    type = "history"
    sections = ("history",)
    options_class = HistoryOptions
    imitable = True

    def make_parts(self) -> dict[str, Part]:
        self.context.require_image("[history]")
        return {}

    def shape(self) -> None:
        super().shape()
        self.set_output(self.h, self.w, self.c * self.options.history_size)

    def buffers(self) -> list[Buffer]:
        return [*self.output_buffers(), Buffer("prev_state", (self.step_batch, *self.output_shape[1:]), Role.STATE)]

    def forward(self, net: NetworkState) -> None:
        forward_history_layer(self, net)

    def backward(self, net: NetworkState) -> None:
        backward_history_layer(self, net)

    def describe(self) -> tuple[str, str]:
        return str(self.out_c), f"{self.options.history_size} steps"


def make_history_layer(
    batch: int, h: int, w: int, c: int, history_size: int, steps: int, **context: Any
) -> HistoryLayer:
    """A history outside a network, ready to train.

    Args:
        batch, h, w, c: input shape; batch is that of a step times steps.
        history_size: maps of how many steps.
        steps: time steps.
        context: further fields of `Context` (backend, dialect).
    """
    options = HistoryOptions(history_size=history_size)
    l = HistoryLayer(options, Context(batch=batch, h=h, w=w, c=c, inputs=h * w * c, time_steps=steps, **context))
    l.allocate(training=True)
    return l


def forward_history_layer(l: HistoryLayer, net: NetworkState) -> None:
    """Copy the new maps before those of the step before."""
    if net.train:
        l.prev_state.fill(0)
    x = net.input.reshape(l.batch, l.c, l.h, l.w)
    for t in range(l.steps):
        output, before = l.at(l.output, t), l.before(l.output, l.prev_state, t)
        output[:, : l.c] = l.at(x, t)
        output[:, l.c :] = before[:, : -l.c]
    if not net.train:
        l.prev_state[...] = l.at(l.output, l.steps - 1)


def backward_history_layer(l: HistoryLayer, net: NetworkState) -> None:
    """Each map's gradient is the sum over the steps that show it."""
    if net.delta is None:
        return
    delta = net.delta.reshape(l.batch, l.c, l.h, l.w)
    shown = 1 if l.imitates else l.options.history_size
    for t in range(l.steps):
        target = l.at(delta, t)
        for age in range(min(shown, l.steps - t)):
            target += l.at(l.delta, t + age)[:, age * l.c : (age + 1) * l.c]


def resize_history_layer(l: HistoryLayer, w: int, h: int) -> None:
    """Take maps of w x h."""
    l.resize(w, h)
