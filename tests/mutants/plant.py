"""Put a mistake into the package in memory, and take it out again."""

from __future__ import annotations
import __future__

import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that raises where the package is wrong; `kind` is how it knows, `name` what the table calls it."""

    name: str
    kind: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Edit:
    """In the source of one function of the package, `old` becomes `new`; `where` is `module:function` or `:Class.m`."""

    where: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A mistake: what somebody would have done, the edits that do it, and the checks that each must notice it.

    `gradient` is the gradient check of the same code, to show where it is blind.
    """

    mistake: str
    edits: tuple[Edit, ...]
    caught_by: tuple[Check, ...]
    gradient: Check | None = None


def function_at(where: str) -> types.FunctionType:
    """The function that `where` names, from under a property, a class method or another decorator."""
    module, _, path = where.partition(":")
    found: object = importlib.import_module(f"vae_np.{module}")
    for part in path.split("."):
        found = vars(found)[part]
    return _plain(found)


def _plain(found: object) -> types.FunctionType:
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    assert callable(found)
    found = inspect.unwrap(found)
    assert isinstance(found, types.FunctionType)
    return found


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The package with this mistake in it."""
    with ExitStack() as stack:
        for where in dict.fromkeys(edit.where for edit in mutant.edits):
            edits = [edit for edit in mutant.edits if edit.where == where]
            function = function_at(where)
            stack.callback(setattr, function, "__code__", function.__code__)
            # Only the code is exchanged, so that every module, table and partial that holds the function sees it.
            function.__code__ = _edited(function, edits).__code__
        yield


def _edited(function: types.FunctionType, edits: list[Edit]) -> types.FunctionType:
    source = textwrap.dedent(inspect.getsource(function))
    # Without its decorators, which stay around the function whose code is exchanged.
    source = source[re.search(r"^def ", source, re.MULTILINE).start() :]  # type: ignore[union-attr]
    for edit in edits:
        assert source.count(edit.old) == 1, f"{edit.where}: {edit.old!r} occurs {source.count(edit.old)} times"
        source = source.replace(edit.old, edit.new)
    code = compile(
        source,
        f"<{edits[0].where}, with a planted mistake>",
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    scope: dict[str, object] = {}
    exec(code, function.__globals__, scope)
    return _plain(scope[function.__name__])
