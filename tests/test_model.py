"""Encoder, decoder and likelihood as plain formulas; the parameter buffer; the initial values.

Budget: about 1.5 s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numeric import Problem, as_read_only, check_gradient, error, make_problem
from scipy import stats

from vae_np import noise, ops
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.errors import InputError
from vae_np.model import (
    decode_backward,
    decode_forward,
    encode_backward,
    encode_forward,
    initialise,
    loglik_backward,
    loglik_forward,
)
from vae_np.parameters import Parameters

pytestmark = pytest.mark.core

HIDDEN = [(), (5,), (5, 4)]
ACTIVATIONS = {
    "relu": lambda a: a * (a > 0),
    "tanh": np.tanh,
    "softplus": lambda a: np.log(1 + np.exp(a)),
}


def problem(hidden: tuple[int, ...], activation: str = "tanh", likelihood: str = "bernoulli", **sizes: Any) -> Problem:
    arch = Architecture(6, 3, hidden, activation, likelihood, sigma=0.8)
    return make_problem(arch, **{"batch": 3, "samples": 2, **sizes})


# --- Architecture -----------------------------------------------------------------------------------------------


def test_names_and_shapes_in_buffer_order() -> None:
    shapes = Architecture(6, 3, (5, 4), likelihood="normal-diagonal").shapes()
    assert list(shapes.items()) == [
        ("encoder.hidden.0.weight", (6, 5)),
        ("encoder.hidden.0.bias", (5,)),
        ("encoder.hidden.1.weight", (5, 4)),
        ("encoder.hidden.1.bias", (4,)),
        ("encoder.mu.weight", (4, 3)),
        ("encoder.mu.bias", (3,)),
        ("encoder.logvar.weight", (4, 3)),
        ("encoder.logvar.bias", (3,)),
        ("decoder.hidden.0.weight", (3, 4)),
        ("decoder.hidden.0.bias", (4,)),
        ("decoder.hidden.1.weight", (4, 5)),
        ("decoder.hidden.1.bias", (5,)),
        ("decoder.out.weight", (5, 6)),
        ("decoder.out.bias", (6,)),
        ("likelihood.logvar", (6,)),
    ]


def test_only_a_learned_sigma_is_a_parameter() -> None:
    shapes = {name: Architecture(6, 3, (5,), likelihood=name).shapes().get("likelihood.logvar") for name in LIKELIHOODS}
    assert shapes == {
        "bernoulli": None, "bernoulli-grey": None, "normal": (1,), "normal-fixed": None, "normal-diagonal": (6,)
    }  # fmt: skip


def test_without_an_encoder_the_decoder_is_the_same() -> None:
    with_encoder = Architecture(6, 3, (5, 4), likelihood="normal")
    without = Architecture(6, 3, (5, 4), likelihood="normal", inference="local")
    kept = [name for name in with_encoder.shapes() if not name.startswith("encoder")]
    assert list(without.shapes()) == kept
    first, second = initialise(with_encoder, seed=1), initialise(without, seed=1)
    assert all(np.array_equal(first[name], second[name]) for name in kept)


def test_the_default_model_has_652824_parameters() -> None:
    parameters = Parameters(Architecture().shapes())
    assert parameters.count == 652_824
    assert sum(view.size for view in parameters.values()) == 652_824


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"features": 0}, "features: got 0"),
        ({"latent": -1}, "latent: got -1"),
        ({"latent": 2.0}, "latent: got 2.0"),
        ({"latent": True}, "latent: got True"),
        ({"hidden": (5, 0)}, "hidden: got 0"),
        ({"activation": "swish"}, "activation: got 'swish'"),
        ({"likelihood": "gaussian"}, "likelihood: got 'gaussian'"),
        ({"inference": "exact"}, "inference: got 'exact'"),
        ({"sigma": 0.0}, "sigma: got 0.0"),
        ({"sigma": math.nan}, "sigma: got nan"),
        ({"sigma": math.inf}, "sigma: got inf"),
    ],
)
def test_an_impossible_architecture_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        Architecture(**fields)
    assert str(caught.value).startswith(named)


# --- The parameter buffer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_tensor_is_an_aligned_view_of_one_buffer(dtype: str, hidden: tuple[int, ...]) -> None:
    parameters = Parameters(Architecture(7, 3, hidden, likelihood="normal").shapes(), dtype)
    flat = parameters.flat
    assert flat.flags.c_contiguous
    assert flat.dtype == dtype
    assert (flat.ctypes.data % 64, flat.nbytes % 64) == (0, 0)
    ends = flat.ctypes.data
    for name, view in parameters.items():
        assert view.shape == parameters.shapes[name]
        assert view.flags.c_contiguous
        assert np.shares_memory(view, flat)
        assert view.ctypes.data % 64 == 0
        assert ends <= view.ctypes.data < ends + 64
        ends = view.ctypes.data + view.nbytes
    assert len(parameters) == len(parameters.shapes)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_an_offset_is_where_a_tensor_begins_in_the_flat_buffer(dtype: str) -> None:
    parameters = Parameters({"a": (3, 5), "b": (2,), "c": (7, 1)}, dtype)
    parameters.flat[...] = np.arange(parameters.flat.size)
    for name, view in parameters.items():
        start = parameters.offset(name)
        assert np.array_equal(view.reshape(-1), np.arange(start, start + view.size))


def test_writing_a_view_writes_the_buffer_and_leaves_the_padding_zero() -> None:
    parameters = Parameters({"a": (3, 5), "b": (2,)}, "float64")
    assert parameters.flat.size == 16 + 8
    parameters["a"][...] = 1
    parameters["b"][1] = 2
    assert np.array_equal(parameters.flat, [*[1] * 15, 0, 0, 2, *[0] * 6])


def test_copies_have_the_layout_and_no_memory_in_common() -> None:
    parameters = problem((5,)).parameters
    zeros, single = parameters.zeros_like(), parameters.astype("float32")
    assert not zeros.flat.any()
    assert zeros.flat.shape == parameters.flat.shape
    assert single.flat.dtype == np.float32
    assert all(np.array_equal(single[name], parameters[name].astype(np.float32)) for name in parameters)
    assert not np.shares_memory(parameters.astype("float64").flat, parameters.flat)


# --- Values and gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_encoder_and_decoder_are_their_formulas(activation: str, hidden: tuple[int, ...]) -> None:
    p = problem(hidden, activation)
    w = p.parameters
    h: Any = p.x.astype(np.float64)
    for i in range(len(hidden)):
        h = ACTIVATIONS[activation](h @ w[f"encoder.hidden.{i}.weight"] + w[f"encoder.hidden.{i}.bias"])
    (mu, logvar), _ = encode_forward(ops, p.arch, w, p.x)
    assert error(mu, h @ w["encoder.mu.weight"] + w["encoder.mu.bias"]) < 1e-13
    assert error(logvar, h @ w["encoder.logvar.weight"] + w["encoder.logvar.bias"]) < 1e-13
    h = p.eps
    for i in range(len(hidden)):
        h = ACTIVATIONS[activation](h @ w[f"decoder.hidden.{i}.weight"] + w[f"decoder.hidden.{i}.bias"])
    out, _ = decode_forward(ops, p.arch, w, p.eps)
    assert error(out, h @ w["decoder.out.weight"] + w["decoder.out.bias"]) < 1e-13


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_loglik_is_scipys(likelihood: str) -> None:
    p = problem((), likelihood=likelihood)
    out = np.random.default_rng(3).normal(size=(6, 6))
    x = np.tile(p.x, (2, 1)).astype(np.float64)
    if p.arch.is_bernoulli:
        expected = x * stats.logistic.logcdf(out) + (1 - x) * stats.logistic.logsf(out)
    else:
        logvar = p.parameters.get("likelihood.logvar", np.array([2 * np.log(0.8)]))
        expected = stats.norm.logpdf(x, out, np.sqrt(np.exp(logvar)))
    loglik, _ = loglik_forward(ops, p.arch, p.parameters, p.x, out)
    assert error(loglik, expected.sum(axis=1)) < 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_encoder_gradients(activation: str, hidden: tuple[int, ...], rng: np.random.Generator) -> None:
    p = problem(hidden, activation, batch=1 if len(hidden) == 1 else 3)
    dmu, dlogvar = rng.normal(size=(len(p.x), 3)), rng.normal(size=(len(p.x), 3))

    def value(changes: dict[str, Any]) -> complex:
        (mu, logvar), _ = encode_forward(ops, p.arch, {**p.parameters, **changes}, p.x)
        return (dmu * mu).sum() + (dlogvar * logvar).sum()

    gradients = p.parameters.zeros_like()
    encode_backward(ops, dmu, dlogvar, encode_forward(ops, p.arch, p.parameters, p.x)[1], gradients)
    for name in (name for name in gradients if name.startswith("encoder")):
        check_gradient(lambda v, name=name: value({name: v}), p.parameters[name], gradients[name])
    assert not any(gradients[name].any() for name in gradients if not name.startswith("encoder"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_decoder_gradients(activation: str, hidden: tuple[int, ...], rng: np.random.Generator) -> None:
    p = problem(hidden, activation)
    dout = rng.normal(size=(6, 6))

    def value(z: Any, changes: dict[str, Any]) -> complex:
        return (dout * decode_forward(ops, p.arch, {**p.parameters, **changes}, z)[0]).sum()

    gradients = p.parameters.zeros_like()
    _, cache = decode_forward(ops, p.arch, p.parameters, p.eps)
    dz = decode_backward(ops, dout, cache, gradients)
    assert np.array_equal(decode_backward(ops, dout, cache, None), dz)
    check_gradient(lambda v: value(v, {}), p.eps, dz)
    for name in (name for name in gradients if name.startswith("decoder")):
        check_gradient(lambda v, name=name: value(p.eps, {name: v}), p.parameters[name], gradients[name])
    assert not any(gradients[name].any() for name in gradients if not name.startswith("decoder"))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_loglik_gradients(likelihood: str, rng: np.random.Generator) -> None:
    p = problem((), likelihood=likelihood)
    out, upstream = rng.normal(size=(6, 6)), rng.normal(size=6)

    def value(out: Any, changes: dict[str, Any]) -> complex:
        return (upstream * loglik_forward(ops, p.arch, {**p.parameters, **changes}, p.x, out)[0]).sum()

    gradients = p.parameters.zeros_like()
    _, cache = loglik_forward(ops, p.arch, p.parameters, p.x, out)
    dout = loglik_backward(ops, p.arch, upstream, cache, gradients)
    assert np.array_equal(loglik_backward(ops, p.arch, upstream, cache, None), dout)
    check_gradient(lambda v: value(v, {}), out, dout)
    if "likelihood.logvar" in gradients:
        logvar = p.parameters["likelihood.logvar"]
        check_gradient(lambda v: value(out, {"likelihood.logvar": v}), logvar, gradients["likelihood.logvar"])


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal-diagonal"])
def test_a_backward_writes_over_what_was_there(hidden: tuple[int, ...], likelihood: str) -> None:
    p = problem(hidden, likelihood=likelihood)
    results = []
    for leftover in (0.0, 1e9):
        gradients = p.parameters.zeros_like()
        for view in gradients.values():
            view[...] = leftover
        (mu, logvar), encoder_cache = encode_forward(ops, p.arch, p.parameters, p.x)
        out, decoder_cache = decode_forward(ops, p.arch, p.parameters, p.eps)
        loglik, loglik_cache = loglik_forward(ops, p.arch, p.parameters, p.x, out)
        dout = loglik_backward(ops, p.arch, np.ones_like(loglik), loglik_cache, gradients)
        decode_backward(ops, dout, decoder_cache, gradients)
        encode_backward(ops, mu, logvar, encoder_cache, gradients)
        results.append(gradients.flat)
    assert np.array_equal(*results)


@pytest.mark.parametrize("x_dtype", ["uint8", "bool", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_the_parameters_fix_the_precision(x_dtype: str, dtype: str, hidden: tuple[int, ...], likelihood: str) -> None:
    """Data in another precision, as files often are, must not turn a float32 run into a float64 one."""
    p = problem(hidden, likelihood=likelihood, dtype=dtype)
    x = (p.x > 0).astype(x_dtype)
    (mu, logvar), _ = encode_forward(ops, p.arch, p.parameters, x)
    out, _ = decode_forward(ops, p.arch, p.parameters, p.eps)
    loglik, _ = loglik_forward(ops, p.arch, p.parameters, x, out)
    assert {array.dtype for array in (mu, logvar, out, loglik)} == {np.dtype(dtype)}


def test_inputs_are_never_changed() -> None:
    p = problem((5, 4), "relu", "normal-diagonal")
    frozen = as_read_only({**p.parameters, "x": p.x, "z": p.eps})
    encode_forward(ops, p.arch, frozen, frozen["x"])
    out, _ = decode_forward(ops, p.arch, frozen, frozen["z"])
    loglik_forward(ops, p.arch, frozen, frozen["x"], out)
    assert all(np.array_equal(frozen[name], p.parameters[name]) for name in p.parameters)


# --- Initial values ---------------------------------------------------------------------------------------------


def test_uniform_start_fills_its_interval() -> None:
    parameters = initialise(Architecture(784, 20, (400,)), seed=3)
    for name, view in parameters.items():
        inputs = parameters[name.replace(".bias", ".weight")].shape[0]
        bound = 1 / math.sqrt(inputs)
        assert np.abs(view).max() <= bound * (1 + 1e-7)
        if view.size > 1000:
            assert np.abs(view).max() > 0.99 * bound
            assert abs(view.mean(dtype=np.float64)) < 4 * bound / math.sqrt(3 * view.size)
            assert stats.kstest(view.ravel()[:20_000], stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3


@pytest.mark.parametrize("likelihood", ["normal", "normal-diagonal"])
def test_a_learned_sigma_starts_where_it_was_told(likelihood: str) -> None:
    parameters = initialise(Architecture(6, 2, (4,), likelihood=likelihood, sigma=0.5), seed=0, dtype="float64")
    assert np.array_equal(parameters["likelihood.logvar"], np.full_like(parameters["likelihood.logvar"], np.log(0.25)))


def test_the_start_is_a_function_of_the_seed() -> None:
    arch = Architecture(9, 3, (7,))
    first, again, other = (initialise(arch, seed=seed).flat for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.isclose(first[first != 0], other[other != 0]).any()


def test_the_start_in_double_precision_rounds_to_the_one_in_single() -> None:
    arch = Architecture(9, 3, (7,))
    single, double = (initialise(arch, seed=1, dtype=dtype) for dtype in ("float32", "float64"))
    assert all(np.array_equal(single[name], double[name].astype(np.float32)) for name in single)


def test_a_tensor_does_not_depend_on_the_sizes_of_the_others() -> None:
    small = initialise(Architecture(9, 3, (7,)), seed=1, dtype="float64")
    latent = initialise(Architecture(9, 5, (7,)), seed=1, dtype="float64")
    features = initialise(Architecture(12, 3, (7,)), seed=1, dtype="float64")
    for other, same in [
        (latent, ["encoder.hidden.0.weight", "encoder.hidden.0.bias", "decoder.out.weight", "decoder.out.bias"]),
        (features, ["encoder.mu.weight", "encoder.logvar.weight", "decoder.hidden.0.weight", "decoder.hidden.0.bias"]),
    ]:
        assert all(np.array_equal(small[name], other[name]) for name in same)
    # And a tensor that grows keeps what it had, up to the bound: wider adds columns, taller adds rows.
    assert np.array_equal(latent["encoder.mu.weight"][:, :3], small["encoder.mu.weight"])
    grown = features["encoder.hidden.0.weight"][:9] * math.sqrt(12)
    assert error(grown, small["encoder.hidden.0.weight"] * math.sqrt(9)) < 1e-14


def test_no_two_tensors_start_alike() -> None:
    parameters = initialise(Architecture(8, 8, (8, 8)), seed=1)
    starts = [tuple(view.ravel()[:8]) for view in parameters.values()]
    assert len(set(starts)) == len(starts)


def test_the_start_comes_from_the_init_stream() -> None:
    weight = initialise(Architecture(4, 2, (3,)), seed=9, dtype="float64")["encoder.hidden.0.weight"]
    u = noise.uniform(np.arange(4), 3, seed=9, stream=noise.INIT, step=0)
    assert np.array_equal(weight, (2 * u.astype(np.float64) - 1) / 2)


def test_glorot_start() -> None:
    arch = Architecture(30, 5, (40,))
    mean = np.linspace(0, 1, 30)
    parameters = initialise(arch, seed=1, dtype="float64", scheme="glorot", mean=mean)
    for name, view in parameters.items():
        if name.endswith("weight"):
            bound = math.sqrt(6 / sum(view.shape))
            assert 0.9 * bound < np.abs(view).max() <= bound
        elif name != "decoder.out.bias":
            assert not view.any()
    clipped = np.clip(mean, 0.001, 0.999)
    assert error(1 / (1 + np.exp(-parameters["decoder.out.bias"])), clipped) < 1e-13


def test_glorot_start_of_the_output_is_zero_without_logits_or_a_mean() -> None:
    without = initialise(Architecture(6, 2, (4,)), seed=1, scheme="glorot")
    normal = initialise(Architecture(6, 2, (4,), likelihood="normal"), seed=1, scheme="glorot", mean=np.full(6, 0.3))
    assert not without["decoder.out.bias"].any()
    assert not normal["decoder.out.bias"].any()
