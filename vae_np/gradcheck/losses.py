"""The check of a function that returns its value together with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import snippets, spelling, tree
from vae_np.gradcheck.check import run
from vae_np.gradcheck.gradients import chosen
from vae_np.gradcheck.options import Options, settings
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import CallError, input_names, kind_of, make_subject


def check_value_and_grad(
    f: Callable[..., Any], x: Any, *args: Any, wrt: Sequence[str | int] | None = None, **options: Unpack[Options]
) -> Report:
    """Check the gradient that `loss, grad = f(x, *args)` returns with its value.

    x: an array, or a dictionary or tuple of arrays. args: what else f takes: class labels, settings, weights. Several
    gradients belong to the first floating arguments in their order (`loss, (dx, dw)` or `loss, dx, dw`), or come in a
    dictionary under their names (`W`, `dW`, `grad_W`); a single one belongs to x. wrt: the names or positions of those
    that have one, where that is not so. options: see `Options`.

    Raises InputError where f returns something else.
    """
    inputs = (x, *args)
    names = input_names(f, inputs, None)
    chosen_settings = settings(**options)
    trial = make_subject(f, _no_backward, inputs, names, ("f", "f"))
    try:
        first = trial.call_forward()
    except CallError as error:
        raise InputError(str(error)) from error.cause
    finally:
        trial.randomness.rewind()
    if not isinstance(first, (tuple, list)) or len(first) < 2 or np.size(first[0]) != 1:
        raise InputError(f"f: returned {_shape(first)}, expected a number and its gradient: loss, grad = f(…)")
    owners = _owners(names, inputs, first, wrt)

    def forward(*point: Any) -> tuple[Any, Any]:
        value, *gradients = f(*point)
        value = np.asarray(value).reshape(())[()] if np.ndim(value) else value
        return value, gradients[0] if len(gradients) == 1 else tuple(gradients)

    def backward(dout: Any, kept: Any) -> Any:
        return {names[owners[0]]: kept} if len(owners) == 1 else kept

    forward.__wrapped__ = f  # type: ignore[attr-defined]  # for its names and its sources of random numbers
    subject = make_subject(forward, backward, inputs, names, ("f", "f"))
    leaves = chosen(subject, [names[i] for i in owners], scalars=True)
    text = snippets.for_call("check_value_and_grad", (f,), "*inputs", dict(options) | {"wrt": wrt})
    reading = "" if owners == [0] else f"the gradients are those of {', '.join(names[i] for i in owners)}"
    report = Report(getattr(f, "__name__", "f").replace("<lambda>", "f"), chosen_settings.seed, snippet=text)
    report.reading = reading
    return run(subject, leaves, chosen_settings, report, linear=False)


def assert_value_and_grad(f: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Report:
    """Check as `check_value_and_grad` does, and raise AssertionError with the report where the gradient is wrong."""
    return check_value_and_grad(f, x, *args, **options).raise_if_failed()


def _no_backward(dout: Any, cache: Any) -> Any:
    raise CallError("there is no backward")


def _shape(result: Any) -> str:
    if isinstance(result, (tuple, list)) and result:
        return f"a tuple whose first part has shape {np.shape(result[0])}"
    return kind_of(result)


def _owners(names: list[str], inputs: tuple[Any, ...], result: Any, wrt: Sequence[str | int] | None) -> list[int]:
    """Return the positions of the arguments that the gradients belong to."""
    if wrt is not None:
        wrt = (wrt,) if isinstance(wrt, str) else wrt
        unknown = [str(w) for w in wrt if not isinstance(w, int) and w not in names]
        if unknown:
            raise InputError(f"wrt: no argument is called {unknown[0]!r}; the arguments are {', '.join(names)}")
        return [w if isinstance(w, int) else names.index(w) for w in wrt]
    gradients = result[1] if len(result) == 2 else tuple(result[1:])
    if isinstance(gradients, dict):
        if isinstance(inputs[0], dict):
            return [0]
        found = [names.index(owner) for key in gradients if (owner := spelling.owner(str(key), names)) is not None]
        if found:
            return found
        trees = [i for i, value in enumerate(inputs) if isinstance(value, dict) and not spelling.is_settings(value)]
        return trees[:1] or [0]
    if not isinstance(gradients, (tuple, list)) or isinstance(inputs[0], (tuple, list)):
        return _by_shape(gradients, inputs)
    floats = [i for i, value in enumerate(inputs) if _is_floating(value) and not spelling.is_settings(value)]
    return floats[: len(gradients)]


def _by_shape(gradient: Any, inputs: tuple[Any, ...]) -> list[int]:
    """Return the first argument that a single gradient has the shape of: x, or else the parameters that follow it."""
    fitting = [i for i, v in enumerate(inputs) if tree.is_number(v) and np.shape(v) == np.shape(gradient)]
    return fitting[:1] or [0]


def _is_floating(value: Any) -> bool:
    return any(tree.is_number(leaf) for _, leaf in tree.leaves(value))
