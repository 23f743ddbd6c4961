"""What `info` and `bench` say of the machine and of what is installed."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import numpy as np


def system() -> str:
    """Operating system and instruction set."""
    return f"{platform.system()} {platform.machine()}"


def cores() -> int | None:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def numpy_build() -> dict[str, Any]:
    """NumPy's own account of how it was built."""
    build = np.show_config(mode="dicts")
    assert isinstance(build, dict)
    return {**build}


def version(name: str) -> str | None:
    """The version of a library that is installed, or None; CuPy goes by several names."""
    candidates = ("cupy-cuda13x", "cupy-cuda12x", "cupy") if name == "cupy" else (name,)
    for candidate in candidates:
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None
