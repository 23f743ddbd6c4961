"""Networks whose backward returns the gradient of a cost: `forward(X, parameters)`, `cost(A, Y)`, `backward(…)`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np.gradcheck import Report, check_value_and_grad
from vae_np.verify.conventions import Candidate
from vae_np.verify.sample_inputs import number

_LABELS = re.compile(r"y|labels?|targets?|t", re.I)
_INPUT = re.compile(r"x|inputs?|data|a0", re.I)
_PARAMETERS = re.compile(r"param\w*|weights?|theta", re.I)


def signature_of(candidate: Candidate) -> Callable[..., Any]:
    """Return a function whose arguments are what the model's cost depends on: parameters, the input, labels."""

    def cost(parameters: Any, X: Any, Y: Any) -> Any:
        raise NotImplementedError

    # What a dictionary of parameters holds is in the source of the forward.
    cost.__wrapped__ = candidate.functions[0]  # type: ignore[attr-defined]
    cost.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("X", _parameter_name(candidate), "Y")]
    )
    return cost


def _parameter_name(candidate: Candidate) -> str:
    names = list(inspect.signature(candidate.functions[0]).parameters)
    return next((name for name in names if _PARAMETERS.fullmatch(name)), "parameters")


def check_model(candidate: Candidate, arguments: tuple[Any, ...], options: dict[str, Any]) -> Report:
    """Check the gradients of a model's parameters against its cost.

    `arguments` holds the input, the parameters and the labels.
    """
    forward, backward, cost = candidate.functions
    X, parameters, Y = arguments

    def value_and_grad(parameters: Any) -> tuple[Any, Any]:
        result = forward(*_filled(forward, X, parameters, Y, None, None))
        out, cache = result if isinstance(result, tuple) and len(result) == 2 else (result, result)
        value = cost(*_filled(cost, X, parameters, Y, out, cache))
        gradients = backward(*_filled(backward, X, parameters, Y, out, cache))
        return np.squeeze(value), gradients

    return check_value_and_grad(value_and_grad, parameters, **options)


def _filled(function: Callable[..., Any], X: Any, parameters: Any, Y: Any, out: Any, cache: Any) -> list[Any]:
    """Return the arguments that a function of the model needs, by their names."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        name = parameter.name
        if parameter.default is not inspect.Parameter.empty:
            continue
        if _PARAMETERS.fullmatch(name):
            found.append(parameters)
        elif _LABELS.fullmatch(name):
            found.append(Y)
        elif "cache" in name.lower():
            found.append(cache)
        elif _INPUT.fullmatch(name):
            found.append(X)
        elif setting := number(name, ()):
            found.append(setting[0])
        else:
            found.append(out)
    return found
