"""The first screens of docs/verification.md: their code runs, and prints what stands below it.

Budget: about 1 s.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from vae_np.gradcheck import GradientError

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "verification.md").read_text(encoding="utf-8").split("\n## ")[0]
# A block of code, and the block of output below it, if there is one.
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```\n(?P<output>.*?)```)?", re.DOTALL)


def printed(code: str, scope: dict[str, object], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a block prints, or the report of the error it ends with, without the lines that repeat the check."""
    try:
        exec(code, scope)
        text = capsys.readouterr().out
    except GradientError as error:
        text = str(error.report)
    return text.split("reproduce (seed")[0].rstrip()


def test_the_three_cases_print_what_the_page_shows(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    monkeypatch.delitem(sys.modules, "layers", raising=False)
    scope: dict[str, object] = {}
    examples = [match for match in EXAMPLE.finditer(TEXT) if match["output"] is not None]
    assert len(examples) == 3
    for match in examples:
        assert printed(match["code"], scope, capsys) == match["output"].rstrip()


def test_each_case_fits_on_a_screen():
    cases = re.split(r"\n\*\*A ", TEXT)[1:]
    assert [case.split("**")[0] for case in cases] == [
        "pair of functions",
        "layer",
        "loss that returns its gradient",
        "whole file or notebook.",
    ]
    assert max(len(case.splitlines()) for case in cases) <= 35
