"""ONNX: networks written as models for onnxruntime, OpenCV, OpenVINO, TensorRT, and proof that they compute the same.

Needs the extra `onnx`. Nothing here imports it before it is used.
"""

from __future__ import annotations

from darkbn.interop.onnx.export import HEADS, ExportResult, export_onnx, onnx_model
from darkbn.interop.onnx.verify import Description, LayerError, Verification, read_description, verify_onnx

__all__ = [
    "HEADS",
    "Description",
    "ExportResult",
    "LayerError",
    "Verification",
    "export_onnx",
    "onnx_model",
    "read_description",
    "verify_onnx",
]
