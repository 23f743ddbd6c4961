"""The lines that repeat a check, with the inputs saved where nothing else brings them back."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from vae_np.gradcheck.options import asked

# Inputs of more bytes than this are not saved.
LARGEST = 64 * 2**20


def for_call(check: str, functions: tuple[Any, ...], arguments: str, options: dict[str, Any]) -> str:
    """Return the lines that repeat a check of functions; `arguments` says how the inputs are passed."""
    imports, names = _imports(functions)
    lines = [f"from vae_np.gradcheck import {check}", *imports]
    return "\n".join([*lines, f"print({check}({', '.join(names)}, {arguments}{_keywords(options)}))"])


def for_object(name: str, module: str, options: dict[str, Any]) -> str:
    """Return the lines that repeat the check of an object, given the same object and input."""
    call = f"print(check_layer(layer, inputs{_keywords(options)}))  # layer: your {name} of {module}"
    return "\n".join(["from vae_np.gradcheck import check_layer", call])


def with_inputs(snippet: str, inputs: tuple[Any, ...], name: str) -> str:
    """Return the snippet with lines that load the inputs from an .npz file, which is written here.

    `name` is what the snippet calls them. Inputs that no file can hold, such as generators and objects, leave it
    unchanged.
    """
    arrays: dict[str, Any] = {}
    text = _expression(inputs, arrays)
    if text is None or sum(np.asarray(array).nbytes for array in arrays.values()) > LARGEST:
        return snippet
    digest = hashlib.sha256()
    for key, array in arrays.items():
        digest.update(key.encode() + str(array.dtype).encode() + str(array.shape).encode() + array.tobytes())
    path = Path(tempfile.gettempdir()) / f"vae-np-inputs-{digest.hexdigest()[:12]}.npz"
    try:
        if arrays and not path.exists():
            np.savez(path, **arrays)
    except OSError:
        return snippet
    load = [f"saved = np.load({str(path)!r})"] if arrays else []
    first, *rest = snippet.splitlines()
    return "\n".join(["import numpy as np", first, *load, f"{name} = {text}", *rest])


def _expression(value: Any, arrays: dict[str, Any]) -> str | None:
    """Return a value as an expression whose arrays come from the file, or None where a part of it cannot be saved."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        key = f"a{len(arrays)}"
        arrays[key] = value
        return f"saved[{key!r}]"
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        parts = [_expression(part, arrays) for part in value]
        if None in parts:
            return None
        inner = ", ".join(str(part) for part in parts)
        return f"({inner}{',' if len(parts) == 1 else ''})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, dict):
        items = [(repr(key), _expression(part, arrays)) for key, part in value.items()]
        if any(part is None for _, part in items):
            return None
        return "{" + ", ".join(f"{key}: {part}" for key, part in items) + "}"
    return None


def _imports(functions: tuple[Any, ...]) -> tuple[list[str], list[str]]:
    """Return lines that import the functions, and their names, which are to be filled in where none can be imported."""
    homes: dict[str, list[str]] = {}
    names, lost = [], []
    for function, stand_in in zip(functions, ("your_f", "your_grad"), strict=False):
        name, module = getattr(function, "__name__", ""), getattr(function, "__module__", None)
        home = getattr(function, "__qualname__", name)
        name = name if name.isidentifier() else stand_in
        names.append(name)
        if module is not None and module != "__main__" and home == name:
            homes.setdefault(module, []).append(name)
        else:
            lost.append(name)
    lines = [f"from {module} import {', '.join(dict.fromkeys(found))}" for module, found in homes.items()]
    if lost:
        lines.append(
            f"# {', '.join(dict.fromkeys(lost))}: take it from the failed call; a local function cannot be imported"
        )
    return lines, names


def _keywords(options: dict[str, Any]) -> str:
    shown = {key: value for key, value in options.items() if key in ("wrt", "convention") and value is not None}
    repeated = asked(**{key: value for key, value in options.items() if key not in ("wrt", "convention")})
    seed = repeated.pop("seed")
    return "".join(f", {name}={value!r}" for name, value in (repeated | shown | {"seed": seed}).items())
