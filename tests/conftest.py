"""What all suites share: random numbers, and GPU tests that are skipped, counted, or failed where one was promised."""

from __future__ import annotations

import os
from collections.abc import Generator

# The matrices of most tests are so small that BLAS's threads would only wait for each other, and on a busy machine for
# a long time. It has to be said before NumPy is imported; what is set in the environment wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

# Source files that the verifier is tested on: none of them is a test of ours, whatever it is called.
collect_ignore = ["foreign"]


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same for every test, whatever ran before it."""
    return np.random.default_rng(20260101)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="fail each GPU test that would be skipped")


def gpu_missing() -> str | None:
    """Why the GPU kernels cannot be used here, or None if they can."""
    from vae_np import backends

    return backends.missing("cupy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    why = gpu_missing() if gpu_items else None
    for item in gpu_items if why else []:
        item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.get_closest_marker("gpu"):
        if item.config.getoption("--require-gpu"):
            report.outcome = "failed"
            report.longrepr = f"--require-gpu: not executed, {report.longrepr}"
        else:
            report.user_properties.append(("gpu-skipped", True))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum(("gpu-skipped", True) in getattr(report, "user_properties", []) for report in reports)
    if skipped:
        terminalreporter.write_line(f"GPU SUITE: {skipped} skipped, not executed")
