"""What source code says where a call does not: which gradients a function returns, and with what it is called."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Literal

from vae_np.gradcheck import spelling


def definition(function: Callable[..., Any]) -> ast.AST | None:
    """Return the syntax tree of a function's definition, or None where there is no source."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(getattr(function, "py_func", function)))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a definition consists of, without the insides of functions that it defines."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield child
            yield from own_nodes(child)


def name_of(node: ast.AST) -> str:
    """Return the name of an expression: that of a variable, also inside of arithmetic, or of a first key."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Tuple) and node.elts:
        return name_of(node.elts[0])
    if isinstance(node, ast.Dict) and node.keys:
        first = node.keys[0]
        return f"grad_{first.value!s}" if isinstance(first, ast.Constant) else ""
    if isinstance(node, ast.BinOp):
        return name_of(node.left)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return name_of(node.func.value)
    return ""


def owners_told(backward: Callable[..., Any], names: list[str]) -> list[str] | None:
    """Return the inputs whose gradients a backward returns, by its variables: x and W for `return dx, dW`.

    The result is None where a variable names no input, and where two name the same one.
    """
    top = definition(inspect.unwrap(backward))
    returns = [n for n in own_nodes(top) if isinstance(n, ast.Return)] if top is not None else []
    if not returns or returns[-1].value is None:
        return None
    value = returns[-1].value
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    told = [part.id for part in parts if isinstance(part, ast.Name)]
    # A gradient's name differs from its tensor's: `return x` gives back x and not its gradient.
    found = [owner for name in told if name not in names and (owner := spelling.owner(name, names)) is not None]
    return found if len(found) == len(parts) == len(set(found)) else None


def called_at(forward: Callable[..., Any], derivative: Callable[..., Any]) -> Literal["input", "output", ""]:
    """Tell whether the file of a derivative calls it with what forward is given, or with what forward returned."""
    derivative, name = inspect.unwrap(derivative), getattr(inspect.unwrap(forward), "__name__", "")
    try:
        tree = ast.parse("".join(linecache.getlines(derivative.__code__.co_filename)))
    except (AttributeError, SyntaxError):
        return ""
    returned = {
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _argument(node.value, name) is not None
        for target in node.targets
    }
    given = {_argument(node, name) for node in ast.walk(tree)} - {None}
    # Inside of the two functions, the names are those of their arguments.
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in (name, derivative.__name__)
        for node in ast.walk(function)
    }
    arguments = {_argument(node, derivative.__name__) for node in ast.walk(tree) if id(node) not in inside} - {None}
    at_output = {a for a in arguments if a in returned or str(a).startswith(f"{name}(")}
    if arguments and at_output == arguments:
        return "output"
    return "input" if arguments & given and not at_output else ""


def _argument(node: ast.AST, name: str) -> str | None:
    """Return the first argument of a call of this function, as it is written, or None for anything else."""
    return (
        ast.unparse(node.args[0]) if isinstance(node, ast.Call) and name_of(node.func) == name and node.args else None
    )
