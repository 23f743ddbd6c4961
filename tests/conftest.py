"""What all suites share: random numbers; skips, which CI lets pass only where they are listed; the GPU suite's, which
are counted, and fail where a GPU was promised; and how a run is dealt to several processes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import tomllib
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

# The matrices of most tests are so small that BLAS's threads would only wait for each other, and on a busy machine for
# a long time. It has to be said before NumPy is imported; what is set in the environment wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

# Source files that the verifier is tested on: none of them is a test of ours, whatever it is called.
collect_ignore = ["foreign"]

SKIPS = tomllib.loads(Path(__file__).with_name("skips.toml").read_text(encoding="utf-8"))["skip"]


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same for every test, whatever ran before it."""
    return np.random.default_rng(20260101)


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> Generator[None, None, None]:
    """Where a shell has started the tests in the background, Ctrl-C is ignored, in them and in all that they start."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tell where the processes of `-n` keep what one of them makes for all."""
    own = tmp_path_factory.getbasetemp()
    os.environ["VAE_NP_TESTS_SHARED"] = str(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="fail each GPU test that would be skipped")


def gpu_missing() -> str | None:
    """Why the GPU kernels cannot be used here, or None if they can."""
    from vae_np import backends

    return backends.missing("cupy")


# Where kernels are compiled. One process runs all of these, so that no other compiles the same at the same time.
COMPILING = ("tests/parity/", "tests/kernels/")


def unit(nodeid: str) -> str:
    """What a test is dealt out with: its file, or all files that compile kernels."""
    file = nodeid.partition("::")[0]
    return "kernels" if file.startswith(COMPILING) else file


def budget(module: object) -> float:
    """The seconds that a file of tests states as its budget; 0 where it states none."""
    stated = re.search(r"Budget:\s+(?:about|under)\s+([\d.]+)\s+s\b", module.__doc__ or "")
    return float(stated[1]) if stated else 0.0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    return ByUnit(config, log)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort units by their budgets, so that no process is left with a long one when the others are done."""
    budgets: dict[str, dict[object, float]] = defaultdict(dict)
    for item in items:
        module = getattr(item, "module", None)
        budgets[unit(item.nodeid)][module] = budget(module)
    total = {name: sum(files.values()) for name, files in budgets.items()}
    items.sort(key=lambda item: (-total[unit(item.nodeid)], unit(item.nodeid)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        longest_first(items)
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    why = gpu_missing() if gpu_items else None
    for item in gpu_items if why else []:
        item.add_marker(pytest.mark.skip(reason=why))


def unlisted(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """The reason of a skip that tests/skips.toml does not list, where CI would have to run the test; None otherwise."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return None
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    for entry in SKIPS:
        installed = "without" in entry and importlib.util.find_spec(entry["without"]) is not None
        if re.fullmatch(entry["reason"], reason) and not installed:
            return None
    return reason


def fail(report: pytest.TestReport | pytest.CollectReport, why: str) -> None:
    report.outcome = "failed"
    report.longrepr = why


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.get_closest_marker("gpu"):
        if item.config.getoption("--require-gpu"):
            fail(report, f"--require-gpu: not executed, {report.longrepr}")
        else:
            report.user_properties.append(("gpu-skipped", True))
    elif (reason := unlisted(report)) is not None:
        fail(report, f"skipped in CI, and not listed in tests/skips.toml: {reason}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if (reason := unlisted(report)) is not None:
        fail(report, f"skipped in CI, and not listed in tests/skips.toml: {reason}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum(("gpu-skipped", True) in getattr(report, "user_properties", []) for report in reports)
    if skipped:
        terminalreporter.write_line(f"GPU SUITE: {skipped} skipped, not executed")
