"""Numbers in a chapter's prose, held to what the program computes; and figures, whose text has to be readable."""

from __future__ import annotations

import re

from matplotlib.text import Text
from trees import ROOT

from vae_np.pictures.drawing import SMALLEST
from vae_np.study import Result


def says(chapter: int, *snippets: str) -> None:
    """Whether the chapter's text has each of these, line breaks apart; raises AssertionError with those it has not."""
    (page,) = (ROOT / "docs" / "derivation").glob(f"{chapter:02d}-*.md")
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert [snippet for snippet in snippets if snippet not in text] == []


def readable(result: Result) -> None:
    """Whether no text of a chapter's figures is too small; raises AssertionError with those that are."""
    small = {
        (name, text.get_text())
        for name, figure in result.figures.items()
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_fontsize() < SMALLEST
    }
    assert small == set()
