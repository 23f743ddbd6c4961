"""What each operation is tried on, and how exact it has to be: the same for every backend.

A case calls an operation of the contract and returns every array that came out, by name. The reference gets the same
numbers in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import ops as reference

Results = dict[str, Any]
Case = Callable[[ModuleType, Any], Results]

DEFAULT = {"float64": 1e-12, "float32": 1e-5}
# (operation, dtype): (tolerance, reason); everything else meets DEFAULT.
TOLERANCES: dict[tuple[str, str], tuple[float, str]] = {
    ("philox_normal", "float32"): (0.0, "the same bits are the contract"),
    ("philox_normal", "float64"): (0.0, "the same bits are the contract"),
    ("philox_bernoulli", "float32"): (0.0, "the same bits are the contract"),
    ("philox_bernoulli", "float64"): (0.0, "the same bits are the contract"),
}

# Odd ones, one row, widths around every vector and tile size, and a sum long enough for several panels.
SIZES = [(1, 1, 1), (1, 7, 5), (3, 16, 33), (12, 32, 16), (13, 31, 15), (40, 50, 70), (50, 300, 65), (97, 131, 129)]
SIZES += [(5, 1100, 3)]
ACTIVATIONS = ("identity", "relu", "tanh", "softplus")


def tolerance(operation: str, dtype: Any) -> float:
    """The largest error allowed."""
    name = np.dtype(dtype).name
    return TOLERANCES.get((operation, name), (DEFAULT[name], ""))[0]


def normals(seed: int, *shape: int, dtype: Any, scale: float = 1.0) -> Any:
    """Numbers that float32 holds, so that both precisions start from the same."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32).astype(dtype)


def binary(seed: int, *shape: int) -> Any:
    return (np.random.default_rng(seed).random(shape) < 0.2).astype(np.uint8)


def affine(batch: int, inputs: int, outputs: int, activation: str, is_binary: bool = False) -> Case:
    def case(ops: ModuleType, dtype: Any) -> Results:
        x = binary(1, batch, inputs) if is_binary else normals(1, batch, inputs, dtype=dtype)
        weight, bias = normals(2, inputs, outputs, dtype=dtype, scale=inputs**-0.5), normals(3, outputs, dtype=dtype)
        dy = normals(4, batch, outputs, dtype=dtype)
        if is_binary:
            y, cache = ops.binary_affine_act_forward(x, weight, bias, activation)
            dweight, dbias = ops.binary_affine_act_backward(dy, cache)
            return {"y": y, "dweight": dweight, "dbias": dbias}
        y, cache = ops.affine_act_forward(x, weight, bias, activation)
        dx, dweight, dbias = ops.affine_act_backward(dy, cache)
        none, again, _ = ops.affine_act_backward(dy, cache, input_gradient=False)
        assert none is None
        alone, *nothing = ops.affine_act_backward(dy, cache, weight_gradient=False)
        assert nothing == [None, None]
        return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias, "dweight again": again, "dx alone": alone}

    return case


def reparam(batch: int, latent: int, samples: int) -> Case:
    def case(ops: ModuleType, dtype: Any) -> Results:
        mu, logvar = normals(1, batch, latent, dtype=dtype), normals(2, batch, latent, dtype=dtype)
        eps = normals(3, samples * batch, latent, dtype=dtype)
        (z, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
        dz, dkl = normals(4, samples * batch, latent, dtype=dtype), normals(5, batch, dtype=dtype)
        dmu, dlogvar = ops.reparam_kl_backward((dz, dkl), cache)
        return {"z": z, "kl": kl, "dmu": dmu, "dlogvar": dlogvar}

    return case


def bernoulli(batch: int, features: int, samples: int, kind: str = "binary", scale: float = 3.0) -> Case:
    def case(ops: ModuleType, dtype: Any) -> Results:
        x = binary(1, batch, features)
        if kind == "grey":
            x = np.random.default_rng(1).random((batch, features)).astype(np.float32).astype(dtype)
        elif kind == "float":
            x = x.astype(dtype)
        logits = normals(2, samples * batch, features, dtype=dtype, scale=scale)
        loglik, cache = ops.bernoulli_loglik_forward(x, logits)
        dlogits = ops.bernoulli_loglik_backward(normals(3, samples * batch, dtype=dtype), cache)
        return {"loglik": loglik, "dlogits": dlogits}

    return case


def normal(batch: int, features: int, samples: int, shared: bool) -> Case:
    def case(ops: ModuleType, dtype: Any) -> Results:
        x, mean = normals(1, batch, features, dtype=dtype), normals(2, samples * batch, features, dtype=dtype)
        logvar = normals(3, 1 if shared else features, dtype=dtype)
        loglik, cache = ops.normal_loglik_forward(x, mean, logvar)
        dmean, dlogvar = ops.normal_loglik_backward(normals(4, samples * batch, dtype=dtype), cache)
        return {"loglik": loglik, "dmean": dmean, "dlogvar": dlogvar}

    return case


def weights(samples: int, batch: int, scale: float = 30.0) -> Case:
    def case(ops: ModuleType, dtype: Any) -> Results:
        log_w = normals(1, samples, batch, dtype=dtype, scale=scale) - 100
        log_mean, normalised = ops.log_mean_exp_weights(log_w)
        return {"log mean": log_mean, "weights": normalised}

    return case


def adam(count: int, steps: int = 3) -> Case:
    def case(ops: ModuleType, dtype: Any) -> Results:
        theta, m, v = normals(1, count, dtype=dtype), np.zeros(count, dtype), np.zeros(count, dtype)
        for step in range(1, steps + 1):
            gradient = normals(10 + step, count, dtype=dtype)
            gradient[::7] = 0
            ops.adam_update(theta, gradient, m, v, step=step, lr=1e-2)
        return {"theta": theta, "m": m, "v": v}

    return case


def philox(rows: int, columns: int) -> tuple[Case, Case]:
    where = {"seed": 2**40 + 3, "step": 5}

    def draw_normal(ops: ModuleType, dtype: Any) -> Results:
        row = np.random.default_rng(0).integers(0, 2**32, rows)
        one = ops.philox_normal(row, columns, stream=3, dtype=dtype, **where)
        many = ops.philox_normal(row, columns, stream=5, sample=np.arange(rows), dtype=dtype, **where)
        return {"one sample": one, "a sample a row": many}

    def draw_bernoulli(ops: ModuleType, dtype: Any) -> Results:
        rng = np.random.default_rng(0)
        grey = np.clip(rng.integers(-300, 400, (rows, columns)), 0, 255).astype(np.uint8)
        row = rng.integers(0, 2**32, rows)
        drawn = ops.philox_bernoulli(grey, stream=2, rows=row, **where)
        from_floats = ops.philox_bernoulli((grey / 255).astype(dtype), stream=2, rows=row, **where)
        return {"bytes": drawn, "floats": from_floats}

    return draw_normal, draw_bernoulli


def every() -> Iterator[tuple[str, str, Case]]:
    """(operation, name, case) of all cases; an operation's name is without _forward and _backward."""
    for size in SIZES:
        name = "x".join(map(str, size))
        for activation in ACTIVATIONS:
            yield "affine_act", f"{name} {activation}", affine(*size, activation)
            yield "binary_affine_act", f"{name} {activation}", affine(*size, activation, is_binary=True)
    for size in [(1, 1, 1), (3, 20, 1), (5, 7, 4), (33, 50, 2)]:
        yield "reparam_kl", "x".join(map(str, size)), reparam(*size)
    for size in [(1, 1, 1), (3, 17, 1), (5, 129, 3), (100, 784, 1)]:
        name = "x".join(map(str, size))
        for kind in ("binary", "float", "grey"):
            yield "bernoulli_loglik", f"{name} {kind}", bernoulli(*size, kind)
        yield "bernoulli_loglik", f"{name} saturated", bernoulli(*size, "binary", scale=60.0)
        yield "normal_loglik", f"{name} shared", normal(*size, shared=True)
        yield "normal_loglik", f"{name} diagonal", normal(*size, shared=False)
    for size in [(1, 1), (7, 5), (50, 130)]:
        yield "log_mean_exp_weights", "x".join(map(str, size)), weights(*size)
    for count in (1, 15, 1000, 40_003):
        yield "adam_update", str(count), adam(count)
    for size in [(1, 1), (5, 3), (9, 22), (64, 785)]:
        name = "x".join(map(str, size))
        draw_normal, draw_bernoulli = philox(*size)
        yield "philox_normal", name, draw_normal
        yield "philox_bernoulli", name, draw_bernoulli


def expected(case: Case) -> Results:
    """What the reference gives in float64."""
    return case(reference, np.float64)
