"""Rows of the family `bias`."""

from cases import KernelCase

SHAPES = [
    {"b": 1, "c": 1, "s": 1},
    {"b": 131, "c": 131, "s": 1},
    {"b": 2, "c": 3, "s": 7},
    {"b": 3, "c": 5, "s": 15},
    {"b": 1, "c": 17, "s": 16},
    {"b": 2, "c": 7, "s": 33},
    {"b": 2, "c": 3, "s": 10007},
    {"b": 2, "c": 3, "s": 0},
]

KERNELS = ("add_bias", "scale_bias", "backward_bias")

KERNEL_CASES = [KernelCase(f"bias.{kernel}", sizes) for kernel in KERNELS for sizes in SHAPES]
