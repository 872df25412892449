"""Darknet networks in Python: load, run, train and check .cfg and .weights files, layer by layer."""

from darkbn.cfg import Cfg, read_cfg
from darkbn.config import show_config
from darkbn.conventions import BatchNormConvention, get_convention
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
from darkbn.network import Network, load
from darkbn.state import NetworkState, UpdateArgs
from darkbn.version import __version__

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
    "get_convention",
    "load",
    "read_cfg",
    "show_config",
]
