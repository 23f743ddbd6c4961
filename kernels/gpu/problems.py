"""Why the GPU cannot be used here: one line with the remedy, found without running anything on it.

All questions to the installation go through `Probes`, so that tests can give every answer on a machine without a GPU.
"""

from __future__ import annotations

import importlib
import os
from importlib import metadata
from typing import Any

# Compute capability (major, minor) that the kernels are written for: the oldest that they are compiled for in tests.
OLDEST_DEVICE = (8, 0)
PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "cupy-cuda11x", "cupy")
INSTALL = "pip install 'vae-np[cuda13]' (or cuda12, for a driver of CUDA 12)"
_NO_DEVICE = "cudaErrorNoDevice"


class Probes:
    """What is here: CuPy's packages, the driver, the compiler, the device."""

    def packages(self) -> list[str]:
        """The CuPy packages that are installed; they all write the same files."""
        found = []
        for name in PACKAGES:
            try:
                metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            found.append(name)
        return found

    def cupy(self) -> Any:
        """CuPy itself; raises ImportError where its files do not fit."""
        return importlib.import_module("cupy")

    def driver_version(self) -> int:
        """The newest CUDA that the driver knows, as 1000·major + 10·minor; 0 where there is no driver."""
        return int(self.cupy().cuda.runtime.driverGetVersion())

    def cuda_version(self) -> int:
        """The CUDA that CuPy was built for, in the same form."""
        return int(self.cupy().cuda.runtime.runtimeGetVersion())

    def compiler_version(self) -> tuple[int, int]:
        """NVRTC's version; raises whatever CuPy raises where the library is not found."""
        found = importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion()
        return int(found[0]), int(found[1])

    def device_count(self) -> int:
        """How many devices the driver shows."""
        return int(self.cupy().cuda.runtime.getDeviceCount())

    def take_device(self, number: int) -> None:
        """Make a device the current one, before anything lies on any."""
        self.cupy().cuda.runtime.setDevice(number)

    def device_identity(self) -> str:
        """What tells the current device from all others, also from those of other machines."""
        runtime = self.cupy().cuda.runtime
        return bytes(runtime.getDeviceProperties(runtime.getDevice())["uuid"]).hex()

    def nccl_problem(self) -> str | None:
        """Why NCCL cannot be used; None if it can."""
        nccl = importlib.import_module("cupy.cuda.nccl")
        return None if nccl.available else "NCCL was not found; install it with: pip install nvidia-nccl-cu13 (or cu12)"

    def device(self) -> tuple[str, tuple[int, int]]:
        """Name and compute capability of the current device."""
        properties = self.cupy().cuda.runtime.getDeviceProperties(self.cupy().cuda.runtime.getDevice())
        return properties["name"].decode(), (int(properties["major"]), int(properties["minor"]))


def problem(probes: Probes | None = None) -> str | None:
    """What is in the way of the GPU kernels, with the remedy; None if nothing is."""
    probes = Probes() if probes is None else probes
    for look in (_package_problem, _driver_problem, _compiler_problem, _device_problem):
        why = look(probes)
        if why is not None:
            return why
    return None


def _package_problem(probes: Probes) -> str | None:
    packages = probes.packages()
    if not packages:
        return f"CuPy is not installed; install it with: {INSTALL}"
    if len(packages) > 1:
        return (
            f"{len(packages)} CuPy packages are installed ({', '.join(packages)}), each over the others' files; "
            f"remove them with: pip uninstall {' '.join(packages)}, and then: {INSTALL}"
        )
    try:
        probes.cupy()
    except ImportError as error:
        return f"{packages[0]} cannot be imported ({_last_line(error)}); install one that fits with: {INSTALL}"
    return None


def _driver_problem(probes: Probes) -> str | None:
    driver, cuda = probes.driver_version(), probes.cuda_version()
    if driver == 0:
        return "no NVIDIA driver was found; the GPU kernels need one (nvidia-smi shows whether it works)"
    # Within a major version an older driver runs what a newer toolkit made.
    if driver // 1000 < cuda // 1000:
        return (
            f"the NVIDIA driver is for CUDA {_dotted(driver)} and CuPy for CUDA {_dotted(cuda)}; update the driver, "
            f"or take the CuPy of its CUDA: pip uninstall {' '.join(probes.packages())}, "
            f"and then: pip install 'vae-np[cuda{driver // 1000}]'"
        )
    return None


def _compiler_problem(probes: Probes) -> str | None:
    try:
        compiler = probes.compiler_version()
    except Exception as error:  # CuPy raises its loader's own kinds
        return f"CUDA's run-time compiler, NVRTC, was not found ({_last_line(error)}); it comes with: {INSTALL}"
    driver = probes.driver_version()
    if compiler[0] > driver // 1000:
        return (
            f"CUDA's run-time compiler is of {compiler[0]}.{compiler[1]} and the driver for CUDA {_dotted(driver)}; "
            f"update the driver, or install: pip install 'vae-np[cuda{driver // 1000}]'"
        )
    return None


def _device_problem(probes: Probes) -> str | None:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    where = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
    try:
        count = probes.device_count()
    except Exception as error:
        if _NO_DEVICE not in str(error):
            return f"the driver does not answer ({_last_line(error)}); nvidia-smi shows whether it works"
        count = 0
    if count == 0:
        return f"the driver shows no CUDA device{where}; nvidia-smi lists what it has"
    name, capability = probes.device()
    if capability < OLDEST_DEVICE:
        return (
            f"{name} has compute capability {capability[0]}.{capability[1]}, and the GPU kernels need "
            f"{OLDEST_DEVICE[0]}.{OLDEST_DEVICE[1]} or later; another device is chosen by CUDA_VISIBLE_DEVICES{where}"
        )
    return None


def device_line(probes: Probes | None = None) -> str:
    """The device in a few words, where `problem` found nothing."""
    probes = Probes() if probes is None else probes
    name, capability = probes.device()
    compiler = probes.compiler_version()
    return (
        f"{name}, compute capability {capability[0]}.{capability[1]}, driver for CUDA "
        f"{_dotted(probes.driver_version())}, NVRTC {compiler[0]}.{compiler[1]}"
    )


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _last_line(error: BaseException) -> str:
    """CuPy wraps what went wrong in a page of advice; the original error comes last."""
    lines = [line.strip(" =") for line in str(error).splitlines()]
    return " ".join(next((line for line in reversed(lines) if line), type(error).__name__).split())
