"""No change to a solution that changes what it computes is passed: solutions are mutated, and each mutant is graded.

Budget: about 90 s, all of it slow.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

import pytest

from vae_np.exercises import EXERCISES, Exercise
from vae_np.exercises.grading import grade

# Of all mutants this share is graded: each takes a twentieth of a second or more.
EVERY = 3
_OTHER = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
# Mutants that compute the same: a part of a line that they have, and why.
EQUIVALENT = {
    "batch, -2)": "any negative length is what is left over",
    "signal * 0.5 * (eps * eps": "the signals of an example add up to zero, so a constant beside eps² does nothing",
    "log_q = -0.5 * (distance + logvar[None]": "the constant is in the density and in the mixture",
}


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _changes(node: ast.AST) -> Iterator[str | Callable[[ast.AST], None]]:
    """What may be done to a node: the name of the part that takes its place, or a function that changes it."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in _OTHER:
            other = _OTHER[type(node.op)]
            yield lambda n: setattr(n, "op", other())
        yield from ("left", "right")
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in {node.value + 1, node.value * 2, 0} - {node.value}:
            yield lambda n, value=value: setattr(n, "value", value)  # type: ignore[misc]  # early binding
    elif isinstance(node, ast.UnaryOp):
        yield "operand"
    elif isinstance(node, ast.Attribute) and node.attr in ("sum", "mean"):
        yield lambda n: setattr(n, "attr", "mean" if n.attr == "sum" else "sum")  # type: ignore[attr-defined]


def mutants(text: str) -> Iterator[str]:
    """The text with one operator, number, sign, sum or mean changed, or one operand left out."""
    tree = ast.parse(text)
    for index, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            mutant = copy.deepcopy(tree)
            place = list(ast.walk(mutant))[index]
            if isinstance(change, str):
                mutant = _Replace(place, getattr(place, change)).visit(mutant)
            else:
                change(place)
            changed = ast.unparse(ast.fix_missing_locations(mutant))
            if changed != ast.unparse(tree):
                yield changed


@pytest.mark.slow
@pytest.mark.parametrize("exercise", [one for name, one in EXERCISES.items() if "-" not in name], ids=lambda e: e.name)
def test_no_mutant_of_a_solution_passes(exercise: Exercise) -> None:
    changed = list(mutants(exercise.solution_text))
    assert changed
    for text in changed[::EVERY]:
        names: dict[str, object] = {"__name__": "mutant"}
        exec(exercise.file_text(text), names)
        found = grade(exercise, names[exercise.function])  # type: ignore[arg-type]  # the function that was executed
        new = "\n".join(set(text.splitlines()) - set(exercise.solution_text.splitlines()))
        assert found.status != "passed" or any(part in new for part in EQUIVALENT), new
