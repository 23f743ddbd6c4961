"""Skips in CI: what tests/skips.toml does not list is a failure, and each entry of it says why.

Budget: about 3 s.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# Read here, for there is a conftest.py in several folders, and the name `conftest` is that of any of them.
HERE = Path(__file__).parent
SKIPS = tomllib.loads((HERE / "skips.toml").read_text(encoding="utf-8"))["skip"]

# One test of each kind of skip, and one that passes.
TESTS = """
import pytest

def test_that_passes(): pass
@pytest.mark.skip(reason="nobody knows why")
def test_marked(): pass
def test_inside(): pytest.skip("nobody knows why")
def test_import(): pytest.importorskip("a_module_that_nobody_has")
@pytest.mark.skip(reason="no moon tonight")
def test_listed(): pass
@pytest.mark.skip(reason="no pytest here")
def test_of_a_module_that_is_there(): pass
@pytest.mark.xfail
def test_expected_to_fail(): assert False
"""
MODULE = "import pytest\npytest.skip('nobody knows why', allow_module_level=True)\n"
LIST = """
[[skip]]
reason = "no (sun|moon) tonight"
why = "It may be cloudy."
[[skip]]
reason = "no pytest here"
without = "pytest"
why = "It may be missing."
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (tmp_path / "skips.toml").write_text(LIST)
    (tmp_path / "test_skips_one.py").write_text(TESTS)
    return tmp_path


def outcomes(suite: Path, ci: str) -> dict[str, int]:
    """How many tests had each outcome, by pytest's own last line."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True)
    last = done.stdout.splitlines()[-1]
    return {name: int(count) for count, name in re.findall(r"(\d+) (\w+?)s?\b", last.partition(" in ")[0])}


def test_a_skip_that_is_not_listed_fails_in_ci_alone(suite: Path) -> None:
    assert outcomes(suite, "") == {"passed": 1, "skipped": 5, "xfailed": 1}
    # A test that its mark skips fails before it starts, which pytest calls an error.
    assert outcomes(suite, "true") == {"passed": 1, "skipped": 1, "xfailed": 1, "failed": 2, "error": 2}


def test_a_file_that_skips_itself_fails_in_ci_alone(suite: Path) -> None:
    (suite / "test_skips_one.py").write_text(MODULE)
    assert outcomes(suite, "") == {"skipped": 1}
    assert outcomes(suite, "true") == {"error": 1}


@pytest.mark.parametrize("entry", SKIPS, ids=lambda entry: entry["reason"][:40])
def test_an_entry_says_why(entry: dict[str, str]) -> None:
    assert set(entry) - {"without"} == {"reason", "why"}
    assert re.compile(entry["reason"])
    assert len(entry["why"].split()) > 5
