"""What setup.cfg, CITATION.cff, CHANGELOG.md and the licence say of the package agrees.

Budget: under 1 s.
"""

from __future__ import annotations

import configparser
import re

import pytest
from trees import ROOT

from vae_np import __version__

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def lines(section: str, key: str) -> list[str]:
    return SETUP[section][key].split("\n")[1:]


def cited(key: str) -> str:
    """A value at the top of CITATION.cff, which is YAML of the simplest kind."""
    return re.search(rf"^{key}: (.*)$", CITATION, re.M)[1].strip('"')  # type: ignore[index]


def test_name_version_and_author() -> None:
    assert cited("title").startswith(SETUP["metadata"]["name"] + ":")
    assert cited("version") == __version__
    assert re.search(r"^authors:\n  - name: (.*)$", CITATION, re.M)[1] == SETUP["metadata"]["author"]  # type: ignore[index]
    assert f"(c) 2026 {SETUP['metadata']['author']}\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_licence_and_keywords() -> None:
    code, data = SETUP["metadata"]["license_expression"].split(" AND ")
    assert cited("license") == code
    assert data in CITATION
    keywords = re.search(r"^keywords:\n((?:  - .*\n)+)", CITATION, re.M)[1]  # type: ignore[index]
    assert re.findall(r"  - (.*)", keywords) == lines("metadata", "keywords")


def test_versions_of_the_changes() -> None:
    """`Unreleased` comes first, then this version or, while the next one is being made, the last that was released."""
    headings = re.findall(r"^## (.*)$", CHANGES, re.M)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)", headings[1])
    assert set(re.findall(r"^### (.*)$", CHANGES, re.M)) <= {"Added", "Changed", "Fixed", "Removed"}


def test_pythons() -> None:
    """The classifiers, nox and the README name the same ones, and the oldest is what installers demand."""
    classified = [version for line in lines("metadata", "classifiers") for version in re.findall(r":: (3\.\d+)$", line)]
    tried = re.search(r"^PYTHONS = \((.*)\)$", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.M)
    assert tried is not None
    assert re.findall(r"3\.\d+", tried[1]) == classified
    assert SETUP["options"]["python_requires"] == f">={classified[0]}"
    assert f"Python {classified[0]} or later" in README


@pytest.mark.parametrize("requirement", lines("options", "install_requires"))
def test_every_dependency_has_a_lower_bound(requirement: str) -> None:
    assert requirement.startswith("#") or re.match(r"[\w-]+>=[\d.]+(,<[\d.]+)?$", requirement)


def test_the_oldest_numba_is_one_number() -> None:
    from vae_np import backends

    oldest = ".".join(map(str, backends._OLDEST_NUMBA))
    assert any(line.startswith(f"numba>={oldest},<") for line in lines("options", "install_requires"))
