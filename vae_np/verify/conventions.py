"""Which functions and classes of a file belong together as something with a derivative, by their names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any, Literal

from vae_np.gradcheck import layers
from vae_np.verify.facts import returns_function, returns_gradient
from vae_np.verify.loading import own

Kind = Literal["pair", "jvp", "loss", "layer", "callback", "model", "context", "torch", "jax"]

VARIANT = (
    r"(?P<variant>_(?:naive|fast|alt|alternative|vec|vectori[sz]ed|im2col|strides?|slow|v\d|np|numpy|batch|simple"
    r"|loops?))?"
)
FORWARD = (
    re.compile(rf"(?P<stem>.+?)_(?:forward|fwd|fprop|forward_pass|forward_prop(?:agation)?|feedforward){VARIANT}_?"),
    re.compile(rf"(?:forward|fwd|fprop|forward_pass)_(?P<stem>.+?){VARIANT}"),
    re.compile(rf"(?P<stem>)(?:forward|fwd|fprop|forward_pass|forward_prop){VARIANT}"),
)
BACKWARD = (
    re.compile(
        rf"(?P<stem>.+?)_(?:backward|bwd|bprop|backward_pass|backprop|backward_prop(?:agation)?|back|vjp|adjoint|pullback){VARIANT}_?"
    ),
    re.compile(rf"(?:backward|bwd|bprop|backprop|backward_pass|back)_(?P<stem>.+?){VARIANT}"),
    re.compile(rf"(?P<stem>)(?:backward|bwd|bprop|backprop|backward_pass|backward_prop){VARIANT}"),
)
DERIVATIVE = (
    re.compile(
        rf"(?P<stem>.+?)_?(?:grad|gradient|gradients|derivative|deriv|prime|der|dx|d|delta|diff|jacobian|jac){VARIANT}"
    ),
    re.compile(
        rf"(?:grad|gradient|derivative|deriv|d|dx|delta|backprop|gradient_of|derivative_of)_?(?P<stem>.+?){VARIANT}"
    ),
)
# A word that a convention ends with, in camelCase.
_WORD = re.compile(
    r"(?<=[a-z0-9])(?:Forward|Backward|Fwd|Bwd|Fprop|Bprop|Backprop|Grad|Gradient|Derivative|Deriv|Prime)(?![a-z])"
)
TANGENT = re.compile(rf"(?P<stem>.+?)_(?:jvp|tangent|pushforward|fwd_diff){VARIANT}")
LOSS = re.compile(
    r".*(loss|cost|objective|nll|log_?lik(elihood)?|energy|cross_?entropy|elbo|bce|mse|criterion|regulari[sz]ation|penalty)"
    r"(_?fn|_?fun(c(tion)?)?)?(_naive|_vectorized)?|"
    r"(loss|cost|objective|nll|energy)_.*|.*_?(and|with|value)_?_?(grad|gradient|grads|gradients|backward)|.*_loss_.*|.*fun_?grad",
    re.I,
)
CALLBACKS = frozenset(
    {"backprop", "backward", "pullback", "vjp", "finish_update", "bwd", "back", "backprop_fn", "vjp_fn", "grad"}
)
MODEL_BACKWARD = re.compile(
    r"(l_model_|full_)?(backward_propagation|backward_prop|backprop(agation)?|backward|model_backward)(?P<suffix>_.*)?",
    re.I,
)
MODEL_FORWARD = re.compile(
    r"(l_model_|full_)?(forward_propagation|forward_prop|forwardprop(agation)?|forward|model_forward)(_.*)?", re.I
)
COST = re.compile(r"(compute_|get_)?(cost|loss)(_.*)?|cross_?entropy(_.*)?", re.I)


@dataclass(frozen=True)
class Candidate:
    """Something in a file that has a derivative by its name.

    `functions` holds forward and backward, or the one function or class. `sure` is False where only a call can tell.
    """

    kind: Kind
    name: str
    names: tuple[str, ...]
    functions: tuple[Any, ...]
    sure: bool = True


def candidates(module: ModuleType) -> tuple[list[Candidate], list[str]]:
    """Return the subjects in the order of the file, and a line for each name that looks like half of one."""
    things = own(module)
    functions = {k: v for k, v in things.items() if _is_function(v) and not k.startswith("__")}
    found: list[tuple[int, Candidate]] = []
    order = {key: position for position, key in enumerate(things)}
    used: set[str] = set()

    def add(candidate: Candidate) -> None:
        found.append((min(order[n] for n in candidate.names), candidate))
        used.update(candidate.names)

    for key, value in things.items():
        special = _special(key, value)
        if special is not None:
            add(special)
            # The parts of a JAX function's derivative are not subjects of their own.
            used |= {
                name for name, part in things.items() if part in (getattr(value, "fwd", 0), getattr(value, "bwd", 0))
            }
    for model in _models(functions):
        add(model)
    for key in functions:
        stem = match["stem"] if (match := TANGENT.fullmatch(key)) else ""
        if stem in functions:
            add(Candidate("jvp", stem, (stem, key), (functions[stem], functions[key])))
    for forward, backward, stem in [*_pairs(functions, used), *_derivatives(functions, used)]:
        add(Candidate("pair", stem, (forward, backward), (functions[forward], functions[backward])))
    for key, value in functions.items():
        if key in used:
            continue
        if _returns_callback(value) or returns_function(value):
            add(Candidate("callback", key, (key,), (value,)))
        elif LOSS.fullmatch(key) or returns_gradient(value):
            add(Candidate("loss", key, (key,), (value,), sure=returns_gradient(value)))
    for key, value in things.items():
        if isinstance(value, type) and key not in used:
            pairs = _namespace(key, value)
            layer = None if pairs else _layer(key, value)
            for candidate in [*pairs, *([] if layer is None else [layer])]:
                add(candidate)
    found.sort(key=lambda pair: pair[0])
    return [candidate for _, candidate in found], list(_halves(functions, used))


def _is_function(value: Any) -> bool:
    return (inspect.isfunction(value) or type(value).__module__.startswith("numba")) and not isinstance(value, type)


def _special(key: str, value: Any) -> Candidate | None:
    """Return a torch.autograd.Function or a JAX function with a derivative of its own."""
    kind = type(value)
    if kind.__name__ == "custom_vjp" and kind.__module__.startswith("jax"):
        return Candidate("jax", key, (key,), (value,))
    if isinstance(value, type) and any(b.__module__ == "torch.autograd.function" for b in value.__mro__[1:]):
        return Candidate("torch", key, (key,), (value,))
    return None


def _snake(name: str) -> str:
    """Return a name with an underscore where a capital begins a word of a convention: relu_forward for reluForward."""
    return _WORD.sub(lambda match: f"_{match[0].lower()}", name)


def _match(patterns: tuple[re.Pattern[str], ...], name: str) -> tuple[str, str] | None:
    for pattern in patterns:
        match = pattern.fullmatch(_snake(name))
        if match:
            return match["stem"].strip("_"), match["variant"] or ""
    return None


def _pairs(functions: dict[str, Callable[..., Any]], used: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield forward, backward and their common name; a variant without a forward of its own takes the plain one."""
    forwards: dict[tuple[str, str], str] = {}
    for key in functions:
        parts = _match(FORWARD, key)
        if parts is not None and key not in used:
            forwards.setdefault(parts, key)
    for key in functions:
        parts = _match(BACKWARD, key)
        if parts is None or key in used:
            continue
        stem, variant = parts
        forward = forwards.get((stem, variant)) or forwards.get((stem, ""))
        forward = forward or next((name for (s, _), name in forwards.items() if s == stem), None)
        forward = forward or next((n for n in (stem + variant, stem) if n in functions and n != key), None)
        if forward is not None:
            yield forward, key, (stem + variant) or "forward"
    for key in functions:  # a linear map and its adjoint: im2col and col2im
        match = re.fullmatch(r"([a-z]+)2([a-z]+)(_.*)?", key)
        back = f"{match[2]}2{match[1]}{match[3] or ''}" if match else ""
        if back in functions and key.startswith("im") and not {key, back} & used:
            yield key, back, key


def _derivatives(functions: dict[str, Callable[..., Any]], used: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield functions with their derivatives: `relu` with `relu_grad`, `drelu`, `relu_prime` or `grad_relu`."""
    lower = {key.lower(): key for key in functions}
    for key in functions:
        if key in used or _match(BACKWARD, key) is not None:
            continue
        for pattern in DERIVATIVE:
            match = pattern.fullmatch(_snake(key))
            stem = match["stem"].strip("_").lower() if match else ""
            partner = lower.get(stem + (match["variant"] or "") if match else "") or lower.get(stem)
            if partner is not None and partner != key and len(stem) > 0:
                yield partner, key, partner
                break


def _models(functions: dict[str, Callable[..., Any]]) -> Iterator[Candidate]:
    """Yield a forward, a cost and a backward that takes the labels, whose gradient is that of the cost.

    A cost with a suffix, such as `_with_regularization`, goes with the backward that has it, too.
    """
    labels, parameters = "y|labels?|targets?|t", r"param\w*|weights?|theta|w1"
    forwards = [k for k in functions if MODEL_FORWARD.fullmatch(k) and _takes(functions[k], parameters)]
    costs = [k for k in functions if COST.fullmatch(k)]
    for backward, function in functions.items():
        match = MODEL_BACKWARD.fullmatch(backward)
        if match is None or not _takes(function, labels):
            continue
        suffix = match["suffix"] or ""
        forward, cost = _of_suffix(forwards, suffix), _of_suffix(costs, suffix)
        if forward is not None and cost is not None and not _takes(functions[forward], labels):
            names = (forward, backward, cost)
            yield Candidate("model", f"{cost} of {forward}", names, tuple(functions[k] for k in names))


def _of_suffix(names: list[str], suffix: str) -> str | None:
    """Return the name that ends with a suffix, or else the first."""
    return next((name for name in names if suffix and name.endswith(suffix)), names[0] if names else None)


def _takes(function: Callable[..., Any], pattern: str) -> bool:
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return any(re.match(rf"({pattern})(?![a-z])", name, re.I) for name in names)


def _returns_callback(function: Any) -> bool:
    """Tell whether a function defines a backward inside, which it then returns."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    inner = [c.co_name for c in code.co_consts if isinstance(c, CodeType)]
    return any(name in CALLBACKS or name.startswith(("backprop", "backward")) for name in inner)


def hinted(name: str, module: ModuleType) -> Candidate | None:
    """Return what the file gives inputs for, although its name tells nothing: a class, or a function of its own."""
    value = getattr(module, name, None)
    if isinstance(value, type):
        return Candidate("layer", name, (name,), (value,))
    if not callable(value):
        return None
    return Candidate("callback" if _returns_callback(value) else "loss", name, (name,), (value,))


def _namespace(key: str, value: type) -> list[Candidate]:
    """Return the pairs of a class that only holds functions: static methods and class methods with partners."""
    names = [n for n in vars(value) if isinstance(vars(value)[n], (staticmethod, classmethod))]
    if {layers.find_method(value, layers.FORWARDS), layers.find_method(value, layers.BACKWARDS)} & set(names):
        return []
    functions = {name: getattr(value, name) for name in names}
    found = [*_pairs(functions, set()), *_derivatives(functions, set())]
    return [Candidate("pair", f"{key}.{stem}", (key,), (functions[f], functions[b])) for f, b, stem in found]


def _layer(key: str, value: type) -> Candidate | None:
    """Return a class that has a forward and a backward, or a loss that returns its gradients."""
    if inspect.isabstract(value) or key.startswith("_"):
        return None
    forward, backward = methods_of(value)
    if forward is None:
        return None
    if backward is not None and _takes_context(value, forward) and _takes_context(value, backward):
        return Candidate("context", key, (key,), (value,))
    if backward is None:
        method = getattr(value, forward)
        if forward in layers.WITH_GRADIENTS:
            return Candidate("layer", key, (key,), (value,), sure=forward != "loss")
        return Candidate("layer", key, (key,), (value,)) if _returns_callback(method) else None
    return Candidate("layer", key, (key,), (value,))


def methods_of(value: type) -> tuple[str | None, str | None]:
    """Return the names of a class's forward and backward: the usual ones, or two that belong together by their names.

    A method that returns its gradients has no partner.
    """
    members = _members(value)
    forward = layers.find_method(value, layers.FORWARDS)
    backward = layers.find_method(value, layers.BACKWARDS)
    if forward == "__call__" and "__call__" not in members:
        forward = None
    if forward is not None and backward is not None:
        return forward, backward
    methods = {name: getattr(value, name) for name in members if _is_function(getattr(value, name, None))}
    for first, second, _ in [*_pairs(methods, set()), *_derivatives(methods, set())]:
        return first, second
    if backward is not None and forward is None:
        forward = next((name for name in layers.VALUES if name in methods), None)
    return forward, backward


def _takes_context(value: type, method: str) -> bool:
    """Tell whether a method is a static one whose first argument is the context that forward saves in."""
    try:
        first = next(iter(inspect.signature(getattr(value, method)).parameters), "")
    except (TypeError, ValueError):
        return False
    return isinstance(inspect.getattr_static(value, method), staticmethod) and first in ("ctx", "context", "self", "fn")


def _members(value: type) -> list[str]:
    """Return the names of a class's members, its own ones first and in the order of the source."""
    return list(dict.fromkeys(name for cls in value.__mro__ if cls is not object for name in vars(cls)))


def _halves(functions: dict[str, Callable[..., Any]], used: set[str]) -> Iterator[str]:
    """Yield a line for each forward without a backward, and each backward without a forward."""
    for key in functions:
        if key in used:
            continue
        if (parts := _match(FORWARD, key)) is not None and parts[0]:
            yield f"{key}: {parts[0]}_backward is missing"
        elif (parts := _match(BACKWARD, key)) is not None and parts[0]:
            yield f"{key}: {parts[0]}_forward is missing"
