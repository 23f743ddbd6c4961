"""What a file says about its subjects: `# vae-np: inputs = …`, an `examples` dictionary, `<name>_example`."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import gradcheck
from vae_np.errors import InputError

COMMENT = re.compile(
    r"#\s*vae-np:\s*(?:(?P<name>[\w.]+)\s*:\s*)?(?P<what>inputs|wrt|layer|skip|check)\s*(?:=\s*(?P<value>.*))?$"
)


class Hints:
    """The hints of one file, by the names of definitions (`affine_forward`, `Dense`)."""

    def __init__(self, source: str, module: ModuleType) -> None:
        self._module = module
        self._said: dict[str, dict[str, str]] = {}
        places = _places(source)
        for line, text in _comments(source):
            match = COMMENT.match(text)
            if match:
                name = match["name"] or _owner(places, line)
                if name is not None:
                    self._said.setdefault(name, {})[match["what"]] = (match["value"] or "").strip()

    def skipped(self, *names: str) -> bool:
        """Tell whether the file says that a subject of one of these names is none of ours."""
        return any("skip" in self._said.get(name, {}) for name in names)

    def wrt(self, *names: str) -> Any:
        """Return the inputs to check, where the file says so in a `wrt` comment or in `<name>_wrt`."""
        for name in names:
            text = self._said.get(name, {}).get("wrt")
            if text is not None:
                return tuple(part.strip().strip("\"'") for part in text.strip("()[]").split(",") if part.strip())
            if hasattr(self._module, f"{name}_wrt"):
                return getattr(self._module, f"{name}_wrt")
        return None

    def layer(self, name: str, seed: int) -> Any:
        """Return the object that a `layer` comment makes, or None."""
        text = self._said.get(name, {}).get("layer")
        return None if text is None else self._evaluate(name, "layer", text, seed)

    @property
    def names(self) -> list[str]:
        """The definitions that a comment or the `examples` dictionary speaks of."""
        examples = getattr(self._module, "examples", None)
        given = [name for name, said in self._said.items() if {"inputs", "check", "layer"} & set(said)]
        return list(dict.fromkeys([*given, *(examples if isinstance(examples, dict) else ())]))

    def report(self, seed: int, *names: str) -> Any:
        """Return the report of a `check` comment, such as `check_vjp(f, g, (x,))`, or None where there is none."""
        for name in names:
            text = self._said.get(name, {}).get("check")
            if text is not None:
                return self._evaluate(name, "check", text, seed)
        return None

    def inputs(self, seed: int, *names: str) -> tuple[Any, ...] | None:
        """Return the inputs that the file gives for a subject of one of these names, or None where it gives none.

        Raises InputError where they cannot be evaluated or are empty.
        """
        for name in names:
            text = self._said.get(name, {}).get("inputs")
            if text is not None:
                return _as_tuple(name, self._evaluate(name, "inputs", text, seed))
            examples = getattr(self._module, "examples", None)
            if isinstance(examples, dict) and name in examples:
                return _as_tuple(name, _called(f"examples[{name!r}]", examples[name], seed))
            example = getattr(self._module, f"{name}_example", None)
            if callable(example):
                return _as_tuple(f"{name}_example", _called(f"{name}_example", example, seed), "returned")
        return None

    def _evaluate(self, name: str, what: str, text: str, seed: int) -> Any:
        checks = {name: getattr(gradcheck, name) for name in gradcheck.__all__ if name.startswith("check_")}
        scope = {"np": np, **checks, **vars(self._module), "rng": np.random.default_rng(seed)}
        try:
            return eval(text, scope)
        except BaseException as error:
            raise InputError(f"{name}: its {what} comment fails: {type(error).__name__}: {error}") from None


def _called(name: str, value: Any, seed: int) -> Any:
    if not callable(value):
        return value
    try:
        return value(np.random.default_rng(seed)) if _takes_argument(value) else value()
    except BaseException as error:
        line = error.__traceback__.tb_next if error.__traceback__ is not None else None
        place = f" (line {line.tb_lineno})" if line is not None else ""
        text = str(error).strip().splitlines()
        what = f"it calls sys.exit({error.code!r})" if isinstance(error, SystemExit) else type(error).__name__
        raise InputError(f"{name} failed: {what}{': ' + text[0][:160] if text else ''}{place}") from None


def _takes_argument(function: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return True


def _as_tuple(name: str, value: Any, verb: str = "is") -> tuple[Any, ...]:
    if value is None or (isinstance(value, (tuple, list)) and not value):
        raise InputError(f"{name} {verb} {value!r}, expected a tuple of inputs")
    return tuple(value) if isinstance(value, tuple) else (value,)


def _comments(source: str) -> list[tuple[int, str]]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return [(i, line.strip()) for i, line in enumerate(source.splitlines(), 1) if "# vae-np:" in line]
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def _places(source: str) -> list[tuple[int, int, str]]:
    """Return the first line (decorators included), the last line and the name of every definition at the top."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return [
        (min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno or node.lineno, node.name)
        for node in body
        if isinstance(node, kinds)
    ]


def _owner(places: list[tuple[int, int, str]], line: int) -> str | None:
    """Return the definition that a comment's line is in, or the next one below it."""
    inside = next((name for first, last, name in places if first <= line <= last), None)
    return inside or next((name for first, _, name in places if first > line), None)
