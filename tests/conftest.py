"""Says at the head of a test run which darkbn is tested; fails early when its kernels are not built."""

from __future__ import annotations

import os
from pathlib import Path

# Parallel test processes share the processors: threads that wait must not spin. OpenMP reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import darkbn
from darkbn import cpu


def pytest_report_header() -> str:
    folder = Path(darkbn.__file__).parent
    return f"darkbn: {folder}, kernels {cpu.level()} of {', '.join(cpu.built_levels())}"
