"""Run a claim with a mistake planted in the package, and say which of its rows no longer hold."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from mutants.plant import Edit, Mutant, planted

from vae_np import study
from vae_np.study import Claim, chapter01_generative_models, models, trained

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
# The models that chapters share, of those claims that look at any: each is a cached function of the seed.
LOOKED_AT: dict[int, tuple[Callable[[int], object], ...]] = {
    3: (lambda seed: models.bars_decoder(seed, chapter01_generative_models.BARS_SIZE),),
    5: (models.xor_decoder, models.bars_decoder),
    6: (models.xor_decoder, models.bars_decoder, models.rings_decoder),
    7: (models.rings_decoder,),
    8: (models.bars_decoder,),
    **dict.fromkeys((23, 24, 25, 29, 30), (trained.mnist_vae,)),
    31: (trained.rings_pair, trained.bars_pair),
}


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
        for part in _shared():
            part.cache_clear()


def _shared() -> list[Any]:
    """The cached functions that train what chapters share."""
    parts = [part for module in (models, trained) for part in vars(module).values() if hasattr(part, "cache_clear")]
    return [part for part in parts if part is not trained.digits]


def _trained() -> int:
    """How many models were trained so far."""
    return sum(part.cache_info().misses for part in _shared())


def rows(claim: int, seed: int = 0) -> list[Claim]:
    """A claim's rows, computed with nothing left over from before but the models that chapters share."""
    _forget({CHAPTER[claim]}, models_too=False)
    with _quiet():
        return COMPUTE[claim](seed)


def _too_long(*_: object) -> None:
    raise TimeoutError("more processor time than a claim may take")


def turned(mistake: Mistake, seed: int = 0) -> dict[int, list[str]]:
    """The rows of each claim that do not hold with the mistake planted; a claim that cannot be computed turns none."""
    if not mistake.fresh:
        # So that the mistake meets models that were trained without it.
        for train in {train for claim in mistake.claims for train in LOOKED_AT.get(claim, ())}:
            train(seed)
    trained_before = _trained()
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
        assert mistake.fresh or _trained() == trained_before, "a model met the mistake in its training: see LOOKED_AT"
    finally:
        signal.signal(signal.SIGVTALRM, before)
        _forget(chapters, models_too=mistake.fresh)
    return found
