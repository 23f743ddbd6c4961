"""Exercises that are graded: the derivation's formulas, each with its statement, its solution and usual mistakes.

One file for each family of formulas. An answer is judged against exact answers, and by the verifier where it is a
derivative; what is wrong with it is named where the difference gives it away.
"""

from __future__ import annotations

import difflib

from vae_np.config import shown
from vae_np.errors import InputError
from vae_np.exercises import annealing, backward, bounds, distributions, inference, kernels, objective, training
from vae_np.exercises.exercise import Exercise

__all__ = ["EXERCISES", "Exercise", "find"]

_FAMILIES = (distributions, inference, objective, backward, training, bounds, annealing, kernels)


def _place(exercise: Exercise) -> tuple[int, int, str]:
    mark, _, more = exercise.name.partition("-")
    return exercise.chapter, int(mark.removeprefix("D")), more


# In the order of the derivation.
EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in sorted((one for family in _FAMILIES for one in family.EXERCISES), key=_place)
}


def find(name: str) -> Exercise:
    """The exercise of a name, in whatever case; raises InputError for none."""
    known = {key.lower(): exercise for key, exercise in EXERCISES.items()}
    key = name.strip().lower().replace("_", "-")
    if key in known:
        return known[key]
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"; did you mean {known[close[0]].name}?" if close else ""
    raise InputError(f"exercise: got {shown(name)}, expected one of {', '.join(EXERCISES)}{meant}")
