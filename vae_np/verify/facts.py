"""What a function's source says about its arguments: their axes, their keys, the words they are compared with."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vae_np.gradcheck.sources import definition, name_of, own_nodes


@dataclass
class Facts:
    """What is known of one argument.

    `axes` is the number of its axes where the source unpacks its shape, and `least` the smallest number they can have.
    """

    axes: int | None = None
    least: int = 0
    keys: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    whole: bool = False


def facts(function: Callable[..., Any]) -> dict[str, Facts]:
    """Return what the source of a function says about each of its arguments, or nothing where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        names = list(inspect.signature(function).parameters)
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found = {name: Facts() for name in names}
    assigned = {t.id for n in ast.walk(tree) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (name := _shape_of(node.value)) in found and name not in assigned:
            target = node.targets[0]
            if isinstance(target, ast.Tuple) and not any(isinstance(item, ast.Starred) for item in target.elts):
                found[name].axes = len(target.elts)
        elif isinstance(node, ast.Subscript):
            _subscript(node, found)
        elif isinstance(node, ast.Call):
            _get(node, found)
        elif isinstance(node, ast.Compare):
            _compare(node, found)
    return found


GRADIENT = re.compile(
    r"_?d_?[A-Za-z]\w*|\w*grads?|\w*_?gradients?\w*|grads?_?\w*|gradients?_\w*|g[A-Z]?|J_?grad|deriv\w*|g_?\w?|forces?|\w*prime"
)


def returns_gradient(function: Callable[..., Any]) -> bool:
    """Tell whether a function returns a value and, by its name in the source, a gradient of it."""
    top = definition(function)
    if top is None:
        return False
    returns = [n for n in own_nodes(top) if isinstance(n, ast.Return) and isinstance(n.value, ast.Tuple)]
    for node in returns:
        assert isinstance(node.value, ast.Tuple)
        value, *others = node.value.elts
        names = [name_of(other) for other in others]
        if others and all(name and GRADIENT.fullmatch(name) for name in names) and name_of(value) not in names:
            return True
    return False


def returns_function(function: Callable[..., Any]) -> bool:
    """Tell whether a function returns its result with a function defined inside of it: a backward."""
    top = definition(function)
    if top is None:
        return False
    inner = {node.name for node in ast.walk(top) if isinstance(node, ast.FunctionDef) and node is not top}
    for node in own_nodes(top):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            last = node.value.elts[-1]
            if isinstance(last, ast.Lambda) or (isinstance(last, ast.Name) and last.id in inner):
                return True
    return False


def _shape_of(node: ast.AST) -> str:
    """Return the name whose shape an expression is, as in `x.shape`."""
    if isinstance(node, ast.Attribute) and node.attr == "shape" and isinstance(node.value, ast.Name):
        return node.value.id
    return ""


def _subscript(node: ast.Subscript, found: dict[str, Facts]) -> None:
    name = _shape_of(node.value)
    index = node.slice
    if name in found and isinstance(index, ast.Constant) and isinstance(index.value, int) and index.value >= 0:
        found[name].least = max(found[name].least, index.value + 1)
    if not isinstance(node.value, ast.Name) or node.value.id not in found:
        return
    fact = found[node.value.id]
    if isinstance(index, ast.Constant) and isinstance(index.value, str):
        if isinstance(node.ctx, ast.Load):
            fact.keys.setdefault(index.value, None)
    elif isinstance(index, ast.JoinedStr) or (isinstance(index, ast.BinOp) and _has_text(index)):
        fact.keys.setdefault("", None)  # keys that are put together, such as "W" + str(i)
    elif isinstance(index, ast.Tuple) and not any(
        isinstance(e, ast.Constant) and e.value in (None, ...) for e in index.elts
    ):
        fact.least = max(fact.least, len(index.elts))


def _has_text(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node))


def _get(node: ast.Call, found: dict[str, Facts]) -> None:
    call = node.func
    if not isinstance(call, ast.Attribute) or not isinstance(call.value, ast.Name) or call.value.id not in found:
        return
    first = node.args[0] if node.args else None
    if call.attr in ("get", "setdefault", "pop") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        # A key with a default need not be there.
        if len(node.args) > 1:
            found[call.value.id].keys.setdefault(first.value, ...)
        else:
            found[call.value.id].keys.setdefault(first.value, None)


def _compare(node: ast.Compare, found: dict[str, Facts]) -> None:
    sides = [node.left, *node.comparators]
    names = [side.id for side in sides if isinstance(side, ast.Name) and side.id in found]
    words = [side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]
    for side in sides:
        if isinstance(side, (ast.Tuple, ast.List, ast.Set)):
            words += [
                item.value for item in side.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
    for name in names:
        found[name].words += words
