"""The derivation as running code: a chapter a step, each with its claims, its numbers and its figure.

A chapter is a module with a `TITLE`, `CLAIMS` (by number, the functions that compute each claim's rows), `figures` and
perhaps `notes`. It computes what it claims through the package's public functions, so that it is also an example of
how to use them, and once more in another way: `plain` has the model's definitions for that. `CHAPTERS` has them in the
order of the derivation, under the names of the pages in docs/derivation/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from vae_np.config import shown
from vae_np.errors import InputError
from vae_np.study.claims import Claim, Result

__all__ = ["CHAPTERS", "Claim", "Result", "chapter_title", "claims_of", "forget", "run_chapter"]

CHAPTERS = (
    "01-generative-models",
    "02-latent-variables",
    "03-intractable",
    "04-variational-inference",
    "05-joint-optimisation",
    "06-amortisation",
    "07-vae-objective",
    "08-backpropagation",
    "09-optimisation",
    "10-likelihood",
    "11-noise",
    "12-perspectives",
    "13-objectives",
    "14-annealing",
    "16-two-stochastic-layers",
    "17-missing-data-and-tables",
    "18-priors-and-conditions",
)


def _module(name: str) -> object:
    number, words = name.split("-", 1)
    return importlib.import_module(f"vae_np.study.chapter{number}_{words.replace('-', '_')}")


def chapter_name(text: str) -> str:
    """The chapter that `text` names, in full or by its number; raises InputError where there is none."""
    for name in CHAPTERS:
        if text == name or text.zfill(2) == name.split("-", 1)[0]:
            return name
    raise InputError(f"chapter: got {shown(text)}, expected all or one of {', '.join(CHAPTERS)}")


def chapter_title(name: str) -> str:
    """What a chapter shows, in a sentence."""
    return cast(str, vars(_module(name))["TITLE"])


def claims_of(name: str) -> dict[int, Callable[[int], list[Claim]]]:
    """The numbers of a chapter's claims, and the function of `seed` that computes each one's rows."""
    return cast(dict[int, Callable[[int], list[Claim]]], vars(_module(name))["CLAIMS"])


def run_chapter(name: str, seed: int = 0) -> Result:
    """Compute a chapter's claims and draw its figures; every random draw follows from `seed`.

    Raises InputError where the chapter needs SciPy and it is not installed.
    """
    parts = vars(_module(name))
    try:
        claims = [claim for compute in claims_of(name).values() for claim in compute(seed)]
        figures = parts["figures"](seed)
        result = Result(claims, figures, parts["notes"](seed) if "notes" in parts else [])
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "scipy":
            raise
        raise InputError(f"chapter: {name} needs SciPy: pip install 'vae-np[study]'") from None
    finally:
        forget(name)
    return result


def forget(name: str) -> None:
    """Drop what the parts of a chapter share; the models that chapters share are kept."""
    for part in list(vars(_module(name)).values()):
        if getattr(part, "__module__", None) == vars(_module(name))["__name__"] and hasattr(part, "cache_clear"):
            part.cache_clear()
