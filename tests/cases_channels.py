"""Rows of the family `channels`."""

from cases import KernelCase

MAPS = [
    {"b": 1, "c": 1, "s": 1},
    {"b": 2, "c": 3, "s": 7},
    {"b": 3, "c": 5, "s": 15},
    {"b": 1, "c": 17, "s": 16},
    {"b": 2, "c": 7, "s": 65},
    {"b": 2, "c": 3, "s": 10007},
    {"b": 2, "c": 3, "s": 0},
]

FLAT = [{"n": n} for n in (0, 1, 7, 16, 4095, 4096, 4097, 10007, 40009)]

KERNEL_CASES = [
    *(
        KernelCase(f"channels.{kernel}", sizes)
        for kernel in ("scale", "scale_add", "dot_add", "scale_pixels", "scale_pixels_add", "dot_pixels_add")
        for sizes in MAPS
    ),
    *(KernelCase(f"channels.{kernel}", sizes) for kernel in ("multiply", "multiply_add") for sizes in FLAT),
]
