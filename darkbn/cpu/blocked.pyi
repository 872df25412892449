from darkbn.signature import Array

def from_plain(x: Array, out: Array, out_block: int, threads: int) -> None: ...
def to_plain(x: Array, out: Array, x_block: int, threads: int) -> None: ...
def copy_channels(x: Array, out: Array, x_channel: int, out_channel: int, channels: int, threads: int) -> None: ...
def maxpool(
    x: Array,
    out: Array,
    x_block: int,
    out_block: int,
    blocks: int,
    size: int,
    stride_y: int,
    stride_x: int,
    padding: int,
    threads: int,
) -> None: ...
def avgpool(x: Array, out: Array, x_block: int, out_block: int, blocks: int, threads: int) -> None: ...
def upsample(
    x: Array, out: Array, x_block: int, out_block: int, blocks: int, stride: int, scale: float, threads: int
) -> None: ...
def shortcut(
    x: Array,
    residual: Array,
    out: Array,
    x_block: int,
    residual_block: int,
    out_block: int,
    blocks: int,
    activation: int,
    threads: int,
) -> None: ...
def shortcut_unequal(
    x: Array,
    residual: Array,
    out: Array,
    x_block: int,
    residual_block: int,
    out_block: int,
    blocks: int,
    channels: int,
    alpha: float,
    beta: float,
    activation: int,
    threads: int,
) -> None: ...
def activation(
    x: Array, out: Array, x_block: int, out_block: int, blocks: int, activation: int, threads: int
) -> None: ...
def scale_channels(
    x: Array,
    scales: Array,
    out: Array,
    x_block: int,
    scale_block: int,
    out_block: int,
    blocks: int,
    activation: int,
    threads: int,
) -> None: ...
