"""darkbn's layers on NVIDIA GPUs: CUDA kernels, started through CuPy; and the same kernels emulated on the host.

`darkbn.load(..., device="gpu")` needs CuPy (extras cuda12, cuda13) and a device; `available()` says what is missing.
`device="emulated"` needs a C++ compiler only.
"""

from __future__ import annotations


def available() -> tuple[bool, str]:
    """Whether a GPU can be used, and the device's name or the reason why not."""
    try:
        import cupy
    except ImportError as error:
        return False, f"CuPy is not installed ({error}): pip install 'darkbn[cuda13]' or 'darkbn[cuda12]'"
    try:
        if cupy.cuda.runtime.getDeviceCount() < 1:
            return False, "CuPy finds no CUDA device"
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    except Exception as error:
        return False, f"CuPy cannot use a CUDA device: {error}"
    name = properties["name"]
    return True, name.decode() if isinstance(name, bytes) else str(name)
