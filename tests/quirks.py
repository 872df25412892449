"""Darknet's own faults, each described once: for the reference cases that they decide, and for docs/quirks.md.

`python tests/quirks.py` writes the page.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program

from darkbn import errors

PAGE = Path(__file__).parents[1] / "docs" / "quirks.md"

BACKWARD = r"back\.|after\.|train\.[1-9]|loss|final_weights"  # results that follow from a backward pass
LATER = r"after\.|train\.[1-9]|back\.[1-9]|loss|final_weights"  # results that follow from an update
EVERYTHING = r""  # the forward pass already differs


@dataclass(frozen=True)
class Quirk:
    """One fault and what darkbn does.

    Attributes:
        darknet: what Darknet does.
        does: what darkbn does.
        kinds: kinds of reference cases that it decides; none where only tests of our own hold it.
        imitated: darkbn computes the same; then the cases must pass as any other.
        changes: pattern of the keys that may differ from a case; some must, the others must still agree.
        raises: the error that darkbn raises instead of computing.
        by_name: how to have Darknet's behaviour.
        tests: further tests that hold what darkbn does, as file::function.
    """

    darknet: str
    does: str
    kinds: tuple[str, ...] = ()
    imitated: bool = False
    changes: str = BACKWARD
    raises: type[Exception] | None = None
    by_name: str = ""
    tests: tuple[str, ...] = ()


_CPU_CONVENTION = '`darkbn.load(..., batchnorm="alexeyab-cpu")`'

QUIRKS: dict[str, Quirk] = {
    # Batch normalization: the convention decides; the cases run with those of the CPU code.
    "ab-bn-bias-gradient-missing": Quirk(
        "AlexeyAB's CPU code never computes the gradient of the biases behind batch normalization in convolutions and"
        " [batchnorm]; its CUDA code does.",
        "The default convention of dialect alexeyab is that of the CUDA code, which trains them.",
        ("batchnorm", "layer", "train"),
        imitated=True,
        by_name=_CPU_CONVENTION,
    ),
    "pj-standalone-batchnorm-not-updated": Quirk(
        "pjreddie's [batchnorm] has no update: scales and biases stay as they are.",
        "Scales learn; the biases stay 0, for pjreddie's files have no room for them.",
        ("layer",),
        changes=LATER,
    ),
    "nan-variance-of-one-element": Quirk(
        "With one value per channel (batch 1, 1 x 1) the unbiased variance divides by 0: everything becomes NaN.",
        "TrainingError that says what to change; `net.check_training()` says it before.",
        ("batchnorm",),
        raises=errors.TrainingError,
        tests=("test_conventions.py::test_one_value_per_channel",),
    ),
    # The backward pass of both layers sees the mean and variance of the later.
    "ab-share-index-shares-batch-statistics": Quirk(
        "Layers with share_index= share the arrays of the batch's mean and variance, too: the backward pass of the"
        " first uses the statistics of the last.",
        "Each layer has batch statistics of its own.",
        ("layer",),
        changes=BACKWARD + r"|train\.0\.(mean|variance)\.0",
    ),
    "frozen-layers-still-move": Quirk(
        "Behind stopbackward=1 the weights of the layers that get no gradient still decay (AlexeyAB: those of the layer"
        " itself), and their rolling statistics follow every batch.",
        "Frozen layers stay bit for bit: no step, and batch normalization uses its rolling statistics.",
        ("layer", "train"),
        changes=r"train\.|back\.|after\.|loss|final_weights",
        tests=("test_training.py::test_frozen_layers_do_not_move",),
    ),
    # Forward passes.
    "pj-1x1-ignores-stride": Quirk(
        "pjreddie's 1x1 convolutions skip im2col whatever their stride: the first values of the sample are read as a"
        " smaller image.",
        "Every stride-th pixel.",
        ("layer",),
        changes=EVERYTHING,
    ),
    "ab-relu6-forward-is-zero": Quirk(
        "AlexeyAB's CPU code has no forward case for relu6: the output is all 0.",
        "min(max(x, 0), 6).",
        ("layer", "net"),
        changes=EVERYTHING,
    ),
    "ab-activation-only-in-conv": Quirk(
        "swish, mish and hard_mish act in [convolutional] and [shortcut] only; elsewhere the output is 0.",
        "They act in every layer that has an activation.",
        ("layer",),
        changes=EVERYTHING,
    ),
    "pj-route-groups-ignored": Quirk(
        "pjreddie's [route] does not know groups= and takes all channels.",
        "groups and group_id count in both dialects; weights made for Darknet's shapes do not fit then.",
        ("layer",),
        raises=ValueError,
    ),
    "ab-region-output-is-transposed": Quirk(
        "AlexeyAB's [region] gives (row, column, anchor, entry) on the CPU.",
        "The same layout.",
        ("layer",),
        imitated=True,
    ),
    "pj-region-tree-nan": Quirk(
        "pjreddie's CPU code divides the classes of a tree by a temperature of 0: NaN.",
        "Softmax of each group with temperature 1.",
        ("layer",),
        changes=EVERYTHING,
    ),
    # Backward passes.
    "ab-conv-backward-overwrites-delta": Quirk(
        "AlexeyAB's convolutions (and crnn, conv_lstm) overwrite the delta of the layer before on the CPU: what a route"
        " or shortcut put there is lost.",
        "Deltas add.",
        ("layer", "train"),
    ),
    "pj-1x1-backward-overwrites-delta": Quirk(
        "pjreddie's 1x1 convolutions overwrite the delta of the layer before.",
        "Deltas add.",
        ("layer", "train"),
    ),
    "ab-stale-deltas": Quirk(
        "AlexeyAB's CPU code clears the deltas of some layer types only before a pass: the others add up over all"
        " iterations.",
        "All deltas are cleared before a training pass.",
        ("layer", "train"),
    ),
    "ab-layer-without-train-flag-is-not-updated": Quirk(
        "AlexeyAB's update skips layers whose constructor does not set a flag: connected, rnn, gru, lstm and local"
        " never learn on the CPU.",
        "Every layer with parameters learns.",
        ("layer",),
    ),
    "ab-gelu-gradient-uses-output": Quirk(
        "AlexeyAB's gradient of gelu, a formula of the input, gets the output.",
        "The derivative at the input.",
        ("layer",),
        tests=("test_gradients.py::test_activations",),
    ),
    "ab-norm-chan-gradient": Quirk(
        "AlexeyAB's gradients of the normalize_channels activations are delta * sum(output * delta).",
        "The derivative.",
        ("layer",),
        tests=("test_gradients.py::test_activations",),
    ),
    "ab-weighted-shortcut-gradient-simplified": Quirk(
        "AlexeyAB's gradient of the learned weights of [shortcut] ignores their normalization.",
        "The derivative, through the normalization.",
        ("layer",),
        tests=("test_gradients.py::test_gradients",),
    ),
    "pj-region-cpu-backward-is-empty": Quirk(
        "pjreddie's [region] passes nothing back on the CPU: the network before it does not learn.",
        "The delta is passed on, through the logistic function of x, y and objectness, as in its CUDA code.",
        ("layer",),
        tests=("test_heads.py::test_region_passes_the_derivative_of_what_it_activates",),
    ),
    "lrn-backward-approximate": Quirk(
        "Backward [normalization] is delta * norms^-beta, without the terms of the neighbouring channels.",
        "The derivative.",
        ("layer",),
        tests=("test_sections.py::test_gradients",),
    ),
    "ab-local-avgpool-backward-divides-by-full-window": Quirk(
        "[local_avgpool] divides by the number of valid pixels forward and by size² backward.",
        "By the number of valid pixels both ways.",
        ("layer",),
        tests=("test_sections.py::test_gradients",),
    ),
    "ab-sam-backward-overwrites-from-delta": Quirk(
        "AlexeyAB's [sam] assigns the delta of its source instead of adding to it.",
        "Deltas add.",
        ("layer",),
        tests=("test_sections.py::test_gradients",),
    ),
    "lstm-cpu-backward-needs-a-delta-buffer": Quirk(
        "The CPU code of [lstm] has no delta (pjreddie: no backward pass): training crashes.",
        "Trains; the reference cases were computed with a delta added.",
        ("layer",),
        imitated=True,
    ),
    "pj-rnn-state-buffer-too-small": Quirk(
        "pjreddie's [rnn] allocates its state for one step only and writes beyond it.",
        "The state has room; the reference cases were computed with a large one.",
        ("layer", "train"),
        imitated=True,
    ),
    "ab-conv-lstm-cpu-backward-incomplete": Quirk(
        "AlexeyAB's [conv_lstm] mixes up its deltas on the CPU and cannot train there.",
        "Trains, by the derivative; the reference cases hold the forward pass.",
        ("layer",),
        imitated=True,
        tests=("test_recurrent.py::test_gradient",),
    ),
    # Losses and training.
    "pj-crnn-does-not-learn": Quirk(
        "pjreddie's [crnn] calls the update of its convolutions with a learning rate of 0 on the CPU.",
        "Takes steps of the learning rate.",
        ("layer",),
        changes=LATER,
    ),
    "ab-cost-l1-is-l2": Quirk(
        "AlexeyAB's [cost] type L1 is computed as sse.",
        "The absolute error.",
        ("layer",),
        changes=r"train\.|back\.|after\.",
    ),
    "pj-smooth-l1-sign": Quirk(
        "pjreddie's [cost] type smooth has the wrong sign where the error exceeds 1.",
        "The delta points from output to truth everywhere.",
        ("layer",),
        changes=r"train\.0\.delta|" + BACKWARD,
    ),
    "cpu-ignores-adam": Quirk(
        "adam=1 is ignored by both CPU builds, which take steps of gradient descent.",
        "Adam, as in both CUDA builds, for every layer with parameters.",
        ("layer",),
        changes=LATER,
        tests=("test_training.py::test_adam_by_hand", "test_training.py::test_adam_trains_every_layer"),
    ),
    "pj-sigmoid-rate-unsigned": Quirk(
        "policy=sigmoid computes iteration - step without a sign: before the step the rate is 0 (or full).",
        "The signed distance.",
        ("lr", "train"),
        changes=r"rate|after\.|final_weights|loss",
    ),
    "ab-delta-normalizer-ignored": Quirk(
        "AlexeyAB's CPU code ignores delta_normalizer= of [yolo] and [Gaussian_yolo]; its CUDA code does not.",
        "It multiplies what goes back to the layer before.",
        ("layer", "train"),
        tests=("test_heads.py::test_delta_normalizer_scales_what_goes_back",),
    ),
    # Options that only the CUDA code knows, or that no reference case has.
    "xnor-cpu-backward-is-not-binary": Quirk(
        "The CPU code of both goes forward with binary weights and inputs (xnor=1; binary=1 not even that), and back"
        " with the weights and inputs as they are.",
        "Gradients are those of the CUDA code: of the binary weights and inputs, straight through the signs.",
        tests=("test_binary.py::test_a_binary_convolution_is_a_convolution_of_binary_values",),
    ),
    "ab-xnor-pads-with-minus-one": Quirk(
        "The bit convolutions with which AlexeyAB's Darknet predicts (xnor=1) take the padding for -1; training takes"
        " 0.",
        "The padding is 0 in both.",
        tests=("test_binary.py::test_a_binary_convolution_is_a_convolution_of_binary_values",),
    ),
    "pj-tree-multiplies-twice": Quirk(
        "Going down a hierarchy of classes for a detection, pjreddie's code multiplies probabilities that are products"
        " along the path already.",
        "The probability of a class is the product along its path, once.",
        tests=("test_tree.py::test_a_detection_has_one_class_of_the_hierarchy",),
    ),
    "ab-hier-ignored": Quirk(
        "AlexeyAB's detector believes a class of a hierarchy from a probability of .5 on, whatever -hier says.",
        "hier= counts.",
        tests=("test_tree.py::test_a_detection_has_one_class_of_the_hierarchy",),
    ),
    "tree-softmax-masks-on-gpu-only": Quirk(
        "The CPU code of both moves values of a [softmax] with tree= towards -1234 where the labels say that there is"
        " no truth; the CUDA code leaves them alone.",
        "They get no delta and no loss.",
        tests=("test_tree.py::test_softmax_over_a_hierarchy_learns_labelled_groups_only",),
    ),
    "ab-cbn-divides-by-n-minus-1": Quirk(
        "Cross-iteration batch normalization (CUDA only) divides the sum of squares by N - 1 and subtracts the square"
        " of a mean over N.",
        "Both are means over N.",
        tests=("test_layer_options.py::test_statistics_are_averaged_over_the_passes_of_an_iteration",),
    ),
    "ab-dropblock-misplaces-samples": Quirk(
        "dropblock=1 (CUDA only) reads random numbers of other samples and maps than the one it works on.",
        "Every map draws its own.",
        tests=("test_layer_options.py::test_dropblock_scales_each_sample_by_what_is_left",),
    ),
    "ab-zero-nonmax-passes-deltas-of-neighbours": Quirk(
        "maxpool_zero_nonmax=1 (CUDA only) gives a maximum the deltas of neighbours whose output it has made 0, and"
        " clears what other layers had put into the deltas of the rest.",
        "The derivative.",
        tests=("test_layer_options.py::test_only_maxima_stay",),
    ),
    "ab-coordconv-writes-one-value": Quirk(
        "coordconv=1 (CUDA only) writes one value per channel, in the wrong place, instead of one per pixel.",
        "Every pixel of the first three channels has its coordinates.",
        tests=("test_layer_options.py::test_first_channels_are_coordinates",),
    ),
    "ab-excitation-misreads-labels": Quirk(
        "assisted_excitation= reads rows of five numbers where labels have six; boxes are one column too wide.",
        "Rows of six; a box ends with the last pixel that it touches.",
        tests=("test_layer_options.py::test_pixels_of_boxes_are_excited",),
    ),
    "ab-excitation-has-no-gradient": Quirk(
        "assisted_excitation= is not in the backward pass, and changes the output that the activation's derivative"
        " is taken at.",
        "The derivative of all of it.",
        tests=("test_layer_options.py::test_gradient_of_an_excitation",),
    ),
    "ab-stretch-sway-mixes-parts": Quirk(
        "stretch_sway=1 (CUDA only) has eight kinds of filters, but takes the mean of quarters, two kinds each.",
        "The mean is over the eight parts.",
        tests=("test_layer_options.py::test_filters_stay_deformed_copies_in_the_first_half",),
    ),
    "ab-train-only-bn-trains-nothing": Quirk(
        "With train_only_bn=1 (CUDA only) the layers take no step at all: only rolling statistics move.",
        "Scales and biases of batch normalization learn, weights do not.",
        tests=("test_layer_options.py::test_train_only_bn_holds_for_a_layer_and_all_before_it",),
    ),
    "ab-resting-layers-hoard-updates": Quirk(
        "With dont_update= or burnin_update= (CUDA only) the gradients of the waiting layer add up, unscaled, until its"
        " first step takes them all.",
        "A layer that takes no step forgets them.",
        tests=("test_layer_options.py::test_layers_rest_until_an_iteration",),
    ),
    # Files and pictures.
    "truncated-file-is-accepted": Quirk(
        "A .weights file that ends early is loaded without a word, its last arrays half overwritten.",
        "WeightsError that names the layer in which the file ends; nothing is changed.",
        ("weights",),
        raises=errors.WeightsError,
        tests=("test_weights.py::test_a_short_file_changes_nothing_and_names_the_layer",),
    ),
    "hue-nan-for-gray": Quirk("The hue of a gray pixel is 0/0.", "Hue 0.", ("image",), changes=r"hsv|random\.hsv"),
    "hue-of-one-turn-is-magenta": Quirk(
        "A hue of exactly one turn falls through all cases and becomes magenta.",
        "It is red, as a hue of 0.",
        ("image",),
        changes=r"distort|hue",
    ),
    "ab-grayscale-weights-swapped": Quirk(
        "AlexeyAB's grayscale weights are .587, .299, .114 for red, green and blue.",
        "Those of ITU-R BT.601: .299, .587, .114.",
        ("image",),
        changes=r"grayscale",
    ),
    "resize-last-row": Quirk(
        "Scaling computes the place of the last row in float32; for some sizes it rounds below the last row, which is"
        " then multiplied by almost 0: a black line.",
        "The last row is the last row of the source.",
        ("image",),
        changes=r"resize|letterbox|center_crop|resized",
    ),
}

#: Faults that decide cases whose files do not name them: pattern of the name -> ids.
MORE_QUIRKS: dict[str, tuple[str, ...]] = {
    r"layer__crnn.*__pjreddie": ("pj-crnn-does-not-learn",),
    r"layer__conv-share-index.*": ("ab-share-index-shares-batch-statistics",),
    # The file lacks a layer that loading expects, so it ends too early.
    r"weights__dontsave.*": ("truncated-file-is-accepted",),
    r"image__color.*": ("hue-of-one-turn-is-magenta",),
}

#: Faults that may decide cases of their kinds: pattern of the description (without blanks) -> id.
POSSIBLE_QUIRKS: dict[str, str] = {
    r"(?m)^stopbackward=[1-9]": "frozen-layers-still-move",
    r"(?m)^delta_normalizer=": "ab-delta-normalizer-ignored",
}

#: The test in test_goldens.py of each kind of case.
GOLDEN_TESTS = {
    "layer": "test_layer",
    "batchnorm": "test_batchnorm",
    "train": "test_training",
    "lr": "test_learning_rate",
    "weights": "test_weights",
    "net": "test_network",
    "image": "test_image",
}

_INTRODUCTION = """# Darknet's faults, and what darkbn does

Faults of Darknet have ids; most are named by the reference cases. darkbn does what is right unless a fault is part of a
network's numbers that people rely on; then it is imitated. Exact imitation that matters is there by name. `pj-` is
pjreddie/darknet, `ab-` AlexeyAB/darknet; other ids concern both.

*Imitated*: darkbn computes the same, and the reference cases must pass as any other. *Departure*: the tests hold that
what the fault does not touch equals Darknet, that something differs, and that `cpu` equals the float64 `reference`.

This page is written by `python tests/quirks.py` from the table that the tests use.
"""


def page() -> str:
    """docs/quirks.md."""
    parts = [_INTRODUCTION]
    for name, quirk in sorted(QUIRKS.items()):
        held = [f"`test_goldens.py::{GOLDEN_TESTS[kind]}`" for kind in quirk.kinds]
        lines = [
            f"## {name}",
            "",
            f"* Darknet: {quirk.darknet}",
            f"* darkbn ({'imitated' if quirk.imitated else 'departure'}): {quirk.does}",
            *([f"* Darknet's behaviour by name: {quirk.by_name}"] if quirk.by_name else []),
            f"* Held by {', '.join([*held, *(f'`{test}`' for test in quirk.tests)])}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
