"""Run a claim with a mistake planted in the package, and say which of its rows no longer hold."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from mutants.plant import Edit, Mutant, planted

from vae_np import study
from vae_np.study import Claim, models, trained

COMPUTE: dict[int, Callable[[int], list[Claim]]] = {
    number: compute for name in study.CHAPTERS for number, compute in study.claims_of(name).items()
}
CHAPTER = {number: name for name in study.CHAPTERS for number in study.claims_of(name)}
# What code with a mistake in it raises where it cannot go on.
_RAISED = (ArithmeticError, ValueError, LookupError, RuntimeError, TimeoutError, np.linalg.LinAlgError)
# Seconds of processor time a claim: a bound that has no maximum any more is climbed for ever. Slow claims train models.
LIMIT, SLOW_LIMIT = 20, 180
# A claim is slow where it, or the models that it looks at, take more than some seconds.
SLOW = {9, 22, 23, 24, 25, 29, 30, 31, 32, 34, 35}


@dataclass(frozen=True)
class Mistake:
    """What somebody would have done, the edits that do it, and the claims that it is tried on.

    With `fresh` the models that chapters share are trained with the mistake in place; else it meets models that were
    trained without it.
    """

    text: str
    edits: tuple[Edit, ...]
    claims: tuple[int, ...]
    fresh: bool = False

    @property
    def slow(self) -> bool:
        """Whether it takes more than some seconds."""
        return self.fresh or bool(SLOW & set(self.claims))


def edit(where: str, old: str, new: str) -> tuple[Edit, ...]:
    """A single edit, as `Mistake` takes it."""
    return (Edit(where, old, new),)


@contextmanager
def _quiet() -> Iterator[None]:
    """Mistakes overflow and divide by zero; what they compute is judged, not what NumPy says of it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _forget(names: set[str], *, models_too: bool) -> None:
    for name in names:
        study.forget(name)
    if models_too:
        for module in (models, trained):
            for part in vars(module).values():
                if hasattr(part, "cache_clear") and part is not trained.digits:
                    part.cache_clear()


def rows(claim: int, seed: int = 0) -> list[Claim]:
    """A claim's rows, computed with nothing left over from before but the models that chapters share."""
    _forget({CHAPTER[claim]}, models_too=False)
    with _quiet():
        return COMPUTE[claim](seed)


def _too_long(*_: object) -> None:
    raise TimeoutError("more processor time than a claim may take")


WARMED: set[tuple[int, int]] = set()


def _warm(claims: Sequence[int], seed: int) -> None:
    """Train what chapters share, so that a mistake meets models that were trained without it."""
    for claim in claims:
        if (claim, seed) not in WARMED:
            rows(claim, seed)
            WARMED.add((claim, seed))


def turned(mistake: Mistake, seed: int = 0) -> dict[int, list[str]]:
    """The rows of each claim that do not hold with the mistake planted; a claim that cannot be computed turns none."""
    if not mistake.fresh:
        _warm(mistake.claims, seed)
    chapters = {CHAPTER[claim] for claim in mistake.claims}
    found = {}
    before = signal.signal(signal.SIGVTALRM, _too_long)
    try:
        with planted(Mutant(mistake.text, mistake.edits, ())), _quiet():
            # Once: what a chapter's claims share they compute with the mistake in place.
            _forget(chapters, models_too=mistake.fresh)
            for claim in mistake.claims:
                try:
                    slow = mistake.fresh or claim in SLOW
                    signal.setitimer(signal.ITIMER_VIRTUAL, SLOW_LIMIT if slow else LIMIT)
                    found[claim] = [row.statement for row in COMPUTE[claim](seed) if not row.passed]
                except _RAISED as error:
                    print(f"{mistake.text}: claim {claim} raised {type(error).__name__}: {error}", file=sys.stderr)
                    found[claim] = []
                finally:
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
        _forget(chapters, models_too=mistake.fresh)
        if mistake.fresh:
            WARMED.clear()
    return found
