"""[net]: the options of the whole network."""

from __future__ import annotations

from dataclasses import dataclass, fields

from darkbn.cfg import Section
from darkbn.optimizer import POLICIES, LearningRate
from darkbn.options import Options, option

_ADVERSARIAL = "self-adversarial training is not supported"


@dataclass(frozen=True, kw_only=True)
class NetOptions(Options):
    """Options of [net], defaults as in each Darknet. Augmentation options are read here and used by training."""

    batch: int = option(1, minimum=1)
    subdivisions: int = option(1, minimum=1)
    time_steps: int = option(1, minimum=1)
    height: int = option(0, minimum=0)
    width: int = option(0, minimum=0)
    channels: int = option(0, minimum=0)
    inputs: int = option(derived=lambda o: o.height * o.width * o.channels)

    learning_rate: float = option(0.001)
    momentum: float = option(0.9)
    decay: float = option(0.0001)
    policy: str = option("constant", choices=POLICIES)
    burn_in: int = option(0)
    power: float = option(4.0)
    step: int = option(1, minimum=1)
    scale: float = option(1.0)
    steps: tuple[int, ...] = option(())
    scales: tuple[float, ...] = option(())
    seq_scales: tuple[float, ...] = option((), only="alexeyab")
    gamma: float = option(1.0)
    max_batches: int = option(0)
    learning_rate_min: float = option(0.00001, only="alexeyab")
    sgdr_cycle: int = option(derived=lambda o: o.max_batches, only="alexeyab")
    sgdr_mult: int = option(2, only="alexeyab", minimum=1)
    adam: bool = option(False)
    B1: float = option(0.9, minimum=0, maximum=1)
    B2: float = option(0.999, minimum=0, maximum=1)
    eps: float = option(darknet=0.0000001, alexeyab=0.000001)
    clip: float = option(0.0, only="darknet")
    ema_alpha: float = option(0.0, only="alexeyab")

    notruth: bool = option(False, only="darknet")
    random: int = option(0, only="darknet")
    max_crop: int = option(derived=lambda o: o.width * 2)
    min_crop: int = option(derived=lambda o: o.width)
    max_ratio: float = option(derived=lambda o: o.max_crop / o.width if o.width else 1.0, only="darknet")
    min_ratio: float = option(derived=lambda o: o.min_crop / o.width if o.width else 1.0, only="darknet")
    center: bool = option(False, only="darknet")
    angle: float = option(0.0)
    aspect: float = option(1.0)
    saturation: float = option(1.0)
    exposure: float = option(1.0)
    hue: float = option(0.0)

    letter_box: bool = option(False, only="alexeyab")
    flip: bool = option(True, only="alexeyab")
    blur: int = option(0, only="alexeyab")
    gaussian_noise: int = option(0, only="alexeyab")
    mixup: int = option(0, only="alexeyab")
    cutmix: bool = option(False, only="alexeyab")
    mosaic: bool = option(False, only="alexeyab")
    mosaic_bound: bool = option(False, only="alexeyab")
    contrastive: bool = option(False, only="alexeyab")
    contrastive_jit_flip: bool = option(False, only="alexeyab")
    contrastive_color: bool = option(False, only="alexeyab")
    unsupervised: bool = option(False, only="alexeyab")
    label_smooth_eps: float = option(0.0, only="alexeyab")
    resize_step: float = option(32.0, only="alexeyab")
    attention: bool = option(False, only="alexeyab")
    adversarial_lr: float = option(0.0, only="alexeyab", inference_only=_ADVERSARIAL)
    max_chart_loss: float = option(20.0, only="alexeyab")
    track: bool = option(False, only="alexeyab")
    augment_speed: int = option(2, only="alexeyab")
    sequential_subdivisions: int = option(derived=lambda o: o.subdivisions, only="alexeyab")
    try_fix_nan: int = option(0, only="alexeyab")
    weights_reject_freq: int = option(0, only="alexeyab")
    equidistant_point: int = option(0, only="alexeyab")
    badlabels_rejection_percentage: float = option(0.0, only="alexeyab")
    num_sigmas_reject_badlabels: float = option(0.0, only="alexeyab")
    use_cuda_graph: int = option(0, only="alexeyab")
    loss_scale: float = option(1.0, only="alexeyab")
    dynamic_minibatch: int = option(0, only="alexeyab")
    optimized_memory: int = option(0, only="alexeyab")
    workspace_size_limit_MB: float = option(1024.0, only="alexeyab")
    show_receptive_field: float = option(0.0, only="alexeyab")

    def schedule(self, section: Section) -> LearningRate:
        """The learning-rate schedule; raises CfgError when its options do not fit together."""
        if self.policy == "steps" and not self.steps:
            raise section.error("policy=steps needs steps= and scales=", key="policy")
        if self.policy == "steps" and len(self.steps) != len(self.scales):
            raise section.error(f"{len(self.steps)} steps but {len(self.scales)} scales", key="scales")
        needs_length = {"poly": self.max_batches, "sgdr": self.sgdr_cycle}.get(self.policy, 1)
        if needs_length < 1:
            raise section.error(f"policy={self.policy} needs max_batches=", key="policy")
        return LearningRate(**{f.name: getattr(self, f.name) for f in fields(LearningRate)})
