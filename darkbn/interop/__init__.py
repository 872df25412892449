"""To and from other programs: ONNX, PyTorch, NumPy files, OpenCV; their batch normalization. Each names its extra."""
