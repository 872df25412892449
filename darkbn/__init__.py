"""Darknet networks in Python: load, run, train and check .cfg and .weights files, layer by layer."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkbn import blas, errors, evaluate, layers
    from darkbn.cfg import Cfg, read_cfg
    from darkbn.config import show_config
    from darkbn.conventions import BatchNormConvention, get_convention
    from darkbn.cpu import get_num_threads, set_num_threads
    from darkbn.errors import (
        CfgError,
        DarkbnError,
        DeviceError,
        DtypeError,
        ImageError,
        NonFiniteError,
        ShapeError,
        TrainingError,
        UnsupportedError,
        WeightsError,
    )
    from darkbn.explain import explain_batchnorm
    from darkbn.gradients import gradcheck
    from darkbn.inspection import inspect
    from darkbn.interop.onnx import export_onnx, verify_onnx
    from darkbn.interop.opencv import blob_from_image, read_net_from_darknet
    from darkbn.network import Network, load
    from darkbn.preflight import check_training
    from darkbn.state import NetworkState, UpdateArgs
    from darkbn.version import __version__

#: Where the public names are. A module is imported when the first of its names is used: `import darkbn` costs nothing.
_HOMES = {
    "cfg": ("Cfg", "read_cfg"),
    "config": ("show_config",),
    "cpu": ("get_num_threads", "set_num_threads"),
    "conventions": ("BatchNormConvention", "get_convention"),
    "errors": (
        "CfgError",
        "DarkbnError",
        "DeviceError",
        "DtypeError",
        "ImageError",
        "NonFiniteError",
        "ShapeError",
        "TrainingError",
        "UnsupportedError",
        "WeightsError",
    ),
    "explain": ("explain_batchnorm",),
    "interop.onnx": ("export_onnx", "verify_onnx"),
    "interop.opencv": ("blob_from_image", "read_net_from_darknet"),
    "gradients": ("gradcheck",),
    "inspection": ("inspect",),
    "network": ("Network", "load"),
    "preflight": ("check_training",),
    "state": ("NetworkState", "UpdateArgs"),
    "version": ("__version__",),
}

__all__ = [
    "BatchNormConvention",
    "Cfg",
    "CfgError",
    "DarkbnError",
    "DeviceError",
    "DtypeError",
    "ImageError",
    "Network",
    "NetworkState",
    "NonFiniteError",
    "ShapeError",
    "TrainingError",
    "UnsupportedError",
    "UpdateArgs",
    "WeightsError",
    "__version__",
    "blas",
    "blob_from_image",
    "check_training",
    "errors",
    "evaluate",
    "explain_batchnorm",
    "export_onnx",
    "get_convention",
    "get_num_threads",
    "gradcheck",
    "inspect",
    "layers",
    "load",
    "read_cfg",
    "read_net_from_darknet",
    "set_num_threads",
    "show_config",
    "verify_onnx",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(f"darkbn.{home}"), name)
            return value
    if name in __all__:
        return importlib.import_module(f"darkbn.{name}")
    raise AttributeError(f"module 'darkbn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
