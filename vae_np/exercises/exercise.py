"""An exercise: what it asks, with which shapes, the answer, and the wrong answers that people give.

The solution is a function, or the text of a kernel. A student's file is made of its head and what is given; the wrong
answers are changes to its text, so that each stands beside what it spoils.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import Report

Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]
# What a size is called where an answer is wrong by it.
SIZES = {
    "B": "examples",
    "C": "classes",
    "D": "features",
    "H": "hidden units",
    "I": "inputs",
    "K": "latents",
    "M": "nodes",
    "N": "rows",
    "O": "outputs",
    "P": "parameters",
    "S": "samples",
    "T": "temperatures",
}
# Two cases, in neither of which two sizes are equal: what is true of both is no accident.
_CASES: tuple[dict[str, int], ...] = (
    dict(zip(SIZES, (5, 9, 7, 8, 4, 3, 17, 11, 2, 13, 6, 10), strict=True)),
    dict(zip(SIZES, (4, 5, 6, 3, 7, 2, 12, 9, 8, 14, 10, 11), strict=True)),
)


class AnswerError(Exception):
    """An answer has no results to compare; the text is one line."""


@dataclass(frozen=True)
class Argument:
    """An argument of the function that is asked for: its axes by the names of their sizes, and how one is drawn.

    `axes` is such as `B K`, for (B, K); `SB K` is (S·B, K), and the empty text is one number.
    """

    name: str
    axes: str
    text: str = ""
    draw: Draw = lambda rng, shape: rng.standard_normal(shape)

    def shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """The shape at these sizes."""
        return tuple(int(a) if a.isdigit() else math.prod(sizes[letter] for letter in a) for a in self.axes.split())


def real(name: str, axes: str, text: str = "") -> Argument:
    """Standard normal numbers."""
    return Argument(name, axes, text)


def positive(name: str, axes: str, text: str = "") -> Argument:
    """Numbers above zero."""
    return Argument(name, axes, text, lambda rng, shape: rng.uniform(0.3, 2.0, shape))


def binary(name: str, axes: str, text: str = "zeros and ones") -> Argument:
    """Zeros and ones, as floats."""
    return Argument(name, axes, text, lambda rng, shape: rng.integers(0, 2, shape).astype(np.float64))


def number(name: str, low: float, high: float, text: str = "") -> Argument:
    """One number between two, as a float."""
    return Argument(name, "", text or "a number", lambda rng, shape: float(rng.uniform(low, high)))


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give: a change to the solution's text, and what is wrong with it."""

    old: str
    new: str
    cause: str

    def applied_to(self, text: str) -> str:
        """The text of the wrong answer; raises ValueError unless the solution has `old` once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.old!r} stands {text.count(self.old)} times in the solution, expected once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Edge:
    """Arguments at which a formula that is right on paper may fail; `cause` says what helps.

    minor: only digits are lost there, which is a remark and no mistake.
    """

    cause: str
    arguments: tuple[Any, ...]
    minor: bool = False


@dataclass(frozen=True)
class Case:
    """Arguments to call an answer with, and the sizes in them by letter."""

    arguments: tuple[Any, ...]
    sizes: dict[str, int]


@dataclass(frozen=True)
class Exercise:
    """One exercise; its name is the mark of the derivation that it asks for, such as D22.

    returns: the results and their axes, as an `Argument` has them; given: what the student's file has already;
    exact: the right results by the package's own code or, better, in another way; verify: the verifier's report on an
    answer, for a derivative; draw: the cases, where drawing each argument by itself is not enough; sizes: those of
    both cases where they are not the usual ones; writes: results are
    arrays that the answer is given after its arguments, to write into; load: the function in a text, where it is not
    plain Python; refuse: why a function cannot be an answer, or None; language: "python" or "cuda".
    """

    name: str
    title: str
    chapter: int
    asks: str
    statement: str
    arguments: tuple[Argument, ...]
    returns: Mapping[str, str]
    solution: Callable[..., Any] | str
    exact: Callable[..., Any]
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    given: tuple[Callable[..., Any], ...] = ()
    imports: tuple[str, ...] = ("import numpy as np",)
    edges: tuple[Edge, ...] = ()
    verify: Callable[[Callable[..., Any]], Report] | None = None
    draw: Callable[[np.random.Generator, dict[str, int]], tuple[Any, ...]] | None = None
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    writes: bool = False
    load: Callable[[str], Callable[..., Any]] | None = None
    refuse: Callable[[Callable[..., Any]], str | None] | None = None
    tolerance: float = 1e-9
    language: str = "python"

    @property
    def function(self) -> str:
        """The name of the function that is asked for."""
        if isinstance(self.solution, str):
            found = re.search(r"(?:def|__global__ void) (\w+)\(", self.solution)
            assert found is not None
            return found[1]
        return self.solution.__name__

    @property
    def file_name(self) -> str:
        """The name of a student's file: d22.py."""
        return self.name.lower().replace("-", "_") + (".cu" if self.language == "cuda" else ".py")

    @property
    def solution_text(self) -> str:
        """The function that is asked for, as a student would write it."""
        return self.solution if isinstance(self.solution, str) else inspect.getsource(self.solution)

    @property
    def blank_text(self) -> str:
        """The same with its body left out."""
        head, _, _ = self.solution_text.partition("{\n" if self.language == "cuda" else "):\n")
        if self.language == "cuda":
            return head + "{\n    // Your code.\n}\n"
        return head + f'):\n    raise NotImplementedError("{self.function} is still blank")\n'

    def file_text(self, answer: str, name: str | None = None) -> str:
        """A student's file of this name with this answer: statement, shapes, what is given, and the answer."""
        top = self.head(name or self.file_name)
        if self.language == "cuda":
            head = "".join(f"// {line}".rstrip() + "\n" for line in top.splitlines())
            return f"{head}// vae-np exercise: {self.name}\n\n{answer}"
        given = "".join(f"\n\n{inspect.getsource(function)}" for function in self.given)
        imports = "\n".join(self.imports)
        return f'"""{top}"""\n# vae-np exercise: {self.name}\n\n{imports}\n{given}\n\n{answer}'

    def head(self, name: str) -> str:
        """What a student reads first in a file of this name."""
        grade = f"vae-np exercise {name}"
        return "\n".join(
            [
                f"[{self.name}] {self.title} (chapter {self.chapter})",
                "",
                textwrap.dedent(self.statement).strip(),
                "",
                *(f"    {line}".rstrip() for line in self.table()),
                "",
                f"Grade this file:  {grade}",
                f"The next hint:    {grade} --hint",
                "",
            ]
        )

    def table(self) -> list[str]:
        """The arguments and results with their shapes, a line each, and what the sizes count."""
        rows = [(a.name, shown(a.axes), a.text) for a in self.arguments]
        results = ", ".join(f"{name} {shown(axes)}".strip() for name, axes in self.returns.items())
        rows.append(("results", results, ""))
        widths = [max(len(row[i]) for row in rows[: len(rows) - i]) for i in (0, 1)]
        axes = " ".join([a.axes for a in self.arguments] + list(self.returns.values()))
        letters = ", ".join(f"{one} {what}" for one, what in SIZES.items() if one in axes)
        lines = [f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {text}".rstrip() for name, shape, text in rows]
        return [*lines, "", f"with {letters}"] if letters else lines

    def cases(self) -> list[Case]:
        """The cases that an answer is graded on; the same every time."""
        found = []
        for index, usual in enumerate(_CASES):
            sizes = usual | {letter: pair[index] for letter, pair in self.sizes.items()}
            rng = np.random.default_rng(index)
            if self.draw is not None:
                arguments = self.draw(rng, sizes)
            else:
                arguments = tuple(a.draw(rng, a.shape(sizes)) for a in self.arguments)
            found.append(Case(arguments, sizes))
        return found

    def loaded(self, text: str) -> Callable[..., Any]:
        """The function that a text defines, in the names that the solution sees; of a kernel, however it is run."""
        if self.load is not None:
            return self.load(text)
        assert not isinstance(self.solution, str)
        names = dict(self.solution.__globals__)
        exec(compile(text, f"<{self.name}>", "exec"), names)
        return names[self.function]


def shown(axes: str) -> str:
    """Axes as a shape: (S·B, K)."""
    inner = ", ".join(axis if axis.isdigit() else "·".join(axis) for axis in axes.split())
    return "" if not inner else f"({inner},)" if " " not in axes else f"({inner})"


def draws(**axes: str) -> list[Array]:
    """Standard normal arrays with these axes, at the first case's sizes: where the verifier differentiates."""
    rng = np.random.default_rng(7)
    return [rng.standard_normal(Argument(name, each).shape(_CASES[0])) for name, each in axes.items()]
