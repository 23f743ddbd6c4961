"""The table of planted mistakes and what noticed each, as it stands in docs/verification.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from . import mistakes_conduct, mistakes_distributions, mistakes_layers, mistakes_objective, mistakes_public
from .plant import Check, Mutant, planted

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "verification.md"
GROUPS = (
    ("Mistakes that public VAEs have made", mistakes_public.MUTANTS),
    ("Layers and operations", mistakes_layers.MUTANTS),
    ("Distributions", mistakes_distributions.MUTANTS),
    ("Model, ELBO, log-likelihood and optimisers", mistakes_objective.MUTANTS),
    ("Noise, data, training, evaluation and sampling", mistakes_conduct.MUTANTS),
)
MUTANTS = tuple(mutant for _, group in GROUPS for mutant in group)
_PART = re.compile(r"(?<=<!-- mutants: begin -->\n).*?(?=<!-- mutants: end -->)", re.DOTALL)
# A mistake in the planted code itself, not one that a check has found.
_SLIPS = ("NameError", "SyntaxError", "AttributeError", "ImportError")


class Slip(Exception):
    """The mutated code cannot run at all, so that noticing it proves nothing."""


def noticed(check: Check) -> str | None:
    """What the check says is wrong, in words; None if it passes."""
    try:
        check.run()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        text = f"{type(error).__name__}: {error}"
        if any(slip in text for slip in _SLIPS):
            raise Slip(text) from error
        return text
    return None


def blind(mutant: Mutant) -> bool | None:
    """Whether the gradient check of the same code passes in spite of the mistake; None where there is no gradient."""
    if mutant.gradient is None:
        return None
    with planted(mutant):
        return noticed(mutant.gradient) is None


def _row(mutant: Mutant) -> str:
    where: dict[str, None] = {}
    for edit in mutant.edits:
        module, _, function = edit.where.partition(":")
        where[f"`vae_np/{module.replace('.', '/')}.py` `{function}`"] = None
    passes = blind(mutant)
    alone = "" if passes is None else "**passes**" if passes else "fails"
    checks = "; ".join(f"{check.name} ({check.kind})" for check in mutant.caught_by)
    return f"| {mutant.mistake} | {', '.join(where)} | {checks} | {alone} |"


def rows(mutants: Iterable[Mutant]) -> list[str]:
    """A line of the table for each mutant."""
    return [_row(mutant) for mutant in mutants]


def text(lines: Iterable[list[str]]) -> str:
    """The part of the document between the two marks, from the lines of each group."""
    parts = []
    for (title, _), group in zip(GROUPS, lines, strict=True):
        head = f"### {title}\n\n| mistake | where | noticed by | gradient check alone |\n|---|---|---|---|"
        parts.append("\n".join([head, *group]))
    return "\n" + "\n\n".join(parts) + "\n\n"


def written() -> str:
    """The part of the document as it stands."""
    found = _PART.search(DOCUMENT.read_text(encoding="utf-8"))
    assert found is not None, f"{DOCUMENT.name}: no part between the two marks"
    return found[0]


def write() -> None:
    """Put the table into the document."""
    table = text(rows(group) for _, group in GROUPS)
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(_PART.sub(lambda _: table, document), encoding="utf-8")
