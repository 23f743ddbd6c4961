"""Every operation of every backend against the float64 reference. Budget: about 3 s once compiled, 25 s before."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import cases
import numpy as np
import pytest

from vae_np import backends, distributions
from vae_np import ops as reference
from vae_np.errors import InputError
from vae_np.kernels import arguments
from vae_np.kernels.check import compare
from vae_np.layers import ACTIVATIONS

DTYPES = [np.float64, np.float32]
CASES = list(cases.every())
NAMES = [f"{operation} {name}" for operation, name, _ in CASES]


# The GPU's are tried where there is one, and counted as not executed elsewhere.
@pytest.fixture(
    scope="module",
    params=[*(["numba"] if backends.missing("numba") is None else []), pytest.param("cupy", marks=pytest.mark.gpu)],
)
def ops(request: pytest.FixtureRequest) -> ModuleType:
    return backends.choose(request.param).ops


@pytest.mark.parametrize("name", reference.__all__)
def test_signatures_are_those_of_the_contract(ops: ModuleType, name: str) -> None:
    theirs, ours = (inspect.signature(getattr(module, name)) for module in (reference, ops))
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


def test_every_operation_has_a_case() -> None:
    bare = {name.removesuffix("_forward").removesuffix("_backward") for name in reference.__all__}
    assert {operation for operation, _, _ in CASES} == bare


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(("operation", "name", "case"), CASES, ids=NAMES)
def test_operation_agrees_with_the_reference(
    ops: ModuleType, operation: str, name: str, case: cases.Case, dtype: Any
) -> None:
    expected = cases.expected(case)
    for what, result in case(ops, dtype).items():
        assert result.dtype in (np.dtype(dtype), np.uint8)
        compare(result, expected[what]).check(cases.tolerance(operation, dtype), f"{operation} {name}: {what}")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_strided_read_only_and_foreign_inputs_give_the_same_and_stay_unchanged(ops: ModuleType, dtype: Any) -> None:
    def worst(a: Any) -> Any:
        """The same numbers, every second one of a larger array in Fortran order, and locked."""
        wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype, order="F")
        view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
        view[...] = a
        view.flags.writeable = False
        return view

    x, weight, bias = (cases.normals(i, *s, dtype=dtype) for i, s in enumerate([(9, 21), (21, 18), (18,)]))
    dy, bits = cases.normals(4, 9, 18, dtype=dtype), cases.binary(5, 9, 21)
    mu, logvar, eps = (cases.normals(i, *s, dtype=dtype) for i, s in enumerate([(9, 6), (9, 6), (18, 6)], 6))
    row = cases.normals(9, 18, dtype=dtype)

    def run(wrap: Any) -> list[Any]:
        y, cache = ops.affine_act_forward(wrap(x), wrap(weight), wrap(bias), "tanh")
        found = [y, *ops.affine_act_backward(wrap(dy), cache)]
        y, cache = ops.binary_affine_act_forward(wrap(bits), wrap(weight), wrap(bias), "relu")
        found += [y, *ops.binary_affine_act_backward(wrap(dy), cache)]
        (z, kl), cache = ops.reparam_kl_forward(wrap(mu), wrap(logvar), wrap(eps))
        found += [z, kl, *ops.reparam_kl_backward((wrap(eps), wrap(kl)), cache)]
        loglik, cache = ops.bernoulli_loglik_forward(wrap(bits[:, :6]), wrap(eps))
        found += [loglik, ops.bernoulli_loglik_backward(wrap(row), cache)]
        loglik, cache = ops.normal_loglik_forward(wrap(mu), wrap(eps), wrap(logvar[0]))
        found += [loglik, *ops.normal_loglik_backward(wrap(row), cache)]
        found += list(ops.log_mean_exp_weights(wrap(eps)))
        return found

    inputs = (x, weight, bias, dy, bits, mu, logvar, eps, row)
    before = [a.copy() for a in inputs]
    plain, awkward = run(lambda a: a), run(worst)
    for a, b in zip(plain, awkward, strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(inputs, before, strict=True):
        assert np.array_equal(a, b)


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e4, -1e4, 1e30, -1e30, 1e-30, 88.0, -88.0, 104.0, 710.0, -745.0]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_values_go_through_activations_as_in_the_reference(
    ops: ModuleType, activation: str, dtype: Any
) -> None:
    x = np.array(SPECIAL, dtype=dtype)[:, None]
    one, zero = np.ones((1, 1), dtype), np.zeros(1, dtype)
    dy = np.ones_like(x)
    # The reference in the same precision: what overflows is a matter of precision.
    y, cache = ops.affine_act_forward(x, one, zero, activation)
    r, reference_cache = reference.affine_act_forward(x, one, zero, activation)
    found, want = ops.affine_act_backward(dy, cache), reference.affine_act_backward(dy, reference_cache)
    for i in range(len(x)):
        compare(y[i], r[i]).check(cases.DEFAULT[np.dtype(dtype).name], f"{activation} of {x[i]}")
        compare(found[0][i], want[0][i]).check(cases.DEFAULT[np.dtype(dtype).name], f"{activation}' at {x[i]}")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_values_go_through_the_other_operations_as_in_the_reference(ops: ModuleType, dtype: Any) -> None:
    tolerance = cases.DEFAULT[np.dtype(dtype).name]
    v = np.array(SPECIAL, dtype=dtype)[:, None]
    n, one = len(v), np.ones(len(SPECIAL), dtype)

    def each(module: ModuleType) -> dict[str, Any]:
        found = {}
        for bit in (0, 1):
            x = np.full((n, 1), bit, np.uint8)
            found[f"bernoulli {bit}"], cache = module.bernoulli_loglik_forward(x, v)
            found[f"dlogits {bit}"] = module.bernoulli_loglik_backward(one, cache)[:, 0]
        (found["z"], found["kl"]), cache = module.reparam_kl_forward(v, 0 * np.nan_to_num(v), np.ones_like(v))
        ones = np.ones_like(v)
        (found["z of logvar"], found["kl of logvar"]), cache = module.reparam_kl_forward(ones, v, ones)
        _, found["dlogvar"] = module.reparam_kl_backward((np.ones_like(v), one), cache)
        for i in range(n):
            # Beside another one, and beside itself: two weights of zero cannot be normalised.
            pair = np.array([[v[i, 0], v[i, 0]], [0.5, v[i, 0]]], dtype)
            mean, weights = module.log_mean_exp_weights(pair)
            found[f"log means {i}"], found[f"weights {i}"] = mean, weights
        return found

    found, want = each(ops), each(reference)
    for what, values in want.items():
        for i, value in enumerate(np.atleast_1d(values)):
            compare(np.atleast_1d(found[what])[i], value).check(tolerance, f"{what} [{i}] of {SPECIAL[i % n]}")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_adam_meets_zero_huge_and_strange_gradients_as_the_reference(ops: ModuleType, dtype: Any) -> None:
    gradient = np.array([0.0, 1e-30, -1e-12, 1.0, 1e15, -1e30, np.inf, -np.inf, np.nan] * 4, dtype)
    state = [np.zeros((3, gradient.size), dtype) for _ in range(2)]
    for module, (theta, m, v) in zip((ops, reference), state, strict=True):
        for step in (1, 2):
            module.adam_update(theta, gradient, m, v, step=step, lr=1e-3)
    for i in range(gradient.size):
        for which in range(3):
            # One unit in the last place of a square near the end of the range can be a denormal's whole size.
            compare(state[0][which, i], state[1][which, i]).check(1e-5, f"entry {which} for gradient {gradient[i]}")


def test_other_precisions_and_wrong_shapes_are_refused_by_name(ops: ModuleType) -> None:
    half = np.zeros((2, 2), np.float16)
    with pytest.raises(InputError, match="weight: got dtype float16, expected float32 or float64"):
        ops.affine_act_forward(half, half, half[0], "relu")
    with pytest.raises(InputError, match="logits: got dtype complex128"):
        ops.bernoulli_loglik_forward(half, np.zeros((2, 2), complex))
    with pytest.raises(InputError, match=r"x, weight, bias: got shapes \(2, 3\), \(2, 2\), \(2,\)"):
        ops.affine_act_forward(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros(2), "relu")
    with pytest.raises(InputError, match="activation: got 'gelu'"):
        ops.affine_act_forward(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2), "gelu")


def test_the_bernoulli_entropy_that_the_sum_should_reach(ops: ModuleType) -> None:
    # E_x log p(x|l) over both pixel values is minus the entropy: no reference kernel is involved.
    logits = np.linspace(-12, 12, 101)[None]
    one, _ = ops.bernoulli_loglik_forward(np.ones((1, 101), np.uint8), logits)
    p = 1 / (1 + np.exp(-logits[0]))
    assert one[0] == pytest.approx(np.log(p).sum(), rel=1e-12)
    assert distributions.bernoulli_entropy(logits)[0] == pytest.approx(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum())


def test_both_backends_know_every_activation_of_the_contract_by_one_number() -> None:
    assert set(arguments.ACTIVATIONS) == set(ACTIVATIONS)
    header = (Path(arguments.__file__).parent / "gpu" / "math.cuh").read_text()
    enum = re.search(r"enum \{(.*IDENTITY.*)\};", header)
    assert enum is not None
    numbers = {name.lower(): int(number) for name, number in re.findall(r"(\w+) = (\d+)", enum.group(1))}
    assert numbers == arguments.ACTIVATIONS
