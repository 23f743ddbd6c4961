"""The table of planted mistakes and what noticed each, as it stands in docs/verification.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from . import (
    mistakes_annealed,
    mistakes_bounds,
    mistakes_conduct,
    mistakes_distributions,
    mistakes_inference,
    mistakes_layers,
    mistakes_likelihoods,
    mistakes_objective,
    mistakes_posteriors,
    mistakes_priors,
    mistakes_public,
    mistakes_two_layers,
)
from .plant import Check, Mutant, planted

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "verification.md"
GROUPS = (
    ("Mistakes that public VAEs have made", mistakes_public.MUTANTS),
    ("Layers and operations", mistakes_layers.MUTANTS),
    ("Distributions", mistakes_distributions.MUTANTS),
    ("Model, ELBO, log-likelihood and optimisers", mistakes_objective.MUTANTS),
    ("Objectives of several samples, and stages", mistakes_bounds.MUTANTS),
    ("Families of q", mistakes_posteriors.MUTANTS),
    ("Two stochastic layers", mistakes_two_layers.MUTANTS),
    ("Families of p(x|z), and missing cells", mistakes_likelihoods.MUTANTS),
    ("Learned priors and conditions", mistakes_priors.MUTANTS),
    ("Exact answers, and inference one datapoint at a time", mistakes_inference.MUTANTS),
    ("Noise, data, training, evaluation and sampling", mistakes_conduct.MUTANTS),
    ("Annealed chains, and what an evaluation keeps and reports", mistakes_annealed.MUTANTS),
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


@cache
def row(mutant: Mutant) -> str:
    """The mutant's line in the table; raises AssertionError where a check that is named for it does not notice it."""
    with planted(mutant):
        # A check that stands in both columns runs once.
        found = {check: noticed(check) for check in dict.fromkeys((*mutant.caught_by, mutant.gradient)) if check}
    missed = [check.name for check in mutant.caught_by if found[check] is None]
    passes = mutant.gradient is not None and found[mutant.gradient] is None
    assert not missed, f"not noticed by: {', '.join(missed)}"
    where: dict[str, None] = {}
    for edit in mutant.edits:
        module, _, function = edit.where.partition(":")
        where[f"`vae_np/{module.replace('.', '/')}.py` `{function}`"] = None
    checks = "; ".join(f"{check.name} ({check.kind})" for check in mutant.caught_by)
    alone = "" if mutant.gradient is None else "**passes**" if passes else "fails"
    return f"| {mutant.mistake} | {'; '.join(where)} | {checks} | {alone} |"


def text() -> str:
    """The part of the document between its two marks."""
    head = "| mistake | where | noticed by | gradient check alone |\n|---|---|---|---|"
    parts = ["\n".join([f"### {title}\n", head, *map(row, group)]) for title, group in GROUPS]
    blind = sum("**passes**" in row(mutant) for mutant in MUTANTS)
    counts = f"{len(MUTANTS)} mistakes; the gradient check of the same code passes in spite of {blind} of them."
    return "\n" + "\n\n".join([counts, *parts]) + "\n\n"


def written() -> str:
    """The part of the document as it stands."""
    found = _PART.search(DOCUMENT.read_text(encoding="utf-8"))
    assert found is not None, f"{DOCUMENT.name}: no part between the two marks"
    return found[0]


def write() -> None:
    """Put the table into the document."""
    table = text()
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(_PART.sub(lambda _: table, document), encoding="utf-8")
