"""A network: its layers, its passes, its files."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.backend import Backend, get_backend, to_host
from darkbn.build import build_layers, check_memory, guess_dialect
from darkbn.cfg import Cfg, read_cfg
from darkbn.conventions import BatchNormConvention, get_convention
from darkbn.cpu import thread_count
from darkbn.device import layer_errors, move
from darkbn.errors import DarkbnError, ShapeError, UnsupportedError
from darkbn.guard import check_cost, check_updates
from darkbn.layers.base import Layer, take_losses
from darkbn.net_options import NetOptions
from darkbn.options import DIALECTS
from darkbn.rejection import LabelRejection
from darkbn.state import NetworkState
from darkbn.steps import StepQueue
from darkbn.training import (
    average_parameters,
    forget_updates,
    frozen_layers,
    reject_similar_filters,
    require_averages,
    rests,
    update_args,
)
from darkbn.weights import WeightsFile, is_loaded_whole, load_weights, read_header, save_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkbn.detect import Detection
    from darkbn.inference.fold_network import Folding
    from darkbn.inference.plan import Marks, Plan
    from darkbn.inference.profile import Profile
    from darkbn.summary import Summary
    from darkbn.training_profile import TrainingProfile
    from darkbn.warmup import Warmup

log = logging.getLogger(__name__)

#: Bytes of packed filters for each byte of the filters themselves that plans may have: see `Network.memory`.
MEMORY = 2.0

#: Convention of batch normalization that a dialect means when none is named.
DEFAULT_CONVENTIONS = {"darknet": "darknet", "alexeyab": "alexeyab-gpu"}


class Network:
    """A Darknet network in memory. Made by `darkbn.load`.

    Attributes:
        cfg: the description it was made from.
        options: of [net]; batch, width and height as loaded, not as written.
        layers: the layers, index = Darknet's layer index.
        batch: images per pass (time steps included), as Darknet counts net.batch.
        subdivisions: passes per update when training.
        width, height, channels, inputs: of the input.
        dialect, dialect_reason: which Darknet's rules are followed, and why.
        backend: where the arrays live.
        threads: threads that kernels use.
        memory: bytes of packed filters that plans may take for each byte of the filters themselves: 1 is as little as
            possible, infinity as much as is fast (`darkbn.inference.budget`). Plans are made anew when it changes.
        seen: images seen in training; carried through the weights file.
        steps: updates made since the optimizer's state was zero; Adam counts them.
        inference: whether it was loaded for inference only: parameters are in its plans, not in its layers.
        averaged: whether the moving averages of the parameters (ema_alpha) have started.
        check_finite: whether training raises NonFiniteError at the first NaN or infinity (`darkbn.guard`); True.
        input_delta: gradient (descent direction) with respect to the input after `backward`, shaped like the input.
        version: counts the changes of parameters and sizes that the network itself makes (training, `load_weights`,
            `resize`); a plan of another version is not used.
        warnings: what was odd in the files: unknown options, ignored duplicates, left-over bytes.
    """

    def __init__(
        self,
        cfg: Cfg,
        *,
        options: NetOptions,
        dialect: str,
        dialect_reason: str,
        convention: BatchNormConvention,
        backend: Backend,
        training: bool,
        seed: int | None,
        threads: int,
        warnings: list[str],
        inference: bool = False,
        from_file: bool = False,
    ) -> None:
        """See `load`. from_file: a weights file is read next, so that only what it lacks needs initial values."""
        self.cfg, self.options = cfg, options
        self.dialect, self.dialect_reason = dialect, dialect_reason
        self.convention, self.backend = convention, backend
        self.warnings = warnings
        self.threads = threads
        self.memory = MEMORY
        self.inference = inference
        self._file: WeightsFile | None = None
        self.subdivisions = options.subdivisions
        self.rate = options.schedule(cfg.net)
        self.layers = build_layers(
            cfg,
            options,
            backend=backend,
            dialect=dialect,
            convention=convention,
            batch=options.batch,
            warnings=warnings,
        )
        self.batch = options.batch * options.time_steps
        self.width, self.height, self.channels = options.width, options.height, options.channels
        self.inputs = self.layers[0].inputs
        self.seen = self.steps = 0
        self.averaged = False
        self.check_finite = True
        self._cost: float | None = None
        self._cost_due = False
        self.input_delta: Any = None
        self.training = False
        self.version = 0
        self._plan: Plan | None = None
        self._marks: Marks | None = None
        self._tuned = False
        rejection = LabelRejection.of(options, cfg.net)
        self._state = NetworkState(
            layers=self.layers, rng=np.random.default_rng(seed), rejection=rejection, check_finite=False
        )
        self._allocate(training)
        for layer in [] if inference else self.layers:
            if not (from_file and is_loaded_whole(layer)):
                layer.initialize(self._state.rng)

    # -- arrays --------------------------------------------------------------------------------------------------

    def _allocate(self, training: bool) -> None:
        if self.inference:
            for layer in self.layers:
                layer.release()
            return
        if training:
            self._check_trainable()
        check_memory(self.layers, training, self.cfg.file)
        for index, layer in enumerate(self.layers):
            with layer_errors(index, layer):
                layer.allocate(training)
        self.training = training

    def _require_parameters(self, what: str) -> None:
        if self.inference:
            raise DarkbnError(
                f"{self.cfg.file}: {what} needs the parameters, which a network loaded with inference=True has in its"
                " plan only; load it without"
            )

    @property
    def weights_file(self) -> WeightsFile:
        """The file from which a network loaded with inference=True reads its parameters."""
        if self._file is None:
            raise DarkbnError(f"{self.cfg.file}: this network has no weights file to read its parameters from")
        return self._file

    @property
    def random(self) -> np.random.Generator:
        """Random numbers of initial parameters, dropout and augmenting layers."""
        return self._state.rng

    def warn_once(self, warnings: Iterable[str]) -> None:
        """Log warnings and keep those that are new."""
        for text in warnings:
            if text not in self.warnings:
                self.warnings.append(text)
                log.warning("%s", text)

    def _check_trainable(self) -> None:
        reasons = [f"[net] {text}" for text in self.options.untrainable(self.dialect)]
        for index, layer in enumerate(self.layers):
            reasons += [f"layer {index} [{layer.type}] {text}" for text in layer.untrainable()]
        if reasons:
            raise UnsupportedError(f"{self.cfg.file}: this network can be run, but not trained: " + "; ".join(reasons))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of `forward`'s input: (batch, channels, height, width), or (batch, inputs) without image shape."""
        if self.width and self.height and self.channels:
            return (self.batch, self.channels, self.height, self.width)
        return (self.batch, self.inputs)

    @property
    def output_layer(self) -> Layer:
        """The last layer that is not a [cost]."""
        return next((l for l in reversed(self.layers) if l.type != "cost"), self.layers[-1])

    @property
    def heads(self) -> list[Layer]:
        """The detection layers ([yolo], [region], ...) in order."""
        return [l for l in self.layers if l.is_head]

    # -- passes --------------------------------------------------------------------------------------------------

    def forward(self, x: Any, truth: Any = None, train: bool = False) -> Any:
        """Run all layers, one after the other.

        Args:
            x: input, `input_shape` (or as many values in another shape with the batch first), any real type.
            truth: labels (batch, truths) for the layers with a loss, or None.
            train: batch statistics, dropout and losses as in training.

        Returns:
            The output layer's array. It is the layer's own and overwritten by the next pass; copy it to keep it.
        """
        return self._forward(x, truth, train, clear=True)

    def _forward(self, x: Any, truth: Any, train: bool, *, clear: bool) -> Any:
        """`forward`. Unless told to clear, deltas keep what they hold until `backward` replaces it: so much memory
        need not be written. Losses find zeros in their deltas in any case."""
        self._require_parameters("forward")
        if train:
            self.changed()  # rolling statistics follow the batch
            if not self.training:
                self._allocate(True)
        state = self._state
        state.input = self._input(x)
        self._take_truth(truth)
        state.train, state.threads, state.seen = train, self.threads, self.seen
        state.completed = self.completed
        state.subdivision = max(self.seen - 1, 0) // self.batch % self.subdivisions
        state.max_batches, state.burn_in = self.options.max_batches, self.options.burn_in
        state.undefined = {} if clear else self._lazy_deltas()
        frozen = self.frozen if train else [False] * len(self.layers)
        for state.index, layer in enumerate(self.layers):
            state.frozen = frozen[state.index]
            state.resting = train and rests(layer, state.completed + 1, self.options.burn_in)
            if train and layer.delta is not None and id(layer.delta) not in state.undefined:
                self.backend.vector.fill(layer.delta, 0.0, self.threads)
            with layer_errors(state.index, layer):
                layer.forward(state)
            state.input = layer.output
            if layer.options.truth:
                state.truth = layer.output
        self._cost_due |= train
        return self.output_layer.output

    @property
    def cost(self) -> float | None:
        """Loss of the last training pass, mean over the layers with a loss; None before one.

        Read off the device when asked for, those of all layers at once.
        """
        if self._cost_due:
            take_losses(self.layers)
            costs = [layer.cost for layer in self.layers if layer.cost is not None]
            self.cost = sum(costs) / len(costs) if costs else None
        return self._cost

    @cost.setter
    def cost(self, value: float | None) -> None:
        self._cost, self._cost_due = value, False

    def backward(self, input_delta: bool = True) -> None:
        """Run all layers backwards from the deltas that the losses (or the caller) put into the last layers.

        Deltas are descent directions (truth - output); updates accumulate in the layers until `update`.

        Args:
            input_delta: whether to compute the gradient of the input, too.
        """
        state = self._state
        if not self.training or not state.train:
            raise DarkbnError("backward needs a training pass before it: forward(x, truth, train=True)")
        self.input_delta = self.backend.zeros(self._last_input.shape) if input_delta else None
        frozen = self.frozen
        for index in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[index]
            if frozen[index]:
                continue
            state.delta = self.layers[index - 1].delta if index else self.input_delta
            self._clear_deltas(layer)
            if self.options.try_fix_nan and layer.type == "convolutional":
                self.backend.vector.constrain(layer.delta, 1.0, self.threads)
            state.index = index
            state.input = self.layers[index - 1].output if index else self._last_input
            with layer_errors(index, layer):
                layer.backward(state)

    def _lazy_deltas(self) -> dict[int, Any]:
        """Deltas that need not be cleared before a step: of layers that are not losses and share none with one."""
        written = {id(layer.delta) for layer in self.layers if layer.has_cost}
        return {id(layer.delta): layer.delta for layer in self.layers if id(layer.delta) not in written}

    def _clear_deltas(self, layer: Layer) -> None:
        """Clear what a layer's backward pass reads or adds to where nothing was added yet."""
        state = self._state
        if not state.undefined:
            return
        added_to = () if layer.replaces_deltas else (state.delta, *(l.delta for l in layer.gradient_sources))
        for delta in (layer.delta, *added_to):
            if delta is not None:
                state.clear(delta, self.backend)

    def update(self) -> None:
        """Apply the accumulated updates to all layers but frozen ones, with this iteration's learning rate.

        Raises NonFiniteError, with nothing applied, when one of them is NaN or infinite (see `check_finite`).
        """
        if self.check_finite:
            check_updates(self)
        args = update_args(self)
        if self.backend.together is not None:
            args = replace(args, queue=StepQueue(self.backend))
        self.changed()
        resting = [rests(layer, args.iteration, self.options.burn_in) for layer in self.layers]
        for index, (layer, frozen, rest) in enumerate(zip(self.layers, self.frozen, resting, strict=True)):
            if not frozen and not rest:
                with layer_errors(index, layer):
                    layer.update(args)
        if args.queue is not None:
            args.queue.flush(args)
        for layer in itertools.compress(self.layers, resting):
            forget_updates(layer)
        self.steps += 1
        average_parameters(self)
        reject_similar_filters(self)

    @property
    def frozen(self) -> list[bool]:
        """Which layers are frozen in this iteration; see `darkbn.training.frozen_layers`."""
        return frozen_layers(self.layers, self.dialect, self.completed)

    @property
    def completed(self) -> int:
        """Iterations that are over, while one is being made."""
        return max(self.seen - 1, 0) // (self.batch * self.subdivisions)

    def train_step(self, x: Any, truth: Any) -> float:
        """One pass forward and backward; after `subdivisions` of them, an update (Darknet's train_network_datum).

        Args:
            x, truth: as in `forward`.

        Returns:
            The loss, summed over the batch as Darknet sums it.

        Raises:
            NonFiniteError: the loss or an update is NaN or infinite; it names iteration, layer and array.
        """
        self.seen += self.batch
        self._forward(x, truth, True, clear=False)
        if self.check_finite:
            check_cost(self)
        self.backward(input_delta=False)
        if (self.seen // self.batch) % self.subdivisions == 0:
            self.update()
        return float(self.cost or 0.0)

    def predict(self, x: Any) -> Any:
        """Outputs for any number of inputs.

        Args:
            x: (n, channels, height, width), (channels, height, width), or (n, inputs).

        Returns:
            A new array (n, ...): the output layer's; with several detection heads a list with one array per head.
        """
        x = x if isinstance(x, self.backend.xp.ndarray) else np.asarray(to_host(x))
        shape = self.input_shape[1:]
        if x.shape == shape:
            x = x[np.newaxis]
        if x.shape[1:] != shape and x.shape[1:] != (self.inputs,):
            raise ShapeError(f"predict: expected inputs of shape {shape}, found {x.shape[1:]} in {x.shape}")
        layers = self.heads if len(self.heads) > 1 else [self.output_layer]
        parts: list[list[Any]] = [[] for _ in layers]
        plan = self.current_plan()
        for start in range(0, len(x), self.batch):
            chunk = x[start : start + self.batch]
            self.backend.assign(plan.input[: len(chunk)], chunk.reshape(-1, *plan.input.shape[1:]))
            plan.input[len(chunk) :] = 0
            plan.run()
            for part, layer in zip(parts, layers, strict=True):
                part.append(layer.output[: len(chunk)].copy())
        joined = [
            self.backend.xp.concatenate(part) if part else self.backend.empty((0, *layer.output_shape[1:]))
            for part, layer in zip(parts, layers, strict=True)
        ]
        return joined if len(joined) > 1 else joined[0]

    def compile(self, outputs: Iterable[int] | None = None, *, tune: bool = False) -> Plan:
        """A plan: the network with its present parameters as a list of steps made to run fast.

        The network is not changed. `predict`, `detect` and `classify` compile one when they need it and again after
        training, `load_weights`, `resize` or changes of parameters; only who wants to run a plan himself, or other
        outputs, calls this.

        Args:
            outputs: indices of layers whose outputs are wanted, negative ones from the end; None: what `predict` and
                `detect` need: all detection heads, else the output layer.
            tune: measure how each convolution is computed fastest instead of estimating it. Takes seconds; what was
                measured is remembered for this machine (`darkbn.inference.tune`). The plans that this network makes
                by itself are tuned from then on, too.

        Raises:
            DarkbnError: there is no such layer; tune on another device than "cpu".
        """
        from darkbn.inference.plan import compile_network

        if tune and not self._tuned:
            self._tuned, self._plan = True, None
        return compile_network(self, outputs, tune=self._tuned)

    def fold(self, x: Any = None) -> Folding:
        """A new network without batch normalization, which the weights and biases take over; this one stays as it is.

        Args:
            x: input on which both are compared, `input_shape`; None: random numbers.

        Returns:
            The network, what was folded, the largest change of an output, and `save(cfg, weights)`; see
            `darkbn.inference.fold_network`.
        """
        from darkbn.inference.fold_network import fold

        self._require_parameters("fold")
        return fold(self, x)

    def profile(self, x: Any = None, *, repeat: int = 10) -> Profile:
        """Where the time of a prediction goes, step by step; `str()` of it is a table.

        Args:
            x: input of shape `input_shape`; None: random numbers.
            repeat: passes, of which medians are taken.
        """
        from darkbn.inference.profile import profile_plan

        return profile_plan(self, self.current_plan(), x, repeat=repeat)

    def profile_training(self, x: Any = None, truth: Any = None, *, repeat: int = 5) -> TrainingProfile:
        """Where the time of a training step goes, kernel by kernel; `str()` of it is a table.

        Parameters, statistics and counters are as before afterwards; see `darkbn.training_profile`.

        Args:
            x, truth: a batch as `train_step` takes it; None: random ones.
            repeat: steps, of which medians are taken.
        """
        from darkbn.training_profile import profile_training

        return profile_training(self, x, truth, repeat=repeat)

    def warmup(self, x: Any = None, truth: Any = None) -> Warmup:
        """Get ready for predictions: make the plan, compile and load the GPU's kernels, capture the CUDA graph.

        The network's parameters, statistics and states are afterwards what they were.

        Args:
            x: input of shape `input_shape`; None: whatever is there.
            truth: labels; with them the kernels of training get ready, too.

        Returns:
            Which kernel files were compiled and which came from the cache, in how many seconds; `str()` is a table.
        """
        from darkbn.warmup import warm_up

        return warm_up(self, x, truth)

    def current_plan(self) -> Plan:
        """The plan for the network's present parameters and size, made anew if these are not those of the last."""
        plan = self._plan
        stale = plan is None or not plan.current or (plan.threads, plan.memory) != (self.threads, self.memory)
        if stale or self._marks is None or self._marks.changed():
            from darkbn.inference.plan import Marks

            self._plan = None  # its memory is free before the next one needs some
            plan, self._marks = self.compile(), Marks(self)
            self._plan = plan
        assert plan is not None
        return plan

    def changed(self) -> None:
        """Note that parameters or sizes changed: plans made before are not used any more."""
        self.version += 1

    def reset_state(self, sample: int | None = None) -> None:
        """Forget the state that recurrent layers carry between passes without training (Darknet's reset_network_state).

        Args:
            sample: which sample of a time step forgets, 0 to batch / time_steps - 1; None: all.
        """
        samples = self.batch // self.options.time_steps
        if sample is not None and not 0 <= sample < samples:
            raise ShapeError(f"reset_state: sample must be in 0 to {samples - 1}, found {sample}")
        for layer in self.layers:
            layer.reset_state(sample)

    def _input(self, x: Any) -> Any:
        if np.shape(x)[:1] != (self.batch,) or int(np.prod(np.shape(x))) != self.batch * self.inputs:
            shape = tuple(np.shape(x))
            hint = f"; darkbn.load(..., batch={shape[0]}) takes it" if shape[1:] == self.input_shape[1:] else ""
            raise ShapeError(f"expected an input of shape {self.input_shape}, found {shape}{hint}")
        self._last_input = self.backend.array(x).reshape(self.input_shape)
        return self._last_input

    def _take_truth(self, truth: Any) -> None:
        self._state.truth = self._last_truth = None
        if truth is None:
            return
        if np.shape(truth)[:1] != (self.batch,):
            raise ShapeError(f"expected labels for {self.batch} images, found an array of shape {np.shape(truth)}")
        self._state.take_truth(truth, self.backend)
        self._last_truth = self._state.truth

    @property
    def learning_rate(self) -> float:
        """Rate of the current iteration: iteration = seen / (batch * subdivisions)."""
        return self.rate(self.iteration, self._state.rng)

    @property
    def iteration(self) -> int:
        """Updates made so far, by the number of images seen."""
        return self.seen // (self.batch * self.subdivisions)

    # -- files and sizes -----------------------------------------------------------------------------------------

    def load_weights(self, path: str | os.PathLike[str], upto: int | None = None) -> None:
        """Read a .weights file into the layers (the first `upto` of them); see `darkbn.weights.WeightsFile`.

        A network loaded with inference=True reads it when a plan is made, and takes whole files only.
        """
        if self.inference:
            if upto is not None:
                self._require_parameters("upto")
            self._file = WeightsFile(self.layers, path, self.dialect)
            self.seen = self._file.header.seen
            self.changed()
            self.warn_once(self._file.warnings)
            return
        self.changed()
        header, warnings = load_weights(self.layers, path, self.dialect, upto)
        self.seen = header.seen
        self.warnings += warnings
        for text in warnings:
            log.warning("%s", text)

    def save_weights(self, path: str | os.PathLike[str], upto: int | None = None, *, average: bool = False) -> None:
        """Write the parameters as this dialect's Darknet writes them; the file appears whole or not at all.

        Args:
            path: the file.
            upto: only the first so many layers.
            average: the moving averages of the parameters (ema_alpha) instead, Darknet's *_ema.weights. Raises
                TrainingError while there are none.
        """
        self._require_parameters("save_weights")
        if average:
            require_averages(self)
        seen = self.seen
        if self.dialect == "alexeyab":  # it stores whole iterations
            seen = self.iteration * self.batch * self.subdivisions
        save_weights(self.layers, path, self.dialect, seen, upto, average)

    def save_training_state(self, path: str | os.PathLike[str]) -> None:
        """Write all that training needs to go on, optimizer state included; see `darkbn.checkpoint`."""
        from darkbn.checkpoint import save_training_state

        save_training_state(self, path)

    def load_training_state(self, path: str | os.PathLike[str]) -> None:
        """Go on with training from such a file, as if it had never stopped; see `darkbn.checkpoint`."""
        from darkbn.checkpoint import load_training_state

        load_training_state(self, path)

    def check_training(self, truth: Any = None, images: Iterable[str | os.PathLike[str]] | None = None) -> list[str]:
        """What is odd about training this network, in sentences; see `darkbn.preflight.check_training`."""
        from darkbn.preflight import check_training

        return check_training(self, truth, images)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the input. Parameters stay; raises CfgError and changes nothing when it cannot be."""
        old = [(l.w, l.h, l.c, l.inputs) for l in self.layers]
        try:
            w, h, c, inputs = width, height, self.channels, width * height * self.channels
            for layer in self.layers:
                layer.reshape(w, h, c, inputs)
                w, h, c, inputs = layer.out_w, layer.out_h, layer.out_c, layer.outputs
            if not self.inference:
                check_memory(self.layers, self.training, self.cfg.file)
        except DarkbnError:
            for layer, sizes in zip(self.layers, old, strict=True):
                layer.reshape(*sizes)
            raise
        self.changed()
        self.width, self.height, self.inputs = width, height, self.layers[0].inputs
        self._allocate(self.training)

    def to(self, device: str | Backend, precision: str | None = None) -> Network:
        """Move the network to a device, one of `darkbn.backend.DEVICES`; all arrays keep their values.

        The objects in `layers` are new ones afterwards, with arrays of that device (CuPy's on "gpu"); `precision` is as
        in `darkbn.load`. Returns the network. Raises DeviceError, with nothing changed, when there is no such device
        or no room on it.
        """
        self._require_parameters("to")
        move(self, device, precision)
        return self

    def take_layers(self, layers: list[Layer], backend: Backend) -> None:
        """Go on with layers of the same description on another backend (`darkbn.device.move`)."""
        self.layers, self.backend = layers, backend
        state = self._state
        state.layers, state.train = layers, False
        state.input = state.delta = state.truth = state._workspace = None
        self.input_delta = self._plan = self._marks = None
        self.changed()

    def summary(self) -> Summary:
        """A table of the layers as Darknet prints it; `str()` of it is the text."""
        from darkbn.summary import Summary

        return Summary.of(self)

    # -- pictures ------------------------------------------------------------------------------------------------

    def detect(
        self,
        image: Any,
        threshold: float = 0.25,
        nms: float = 0.45,
        letterbox: bool | None = None,
        **options: Any,
    ) -> list[Detection]:
        """Objects in one image; see `darkbn.detect.detect`."""
        from darkbn import detect

        return detect.detect(self, image, threshold, nms, letterbox, **options)

    def detect_batch(self, images: Any, *args: Any, **options: Any) -> Any:
        """Objects in several images; see `darkbn.detect.detect_batch`."""
        from darkbn import detect

        return detect.detect_batch(self, images, *args, **options)

    def classify(self, image: Any, top: int = 5, **options: Any) -> Any:
        """Most probable classes of one image; see `darkbn.detect.classify`."""
        from darkbn import detect

        return detect.classify(self, image, top, **options)

    def __repr__(self) -> str:
        return f"<Network {self.cfg.file}: {len(self.layers)} layers, {self.width}x{self.height}, {self.dialect}>"


def load(
    cfg: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    batch: int | None = None,
    width: int | None = None,
    height: int | None = None,
    train: bool = False,
    device: str | Backend = "cpu",
    precision: str | None = None,
    dialect: str | None = None,
    batchnorm: str | BatchNormConvention | None = None,
    seed: int | None = None,
    threads: int | None = None,
    inference: bool = False,
) -> Network:
    """Load a network.

    Args:
        cfg: path of a .cfg file, or its text when it contains a newline.
        weights: path of a .weights file; None leaves the initial random parameters.
        batch: images per pass. Default: 1, or batch/subdivisions of the cfg when train.
        width, height: size of the input instead of the cfg's.
        train: allocate what training needs at once; otherwise the first training pass does.
        device: "cpu"; "gpu" (CUDA); "reference" (NumPy float64: slow and readable); "emulated" (the GPU's kernels on
            the host: slower still); or a backend (`darkbn.backend.get_backend`).
        precision: of convolutions in `predict`, `detect`, `classify` and plans on "gpu" and "emulated": "float32" (or
            None), "tf32" or "float16"; layer by layer and in training everything stays float32.
        dialect: "darknet" (pjreddie) or "alexeyab"; None decides from the weights file and the cfg.
        batchnorm: convention of batch normalization, by name or as an object; None = the dialect's.
        seed: of random parameters and dropout.
        threads: threads per kernel; None = all processors (or OMP_NUM_THREADS).
        inference: for `predict`, `detect`, `classify`, `profile` and `compile` only, with as little memory as they
            need: the parameters are read from the file layer by layer while a plan is made, and kept in its form only.
            `forward`, training, saving and folding raise DarkbnError. When another plan is needed (after `resize`, for
            other outputs), the file is read again and must be the same.

    Raises:
        CfgError, UnsupportedError, WeightsError, DeviceError.
    """
    if inference and (weights is None or train):
        raise DarkbnError("load: inference=True needs a weights file, and excludes train=True")
    description = read_cfg(cfg)
    backend = get_backend(device, precision)
    header = read_header(weights) if weights is not None else None
    if dialect is None:
        dialect, reason = guess_dialect(description, header.dialect if header else None)
    else:
        reason = "asked for"
    if dialect not in DIALECTS:
        raise DarkbnError(f"unknown dialect {dialect!r}: expected one of {', '.join(DIALECTS)}")
    warnings = list(description.warnings)
    options = NetOptions.read(description.net, dialect, warnings)
    net = Network(
        description,
        options=_override(options, batch, width, height, train),
        dialect=dialect,
        dialect_reason=reason,
        convention=get_convention(batchnorm or DEFAULT_CONVENTIONS[dialect]),
        backend=backend,
        training=train,
        seed=seed,
        threads=thread_count(threads),
        warnings=warnings,
        inference=inference,
        from_file=weights is not None,
    )
    if weights is not None:
        net.load_weights(weights)
    return net


def _override(options: NetOptions, batch: int | None, width: int | None, height: int | None, train: bool) -> NetOptions:
    for name, value in (("batch", batch), ("width", width), ("height", height)):
        if value is not None and value < 1:
            raise ShapeError(f"{name} must be at least 1, found {value}")
    per_pass = max(1, options.batch // options.subdivisions) if train else 1
    new_w, new_h = width or options.width, height or options.height
    inputs = options.inputs if (new_w, new_h) == (options.width, options.height) else new_w * new_h * options.channels
    return replace(
        options,
        batch=batch or per_pass,
        subdivisions=options.subdivisions if train else 1,
        width=new_w,
        height=new_h,
        inputs=inputs,
    )
