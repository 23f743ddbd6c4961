"""Numbers in a chapter's prose, held to what the program computes."""

from __future__ import annotations

import re

from trees import ROOT


def says(chapter: int, *snippets: str) -> None:
    """Whether the chapter's text has each of these, line breaks apart; raises AssertionError with those it has not."""
    (page,) = (ROOT / "docs" / "derivation").glob(f"{chapter:02d}-*.md")
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    assert [snippet for snippet in snippets if snippet not in text] == []
