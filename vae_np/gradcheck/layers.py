"""The check of an object with state: a layer or a model, whose forward and backward leave what they need in it.

Each call works on a fresh copy of the object with the given parameters put into it. The object thereby becomes a pair
of functions: `out, layer = forward(x, parameters)` and `dx, gradients = backward(dout, layer)`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

import numpy as np

from vae_np.errors import InputError
from vae_np.gradcheck import budget, object_parameters, reading, snippets, spelling, tree
from vae_np.gradcheck.check import run
from vae_np.gradcheck.findings import Check
from vae_np.gradcheck.foreign_arrays import Bridge, numpy_tree, over_like
from vae_np.gradcheck.gradients import chosen
from vae_np.gradcheck.layer_calls import LEARNING_RATE, Roles, takes_upstream, ways
from vae_np.gradcheck.options import Options, settings
from vae_np.gradcheck.randomness import Randomness
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import CallError, flat, input_names, kind_of, make_subject, shorten, upstream

# Methods that return a value together with its gradients.
WITH_GRADIENTS = ("loss", "loss_and_grads", "loss_and_grad", "loss_and_gradients", "loss_grad", "value_and_grad")
# What a gradient or a derivative without a forward beside it may belong to.
VALUES = (
    *("fn", "activate", "activation", "evaluate", "value", "predict", "log_likelihood", "cost", "error", "energy"),
    *("objective", "penalty", "nll", "neg_log_likelihood", "apply", "transform"),
)
FORWARDS = (
    *("forward", "forward_pass", "forwardPass", "fprop", "fwd", "feedforward", "feed_forward", "begin_update"),
    *("forward_propagation", "forward_prop", "propagate", *WITH_GRADIENTS, "calc", "compute", "call", "__call__", "f"),
)
BACKWARDS = (
    *("backward", "backward_pass", "backwardPass", "bprop", "bwd", "backprop", "backpropagate", "back", "grad"),
    *("backward_propagation", "backward_prop", "gradient", "gradients", "derivative", "backpropagation", "df"),
)
LOSSES = ("loss", "compute_loss", "calc_loss", "cost", "objective")
TRAINING = frozenset({"train", "training", "is_train", "is_training", "train_flg", "train_flag", "retain_derived"})


def check_layer(
    layer: Any,
    x: Any,
    *,
    wrt: Sequence[str | int] | None = None,
    forward: str | None = None,
    backward: str | None = None,
    **options: Unpack[Options],
) -> Report:
    """Check the backward of an object with state, by its input and by every parameter whose gradient it keeps.

    `layer` is the object, or a function or class that makes one, for objects that cannot be copied. `x` is what forward
    takes: an array, or a tuple of arguments. `forward` and `backward` are the names of the two methods, where they are
    not the usual ones. Parameters and gradients are found where people keep them (`W` and `dW`, `params` and `grads`,
    `W.grad`, `dinputs`), and the report says where. `wrt` lists names of inputs and parameters. `Options` describes the
    options.

    The object itself stays unchanged. Raises InputError where it has no such methods, cannot be copied, or keeps
    nothing that can be checked.
    """
    started = budget.now()
    bridge = Bridge(tuple(x) if isinstance(x, (tuple, list)) else (x,))
    inputs = bridge.numpy(bridge.inputs)
    chosen_settings = settings(**options)
    randomness = Randomness(layer)
    made = _Maker(layer, forward, backward, bridge)
    try:
        found = _read(made, inputs, chosen_settings.seed)
    finally:
        randomness.rewind()
    names = [*found.names, ""]
    called = (f"{made.name}.{made.forward}", f"{made.name}.{made.backward}")
    point = (*inputs, found.values)
    subject = make_subject(found.run, found.pull, point, names, called)
    subject.eps = bridge.eps
    fresh = made.fresh()
    subject.origin = (getattr(fresh, made.forward), getattr(fresh, made.backward, None))
    leaves = chosen(subject, wrt, scalars=wrt is not None)
    if wrt is None and found.silent:
        leaves = [leaf for leaf in leaves if subject.names[leaf] in found.values]
    repeat = dict(options) | ({} if wrt is None else {"wrt": wrt})
    text = snippets.for_object(made.name, made.module, repeat)
    read_as = "; ".join(part for part in (found.text, bridge.text) if part)
    report = Report(made.name, chosen_settings.seed, snippet=text, reading=read_as)
    report = run(
        subject,
        leaves,
        chosen_settings,
        report,
        linear=found.linear,
        more=found.promises(inputs),
        given=inputs,
        mean=found.mean,
        started=started,
    )
    return report


def assert_layer(layer: Any, x: Any, **options: Any) -> Report:
    """Check a layer as `check_layer` does, and raise AssertionError with the report where its gradients are wrong."""
    return check_layer(layer, x, **options).raise_if_failed()


class _Maker:
    """Makes a fresh object for each call, and knows its two methods and which library its inputs are from."""

    def __init__(self, layer: Any, forward: str | None, backward: str | None, bridge: Bridge) -> None:
        self.bridge = bridge
        self._factory = layer if isinstance(layer, type) or _is_factory(layer) else None
        self._layer = None if self._factory else layer
        # A factory may draw its weights: every object that it makes has the same.
        self._randomness = Randomness(layer)
        sample = self.fresh()
        self.name = type(sample).__name__
        self.module = type(sample).__module__
        self.forward = forward or find_method(sample, FORWARDS) or ""
        self.backward = backward or find_method(sample, BACKWARDS) or ""
        if forward is None and self.backward and _needs_nothing(getattr(sample, self.backward)):
            # Without an upstream gradient, it can only be the gradient of a loss.
            self.forward = find_method(sample, LOSSES) or self.forward
        if not self.forward:
            raise InputError(
                f"layer: got {self.name} without a forward method, expected one, or its name as forward='…'"
            )

    def fresh(self) -> Any:
        """Return an object in the state that the user's one is in."""
        if self._factory is not None:
            self._randomness.rewind()
            try:
                return self._factory()
            except TypeError as error:
                what = getattr(self._factory, "__name__", "the factory")
                raise InputError(
                    f"layer: got {what}, which cannot be called without arguments ({error}), "
                    f"expected an object, or lambda: {what}(…)"
                ) from None
        try:
            return copy.deepcopy(self._layer)
        except Exception as error:
            what = type(self._layer).__name__
            reason = shorten(str(error), 80)
            raise InputError(
                f"layer: got {kind_of(self._layer)} that cannot be copied ({reason}), "
                f"expected a function that makes one, such as lambda: {what}(…)"
            ) from None


def _needs_nothing(method: Any) -> bool:
    try:
        return not inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


def _is_factory(layer: Any) -> bool:
    return inspect.isfunction(layer) or inspect.isbuiltin(layer)


def find_method(thing: Any, names: tuple[str, ...]) -> str | None:
    """Return the first of the names that an object (or a class) has as a method."""
    return next((name for name in names if callable(getattr(thing, name, None))), None)


@dataclass
class _Layer:
    """An object as a pair of functions.

    `call` says how backward is called, and `updated` lists the parameters that backward itself changes. `mean` is True
    where the gradient, without an upstream one, is that of the mean of the outputs. `silent` is True where there are
    gradients of parameters and none of the inputs, as in a model's loss.
    """

    made: _Maker
    names: list[str]
    call: Roles
    parameters: list[object_parameters.Parameter] = field(default_factory=list)
    updated: list[object_parameters.Parameter] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    linear: bool = True
    mean: bool = False
    silent: bool = False

    def run(self, *point: Any) -> tuple[Any, Any]:
        """Return the output at inputs and parameters, and what backward needs."""
        *inputs, values = point
        thing = self.made.fresh()
        if self.updated:  # what backward takes away is then the gradient itself
            for name in LEARNING_RATE & vars(thing).keys():
                setattr(thing, name, 1.0)
        for parameter in self.parameters:
            array = np.array(values[parameter.name])  # backward may update it
            for path in parameter.paths:
                object_parameters.put(thing, path, array)
            held = None if parameter.gradient is None else object_parameters.get(thing, parameter.gradient)
            if isinstance(held, np.ndarray) and held.dtype.kind == "f":
                object_parameters.put(thing, parameter.gradient or (), np.zeros_like(array, dtype=held.dtype))
        state = self.forward(thing, tuple(inputs), values)
        return numpy_tree(state.out), state

    def forward(self, thing: Any, inputs: tuple[Any, ...], values: dict[str, Any]) -> _State:
        """Call the object's forward, and return what it leaves."""
        method = getattr(thing, self.made.forward)
        moved = self.made.bridge.over(inputs)
        out, cache = _split(thing, method(*moved, **_flags(method, len(inputs))), self.cached)
        return _State(thing, out, cache, moved, values)

    def pull(self, dout: Any, state: _State) -> Any:
        """Return the gradients by the inputs, None where there is none, and by the parameters."""
        raw = self.raw(dout, state)
        gradients = {p.name: self._kept(state.thing, p, state) for p in self.parameters}
        return (*_returned(raw, state.thing, state, gradients), gradients)

    def raw(self, dout: Any, state: _State) -> Any:
        """Return what backward, or the callback that forward returned, returns."""
        dout = over_like(dout, state.out)
        if callable(state.cache):
            return numpy_tree(state.cache(dout))
        if self.made.backward:
            method = getattr(state.thing, self.made.backward)
            return numpy_tree(method(*(_argument(role, dout, state) for role in self.call)))
        return numpy_tree(state.cache)

    def _kept(self, thing: Any, parameter: object_parameters.Parameter, state: _State) -> Any:
        """Return the gradient that backward left for a parameter, or what it took away from the parameter itself."""
        if parameter.gradient is not None:
            return object_parameters.get(thing, parameter.gradient)
        if parameter in self.updated:
            return np.asarray(state.values[parameter.name]) - object_parameters.get(thing, parameter.paths[0])
        return None

    @property
    def cached(self) -> bool:
        return "cache" in self.call or not self.made.backward

    @property
    def text(self) -> str:
        """How the object was read, as one line."""
        held = [(p.name, p.gradient) for p in self.parameters if p.gradient is not None]
        where = [f"{name} with {object_parameters.show(gradient)}" for name, gradient in held]
        by_change = [f"{p.name} by what backward takes away from it (learning rate 1)" for p in self.updated]
        arguments = ", ".join(self.names[role] if isinstance(role, int) else str(role) for role in self.call)
        back = f"{self.made.backward}({arguments})" if self.made.backward else "what forward returns with its result"
        kept = ", ".join(where + by_change)
        text = f"{self.made.forward}({', '.join(self.names)}), {back}" + (f"; gradients of {kept}" if kept else "")
        text += ", the gradient of the mean of the outputs" if self.mean else ""
        return text + ("; no gradient of the inputs comes" if self.silent else "")

    def promises(self, inputs: tuple[Any, ...]) -> Callable[[Any], list[Check]]:
        """Return a function that checks, for an upstream gradient, what one object does when it is used twice."""

        def check(weights: Any) -> list[Check]:
            try:
                found = (self._accumulates(inputs, weights), self._remembers(inputs), self._updates())
                return [check for check in found if check is not None]
            except Exception:  # an object that can't be used twice promises nothing about it
                return []

        return check

    def _accumulates(self, inputs: tuple[Any, ...], weights: Any) -> Check | None:
        kept = [p for p in self.parameters if p.gradient is not None]
        if not kept:
            return None
        out, state = self.run(*inputs, self.values)
        dout = upstream(out, weights)
        self.pull(dout, state)
        once = {p.name: np.array(object_parameters.get(state.thing, p.gradient or ())) for p in kept}
        self.pull(dout, self.forward(state.thing, inputs, self.values))
        growing = []
        for p in kept:
            twice = object_parameters.get(state.thing, p.gradient or ())
            if once[p.name].any() and np.allclose(twice, 2 * once[p.name], rtol=1e-4, atol=0.0):
                growing.append(p.name)
        if not growing:
            return None
        text = "a second backward on the same object gives twice the first for "
        text += f"{', '.join(growing)}: gradients accumulate; set them to zero before each call"
        return Check("repeated backward", False, text, promise="accumulation")

    def _updates(self) -> Check | None:
        if not self.updated:
            return None
        names = ", ".join(parameter.name for parameter in self.updated)
        text = f"backward itself changes {names}; let it keep the gradient, and let the caller update"
        return Check("parameters unchanged", False, text, promise="update")

    def _remembers(self, inputs: tuple[Any, ...]) -> Check | None:
        """Look for a forward that returns an old result for a new input."""
        moved = tuple(1.5 * v + 0.25 if tree.is_number(v) else v for v in inputs)
        _, state = self.run(*inputs, self.values)
        first, _ = self.run(*inputs, self.values)
        fresh, _ = self.run(*moved, self.values)
        again = numpy_tree(self.forward(state.thing, moved, self.values).out)
        one, two, three = (flat(out) for out in (first, fresh, again))
        if one.shape != two.shape or not np.array_equal(one, three) or np.array_equal(one, two):
            return None
        return Check(
            "repeated forward", False, "forward returns the result of an earlier call for another input: it caches"
        )


@dataclass(frozen=True)
class _State:
    """What a forward leaves: the object, and everything that a backward may ask for."""

    thing: Any
    out: Any
    cache: Any
    inputs: tuple[Any, ...]
    values: dict[str, Any]


def _split(thing: Any, result: Any, cached: bool) -> tuple[Any, Any]:
    """Return the output and the cache, from what forward returned or from what it left in the object.

    Where `cached` is True, a second result is what backward takes, or the gradients themselves, and not a second
    output.
    """
    if result is None:
        return object_parameters.output(thing), None
    if isinstance(result, tuple) and len(result) == 2 and (cached or not tree.is_number(result[1])):
        return result
    return result, None


def _flags(method: Any, given: int) -> dict[str, bool]:
    """Return the training flags that a forward needs besides its inputs."""
    try:
        parameters = list(inspect.signature(method).parameters.values())[given:]
    except (TypeError, ValueError):
        return {}
    return {p.name: True for p in parameters if p.name in TRAINING and p.default is inspect.Parameter.empty}


def _argument(role: str | int, dout: Any, state: _State) -> Any:
    if isinstance(role, int):
        return state.inputs[role]
    if role[-1].isdigit():
        if not isinstance(dout, tuple):
            raise CallError("there is one output, and backward takes several upstream gradients")
        return dout[int(role[-1])]
    if role == "the object's output":
        return object_parameters.output(state.thing)
    return {"dout": dout, "out": state.out, "cache": state.cache, "learning rate": 1.0}[role]


def _returned(raw: Any, thing: Any, state: _State, gradients: dict[str, Any]) -> list[Any]:
    """Return the inputs' gradients, and put what backward returned for parameters to those that it left none for."""
    inputs = numpy_tree(state.inputs)
    floats = [i for i, value in enumerate(inputs) if tree.is_number(value)]
    found: list[Any] = [None] * len(inputs)
    parts = list(raw) if isinstance(raw, (tuple, list)) else [raw]
    if isinstance(raw, dict):
        _by_key(raw, gradients, found, state)
        return found
    if len(parts) == 2 and isinstance(parts[1], dict):
        _by_key(parts.pop(), gradients, found, state)
    for position in floats:
        shape = np.shape(inputs[position])
        if parts and np.shape(parts[0]) == shape and parts[0] is not None:
            found[position] = parts.pop(0)
        elif parts and parts[0] is None and len(parts) > 1:
            parts.pop(0)
    for name, value in gradients.items():
        if value is None and parts and np.shape(parts[0]) == np.shape(state.values[name]):
            gradients[name] = parts.pop(0)
    left = [part for part in parts if part is not None]
    without = [position for position in floats if found[position] is None]
    if len(without) > 1 or (without and without[0] != floats[0]):
        for position, part in zip(without, left, strict=False):  # of other shapes: the report says so
            found[position] = part if len(left) == len(without) else None
    if floats and found[floats[0]] is None:
        if left and raw is not None and not callable(left[0]):
            found[floats[0]] = left[0]  # of another shape: the report says so
        else:
            found[floats[0]] = object_parameters.input_gradient(thing, np.shape(inputs[floats[0]]))
    return found


def _beyond_inputs(raw: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """Return what backward returned besides the gradients of its inputs."""
    parts = list(raw) if isinstance(raw, (tuple, list)) else [raw]
    floats = [value for value in inputs if tree.is_number(value)]
    for value in floats:
        if parts and np.shape(parts[0]) == np.shape(value) and not isinstance(parts[0], dict):
            parts.pop(0)
    return [part for part in parts if isinstance(part, (np.ndarray, dict))]


def _by_key(raw: dict[Any, Any], gradients: dict[str, Any], found: list[Any], state: _State) -> None:
    for key, value in raw.items():
        owner = spelling.owner(str(key), gradients)
        if owner is not None and gradients[owner] is None:
            gradients[owner] = value
        elif owner is None and spelling.owner(str(key), ["x", "X", "input", "inputs"]) and found:
            found[0] = value


def _read(made: _Maker, inputs: tuple[Any, ...], seed: int) -> _Layer:
    """Find how the object is called and where its parameters and gradients are, by trial where there is a choice."""
    method = getattr(made.fresh(), made.forward)
    names = input_names(method, inputs, None)
    ranked: list[tuple[int, _Layer]] = []
    problem: BaseException | None = None
    fresh = made.fresh()
    for call in ways(getattr(fresh, made.backward) if made.backward else None, len(inputs), names):
        layer = _Layer(made, names, call, linear=takes_upstream(call) or not made.backward)
        try:
            _find_parameters(layer, inputs, seed)
        except Exception as error:  # a wrong way to call a method may raise anything
            problem = problem or error
            continue
        layer.linear = layer.linear and not _is_gradient(layer, inputs)
        layer.silent = bool(layer.values) and _is_silent(layer, inputs)
        pair = reading.Reading(layer.run, layer.pull, (), "", layer.linear)
        rank = reading.rank(pair, (*inputs, layer.values), [*names, ""], seed)
        if rank == 0:
            return layer
        ranked.append((rank, layer))
        mean = replace(layer, mean=True)
        pair = reading.Reading(mean.run, mean.pull, (), "", layer.linear, mean=True)
        if not layer.linear and reading.rank(pair, (*inputs, layer.values), [*names, ""], seed) == 0:
            return mean
    if not ranked:
        _complain(made, inputs, problem)
    best = min(ranked, key=lambda pair: pair[0])[1]
    pair = reading.Reading(best.run, best.pull, (), "", best.linear)
    if not best.linear and reading.of_the_mean(pair, (*inputs, best.values), [*names, ""], seed):
        best.mean = True
    return best


def _complain(made: _Maker, inputs: tuple[Any, ...], problem: BaseException | None) -> None:
    if not made.backward and problem is None:
        raise InputError(f"layer: got {made.name} without a backward method, expected one, or its name as backward='…'")
    given = ", ".join(kind_of(v) + (f" of shape {v.shape}" if isinstance(v, np.ndarray) else "") for v in inputs)
    what = f"{type(problem).__name__}: {shorten(str(problem))}" if problem else "no way to call it"
    raise InputError(
        f"x: got {given}, on which {made.name}.{made.forward} and {made.backward or 'backward'} do not run ({what})"
    )


def _is_silent(layer: _Layer, inputs: tuple[Any, ...]) -> bool:
    out, state = layer.run(*inputs, layer.values)
    gradients = layer.pull(upstream(out, np.ones(flat(out).shape)), state)
    return all(gradient is None for gradient in gradients[:-1])


def _is_gradient(layer: _Layer, inputs: tuple[Any, ...]) -> bool:
    """Tell whether what the object calls its forward is a loss whose gradients are returned with it or need no dout."""
    out, state = layer.run(*inputs, layer.values)
    return not layer.made.backward and not callable(state.cache) and np.size(out) == 1


def _find_parameters(layer: _Layer, inputs: tuple[Any, ...], seed: int) -> None:
    """Run the object once and see which arrays are parameters, where their gradients appear, and which ones change."""
    fresh = layer.made.fresh()
    before = object_parameters.arrays(fresh)
    kept = {path: array.copy() for path, array in before.items()}
    state = layer.forward(fresh, tuple(tree.fresh(v) for v in inputs), {})
    out = numpy_tree(state.out)
    values = flat(out)
    if not values.size:
        raise CallError(f"{layer.made.forward} returned {kind_of(out)}, expected floating-point numbers")
    weights = np.random.default_rng(seed).standard_normal(values.shape)
    after_forward = {path: array.copy() for path, array in object_parameters.arrays(fresh).items()}
    raw = layer.raw(upstream(out, weights), state)
    after = object_parameters.arrays(fresh)
    layer.parameters = object_parameters.parameters(before, after)
    layer.parameters += object_parameters.returned(_beyond_inputs(raw, inputs), before, layer.parameters)
    known = {path for p in layer.parameters for path in p.paths}
    # Backward itself changes these parameters and keeps no gradient for them: an update by gradient descent.
    for path, array in after.items():
        old = after_forward.get(path)
        same_place = path in kept and old is not None and old.shape == array.shape == kept[path].shape
        changed = same_place and old is not None and not np.array_equal(old, array)
        if changed and not object_parameters.is_gradient(path):
            parameter = next((p for p in layer.parameters if path in p.paths), None)
            if parameter is None and path not in known:
                parameter = object_parameters.Parameter(object_parameters.show(path), (path,), None)
                layer.parameters.append(parameter)
            if parameter is not None and parameter.gradient is None:
                layer.updated.append(parameter)
    layer.values = {p.name: kept[p.paths[0]] for p in layer.parameters}
