"""The check of a function that returns its value together with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import budget, snippets, spelling, tree
from vae_np.gradcheck.check import run
from vae_np.gradcheck.foreign_arrays import Bridge, numpy_tree
from vae_np.gradcheck.gradients import chosen
from vae_np.gradcheck.options import Options, settings
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import CallError, input_names, kind_of, make_subject


def check_value_and_grad(
    f: Callable[..., Any], x: Any, *args: Any, wrt: Sequence[str | int] | None = None, **options: Unpack[Options]
) -> Report:
    """Check the gradient that `loss, grad = f(x, *args)` returns with its value.

    `x` is an array, or a dictionary or tuple of arrays. `args` are the other arguments of f, such as class labels,
    settings and weights. Several gradients belong to the first floating arguments in their order (`loss, (dx, dw)` or
    `loss, dx, dw`), or stand in a dictionary under their names (`W`, `dW`, `grad_W`); a single one belongs to x. `wrt`
    lists the names or positions of the arguments that have a gradient, where that is not so. `Options` describes the
    options.

    Raises InputError where f returns something else.
    """
    started = budget.now()
    bridge = Bridge((x, *args))
    inputs = bridge.numpy(bridge.inputs)
    names = input_names(f, inputs, None)
    chosen_settings = settings(**options)

    def called(*point: Any) -> Any:
        return numpy_tree(f(*bridge.over(point)))

    called.__wrapped__ = f  # type: ignore[attr-defined]  # for its names and its sources of random numbers
    trial = make_subject(called, _no_backward, inputs, names, ("f", "f"))
    try:
        first = trial.call_forward()
    except CallError as error:
        raise InputError(str(error)) from error.cause
    finally:
        trial.randomness.rewind()
    turned = isinstance(first, (tuple, list)) and len(first) == 2 and np.size(first[0]) != 1 == np.size(first[1])
    if turned:
        first = first[::-1]
    if not isinstance(first, (tuple, list)) or len(first) < 2 or np.size(first[0]) != 1:
        raise InputError(f"f: got {_shape(first)}, expected a number and its gradient: loss, grad = f(…)")
    owners = _owners(names, inputs, first, wrt)

    def forward(*point: Any) -> tuple[Any, Any]:
        value, *gradients = called(*point)[:: -1 if turned else 1]
        value = np.asarray(value).reshape(())[()] if np.ndim(value) else value
        return value, gradients[0] if len(gradients) == 1 else tuple(gradients)

    def backward(dout: Any, kept: Any) -> Any:
        return {names[owners[0]]: kept} if len(owners) == 1 else kept

    forward.__wrapped__ = f  # type: ignore[attr-defined]
    subject = make_subject(forward, backward, inputs, names, ("f", "f"))
    subject.eps = bridge.eps
    leaves = chosen(subject, [names[i] for i in owners], scalars=True)
    text = snippets.for_call("check_value_and_grad", (f,), "*inputs", dict(options) | {"wrt": wrt})
    own = "" if owners == [0] else f"the gradients are those of {', '.join(names[i] for i in owners)}"
    order = "the gradient comes before the value" if turned else ""
    reading = "; ".join(part for part in (order, own, bridge.text) if part)
    report = Report(getattr(f, "__name__", "f").replace("<lambda>", "f"), chosen_settings.seed, snippet=text)
    report.reading = reading
    return run(subject, leaves, chosen_settings, report, linear=False, started=started)


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
            raise InputError(f"wrt: got {unknown[0]!r}, expected some of {', '.join(names)}")
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
    """Return the first argument that has the shape of a single gradient: x, or else a parameter after it."""
    fitting = [i for i, v in enumerate(inputs) if tree.is_number(v) and np.shape(v) == np.shape(gradient)]
    return fitting[:1] or [0]


def _is_floating(value: Any) -> bool:
    return any(tree.is_number(leaf) for _, leaf in tree.leaves(value))
