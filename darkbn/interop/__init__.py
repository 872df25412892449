"""To and from other programs: ONNX, PyTorch, NumPy files, OpenCV. Each module needs an extra of its own."""
