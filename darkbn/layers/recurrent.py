"""What recurrent layers share: sub-layers that work step by step, and the state between passes.

The batch of a recurrent layer holds `time_steps` steps, step after step: sample b of step t is row t * step_batch + b.
A sub-layer is an ordinary [connected] or [convolutional] layer with arrays for all steps. Where a step depends on the
one before, a view of the sub-layer works on the rows of that step (Darknet moves pointers: increment_layer); where
none does, the sub-layer takes all steps at once. Batch normalization in training always goes step by step, and every
step has statistics of its own.

Without training the state is carried from pass to pass until `reset_state`. Training passes start from zero and leave
zero behind.

Darknet's CPU code differs from the derivative on the way back through time. Conventions with `darknet_through_time`
(darknet, alexeyab-cpu: darkbn's default in dialect darknet) follow it, all others compute the derivative:

* batch normalization takes the mean and variance of the last step for the input gradient of every step;
* [rnn], [crnn]: the delta of input_layer is that of self_layer after its activation (and batch normalization), and so
  is what shortcut=1 passes on to the step before; the weights of output_layer see the state without the shortcut;
* [lstm]: the first of several steps takes its own output and cell for those before it;
* [history]: only the newest map gets a gradient.

Departures: [gru] has a gradient (Darknet's CPU code has none), [lstm] and [conv_lstm] have a delta on every backend
(lstm-cpu-backward-needs-a-delta-buffer), that of [conv_lstm] is the derivative (ab-conv-lstm-cpu-backward-incomplete),
the state is large enough for all steps (pj-rnn-state-buffer-too-small), all of them learn in dialect alexeyab
(ab-layer-without-train-flag-is-not-updated), and so does [crnn] in dialect darknet, where Darknet gives its
convolutions the learning rate 0 (pj-crnn-does-not-learn). learning_rate= of the section holds for its sub-layers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from darkbn.layers.activation import gradient_array
from darkbn.layers.base import Buffer, Context, Layer, Role
from darkbn.layers.connected import ConnectedLayer, ConnectedOptions
from darkbn.layers.convolutional import ConvolutionalLayer, ConvolutionalOptions
from darkbn.state import NetworkState

#: What sub-layers are.
Part = ConnectedLayer | ConvolutionalLayer

#: Options of the section that its sub-layers follow.
_INHERITED = ("learning_rate", "clip", "dont_update", "burnin_update", "train_only_bn")


@contextmanager
def inside(net: NetworkState) -> Iterator[None]:
    """Sub-layers may have other inputs and deltas inside; the layer's own are put back in the end."""
    outside = net.input, net.delta
    try:
        yield
    finally:
        net.input, net.delta = outside


class RecurrentLayer(Layer):
    """Base of the layers that have sub-layers and a state.

    A subclass makes its sub-layers in `make_parts`, in the order of the weights file; they become attributes.

    Attributes:
        steps: time steps of a pass.
        step_batch: samples of a step; batch is steps * step_batch.
        imitates: whether the way back through time is Darknet's (see above).
    """

    #: Whether `darknet_through_time` concerns it.
    imitable: ClassVar[bool] = False

    def __init__(self, options: Any, context: Context) -> None:
        self.steps = context.time_steps
        if context.batch % self.steps:
            raise context.error(f"time_steps={self.steps} must divide the batch of {context.batch}")
        self.step_batch = context.batch // self.steps
        self.imitates = self.imitable and context.convention.darknet_through_time
        self._parts: dict[str, Part] = {}
        self._views: dict[str, list[Part]] = {}
        super().__init__(options, context)

    # -- sub-layers ----------------------------------------------------------------------------------------------

    def make_parts(self) -> dict[str, Part]:
        """The sub-layers by their Darknet names, in the order of the weights file."""
        raise NotImplementedError

    def shape(self) -> None:
        if not self._parts:
            self._parts = self.make_parts()
            for name, part in self._parts.items():
                setattr(self, name, part)
        else:
            for part in self._parts.values():
                self.reshape_part(part)

    def reshape_part(self, part: Part) -> None:
        """Give a sub-layer its sizes anew after those of the input; a fully connected one keeps its own."""

    @property
    def sublayers(self) -> dict[str, Layer]:
        return dict(self._parts)

    def connected(self, inputs: int, outputs: int, activation: str) -> ConnectedLayer:
        """A fully connected sub-layer."""
        options = ConnectedOptions(
            output=outputs,
            activation=activation,
            batch_normalize=self.options.batch_normalize,
            **self._inherited(),
        )
        return ConnectedLayer(options, replace(self.context, h=0, w=0, c=0, inputs=inputs))

    def convolution(self, c: int, filters: int, **options: Any) -> ConvolutionalLayer:
        """A convolution of maps of the input's size; raises CfgError when its output is of another size."""
        options = {"batch_normalize": int(self.options.batch_normalize), "filters": filters, **options}
        context = replace(self.context, h=self.h, w=self.w, c=c, inputs=self.h * self.w * c)
        part = ConvolutionalLayer.build(ConvolutionalOptions(**options, **self._inherited()), context)
        assert isinstance(part, ConvolutionalLayer)
        part.joins_activation = False  # the way back through time takes them apart
        self.require_same_size(part)
        return part

    def require_inputs(self, inputs: int) -> None:
        """Raise CfgError unless the input has as many values as before."""
        if inputs != self.inputs:
            raise self.context.error(f"has {self.inputs} inputs and cannot take {inputs}: its weights fix the size")

    def require_same_size(self, part: Layer) -> None:
        """Raise CfgError unless a convolution gives maps of the size that it takes, as a state must."""
        if (part.out_w, part.out_h) != (part.w, part.h):
            raise self.context.error(
                f"the state is an input of the next step, so size, stride and pad must keep {part.w} x {part.h};"
                f" they give {part.out_w} x {part.out_h}"
            )

    def _inherited(self) -> dict[str, Any]:
        return {name: getattr(self.options, name) for name in _INHERITED}

    # -- arrays --------------------------------------------------------------------------------------------------

    def statistics_buffers(self) -> list[Buffer]:
        """Statistics of batch normalization of each step but the last, whose are the sub-layer's own."""
        names = [name for name, part in self._parts.items() if part.batch_normalize] if self.steps > 1 else []
        own = [
            Buffer(f"{name}_{kind}", (self.steps - 1, self._channels(name)), Role.SCRATCH, training=True)
            for name in names
            for kind in ("mean", "variance")
        ]
        if names and self.imitates:
            size = max(math.prod(self._parts[name].output_shape) for name in names) // self.steps
            own.append(Buffer("step_x_norm", (size,), Role.SCRATCH, training=True))
            own.append(Buffer("unused_updates", (max(map(self._channels, names)),), Role.SCRATCH, training=True))
        return own

    def _channels(self, name: str) -> int:
        part = self._parts[name]
        return part.out_c or part.outputs

    def allocate(self, training: bool) -> None:
        super().allocate(training)
        self._views = {name: self._step_views(name, part) for name, part in self._parts.items()}

    def _step_views(self, name: str, part: Part) -> list[Part]:
        """The sub-layer once per step: its parameters, and its other arrays' rows of that step."""
        if self.steps == 1:
            return [part]
        split = [
            b.name
            for b in part.buffers()
            if b.role in (Role.ACTIVATION, Role.SCRATCH) and b.shape == part.output_shape and b.name in part.__dict__
        ]
        views = []
        for t in range(self.steps):
            view: Any = copy.copy(part)
            view.batch = self.step_batch
            for array in split:
                if getattr(part, array) is not None:
                    setattr(view, array, self.at(getattr(part, array), t))
            if part.batch_normalize and self.trainable and t < self.steps - 1:
                view.mean, view.variance = getattr(self, f"{name}_mean")[t], getattr(self, f"{name}_variance")[t]
            views.append(view)
        return views

    def at(self, array: Any, t: int) -> Any:
        """The rows of step t."""
        return array[t * self.step_batch : (t + 1) * self.step_batch]

    def before(self, array: Any, carried: Any, t: int) -> Any:
        """The rows of the step before t: what the pass before left (zero in training) when t is the first."""
        return self.at(array, t - 1) if t else carried

    # -- passes --------------------------------------------------------------------------------------------------

    def step(self, name: str, t: int) -> Part:
        """A sub-layer as it works in step t."""
        return self._views[name][t]

    def forward_step(self, name: str, t: int, net: NetworkState, x: Any) -> Any:
        """Run a sub-layer on the rows of step t; returns its output there."""
        view = self.step(name, t)
        net.input = x
        view.forward(net)
        return view.output

    def forward_all(self, name: str, net: NetworkState, x: Any) -> None:
        """Run a sub-layer on all steps."""
        part = self._parts[name]
        if not (net.batch_statistics and part.batch_normalize):
            net.input = x
            part.forward(net)
            return
        for t in range(self.steps):
            self.forward_step(name, t, net, self.at(x, t))

    def backward_step(self, name: str, t: int, net: NetworkState, x: Any, delta: Any) -> None:
        """Backward pass of a sub-layer in step t, whose input was x and has the delta `delta` (or None)."""
        net.input, net.delta = x, delta
        view = self.step(name, t)
        if self.imitates and view.batch_normalize and t < self.steps - 1:
            self._backward_with_last_statistics(self._parts[name], view, net)
        else:
            view.backward(net)

    def backward_all(self, name: str, net: NetworkState, x: Any, delta: Any) -> None:
        """Backward pass of a sub-layer in all steps."""
        part = self._parts[name]
        if not part.batch_normalize:
            net.input, net.delta = x, delta
            part.backward(net)
            return
        for t in reversed(range(self.steps)):
            self.backward_step(name, t, net, self.at(x, t), None if delta is None else self.at(delta, t))

    def _backward_with_last_statistics(self, part: Any, view: Any, net: NetworkState) -> None:
        """As Darknet does: the scales' gradient from the step's own x_norm, the input's with the last statistics."""
        gradient_array(view, net)
        shape = (view.batch, view.out_c or view.outputs, -1)
        x, delta = view.x.reshape(shape), view.delta.reshape(shape)
        x_norm = self.step_x_norm[: x.size].reshape(x.shape)
        c, kernels = view.convention, self.backend.batchnorm
        kernels.normalize(x, x_norm, view.mean, view.variance, c.epsilon, int(c.epsilon_outside), net.threads)
        kernels.backward_scale(x_norm, delta, view.scale_updates, net.threads)
        last: Any = copy.copy(view)
        last.activation = "linear"
        last.mean, last.variance = part.mean, part.variance
        last.scale_updates = self.unused_updates[: part.scale_updates.size]
        last.backward(net)

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self._parts.values())

    def describe(self) -> tuple[str, str]:
        part = next(iter(self._parts.values()))
        return str(self.out_c), part.describe()[1]
