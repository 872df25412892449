"""Rows of the family `local`."""

from cases import KernelCase

# stride and pad belong to the shapes: oh = (h + 2*pad - k)//stride + 1, or one row more or less, which read zeros.
SHAPES = [
    ({"b": 1, "c": 1, "h": 1, "w": 1, "n": 1, "k": 1, "oh": 1, "ow": 1}, 1, 0),
    ({"b": 2, "c": 3, "h": 5, "w": 6, "n": 4, "k": 3, "oh": 3, "ow": 4}, 1, 0),
    ({"b": 5, "c": 2, "h": 6, "w": 5, "n": 3, "k": 3, "oh": 6, "ow": 5}, 1, 1),
    ({"b": 4, "c": 5, "h": 7, "w": 7, "n": 5, "k": 3, "oh": 4, "ow": 4}, 2, 1),
    ({"b": 3, "c": 19, "h": 4, "w": 5, "n": 7, "k": 2, "oh": 4, "ow": 5}, 1, 1),
    ({"b": 6, "c": 33, "h": 5, "w": 4, "n": 17, "k": 5, "oh": 3, "ow": 3}, 2, 2),
    ({"b": 9, "c": 130, "h": 3, "w": 3, "n": 6, "k": 3, "oh": 3, "ow": 3}, 1, 1),
    ({"b": 2, "c": 3, "h": 2, "w": 2, "n": 2, "k": 5, "oh": 4, "ow": 4}, 3, 4),
    ({"b": 1, "c": 2, "h": 0, "w": 3, "n": 2, "k": 3, "oh": 2, "ow": 2}, 1, 1),
    ({"b": 2, "c": 3, "h": 4, "w": 4, "n": 2, "k": 3, "oh": 0, "ow": 2}, 1, 0),
]

KERNELS = ("forward", "backward_weights", "backward_input")

KERNEL_CASES = [
    KernelCase(f"local.{kernel}", sizes, {"stride": stride, "pad": pad})
    for kernel in KERNELS
    for sizes, stride, pad in SHAPES
]
