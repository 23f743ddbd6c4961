"""Gradients in float32, float16 and bfloat16: right, wrong, right within what the dtype allows, or ill-conditioned.

Budget: about 4 s; fifty operations of torch in four dtypes are marked slow (about 2 minutes).
"""

from __future__ import annotations

import numpy as np
import pytest

from vae_np.gradcheck import check_vjp

rng = np.random.default_rng(0)


def affine_forward(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def inputs_in(dtype):
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((5, 4), (4, 3), (3,)))


def bfloat16():
    return pytest.importorskip("ml_dtypes").bfloat16


DTYPES = {"float32": lambda: np.float32, "float16": lambda: np.float16, "bfloat16": bfloat16}
# Planted errors that have to be seen.
ERROR = {"float64": 1.01, "float32": 1.01, "float16": 1.1, "bfloat16": 1.1}


@pytest.mark.parametrize("name", DTYPES)
def test_a_right_gradient_is_right_or_as_right_as_the_dtype_allows(name):
    report = check_vjp(affine_forward, affine_backward, inputs_in(DTYPES[name]()))
    assert report.passed, str(report)
    assert {row.precision for row in report.rows} <= {"right", f"right within what {name} allows"}
    assert all(row["precision"] for row in report.to_dict()["rows"])


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("tensor", [0, 1, 2])
def test_a_wrong_gradient_is_wrong_with_its_cause(name, tensor):
    def wrong(dout, cache):
        gradients = list(affine_backward(dout, cache))
        gradients[tensor] = gradients[tensor] * type(gradients[tensor].flat[0])(ERROR[name])
        return tuple(gradients)

    report = check_vjp(affine_forward, wrong, inputs_in(DTYPES[name]()))
    assert [row.verdict for row in report.rows].count("FAIL") == 1
    assert report.rows[tensor].verdict == "FAIL"
    assert report.rows[tensor].precision == "wrong"
    assert any("times the numeric gradient everywhere" in cause for cause in report.causes), str(report)


def test_values_are_compared_at_the_quantised_inputs():
    """x is rounded to float16 before anything else: the truth is the derivative there, and not at what was meant."""
    x = (np.array([0.1, 1.7, 3.3]) / 3).astype(np.float16)
    report = check_vjp(lambda x: (np.exp(x), x), lambda d, x: d * np.exp(x), x)
    assert report.passed
    assert report.rows[0].numeric == pytest.approx(report.rows[0].analytic, rel=2.0**-9)


def test_a_gradient_that_rounding_the_inputs_changes_is_ill_conditioned():
    """1 / (x - y) for x and y that differ in the last place only."""
    x = np.array([1000.0, 2000.0], np.float32)
    y = np.nextafter(x, np.float32(np.inf))

    def forward(x, y):
        return 1 / (x - y), (x, y)

    def backward(d, cache):
        x, y = cache
        return -d / (x - y) ** 2, d / (x - y) ** 2

    report = check_vjp(forward, backward, (x, y))
    assert not any(row.verdict == "FAIL" for row in report.rows)
    assert {row.precision for row in report.rows} == {"ill-conditioned here"}
    assert "ill-conditioned here: rounding the inputs to float32 changes it by" in str(report)


def test_a_mistake_in_low_precision_only_is_no_rounding():
    def backward(d, x):
        return 2 * x * d * (x.dtype.type(1.5) if x.dtype == np.float16 else 1)

    report = check_vjp(lambda x: (x * x, x), backward, np.array([0.5, 1.5, -2.0], np.float16))
    assert not report.passed
    assert "right in float64, and off by" in str(report)


@pytest.mark.parametrize("seed", [0, 100, 177, 196, 197, 202])  # with all but the first, noise once decided
def test_noise_does_not_decide_whose_gradient_is_whose(seed):
    """Of two gradients of one shape, the wrong one fails as that of its own tensor."""
    draw = np.random.default_rng(seed)
    inputs = tuple(draw.standard_normal((2, 2)).astype(np.float16) for _ in range(2))
    forward, backward = (lambda x, y: x + y), (lambda dout, x, y: (dout, np.float16(1.1) * dout))
    report = check_vjp(forward, backward, inputs, seed=seed, further=False)
    assert [row.verdict for row in report.rows] == ["ok", "FAIL"]


def operations(torch):
    """Return fifty operations with the shapes of their inputs; an input named positive is above a half."""
    f = torch.nn.functional
    m, v, sq, im = (4, 3), (5,), (3, 3), (2, 3, 6, 6)
    return {
        "add": (torch.add, m, m),
        "sub": (torch.sub, m, m),
        "mul": (torch.mul, m, m),
        "div": (torch.div, m, "positive", m),
        "pow": (lambda x, y: torch.pow(x, y), "positive", m, m),
        "square": (torch.square, m),
        "sqrt": (torch.sqrt, "positive", m),
        "rsqrt": (torch.rsqrt, "positive", m),
        "exp": (torch.exp, m),
        "expm1": (torch.expm1, m),
        "log": (torch.log, "positive", m),
        "log1p": (torch.log1p, "positive", m),
        "sin": (torch.sin, m),
        "cos": (torch.cos, m),
        "tan": (lambda x: torch.tan(x / 2), m),
        "tanh": (torch.tanh, m),
        "atan": (torch.atan, m),
        "sinh": (torch.sinh, m),
        "sigmoid": (torch.sigmoid, m),
        "erf": (torch.erf, m),
        "relu": (torch.relu, m),
        "leaky_relu": (f.leaky_relu, m),
        "elu": (f.elu, m),
        "selu": (f.selu, m),
        "gelu": (f.gelu, m),
        "silu": (f.silu, m),
        "mish": (f.mish, m),
        "softplus": (f.softplus, m),
        "hardtanh": (f.hardtanh, m),
        "softsign": (f.softsign, m),
        "softmax": (lambda x: torch.softmax(x, -1), m),
        "log_softmax": (lambda x: torch.log_softmax(x, -1), m),
        "logsumexp": (lambda x: torch.logsumexp(x, -1), m),
        "sum": (lambda x: x.sum(0), m),
        "mean": (lambda x: x.mean(1), m),
        "var": (lambda x: x.var(1), m),
        "norm": (lambda x: torch.linalg.vector_norm(x, dim=1), m),
        "prod": (lambda x: x.prod(1), m),
        "cumsum": (lambda x: x.cumsum(0), m),
        "max": (lambda x: x.amax(1), m),
        "matmul": (torch.matmul, m, (3, 2)),
        "linear": (f.linear, m, (2, 3), (2,)),
        "bmm": (torch.bmm, (2, 4, 3), (2, 3, 2)),
        "outer": (torch.outer, v, (3,)),
        "layer_norm": (lambda x, g, b: f.layer_norm(x, (3,), g, b), m, (3,), (3,)),
        "conv2d": (f.conv2d, im, (2, 3, 3, 3), (2,)),
        "avg_pool2d": (lambda x: f.avg_pool2d(x, 2), im),
        "max_pool2d": (lambda x: f.max_pool2d(x, 2), im),
        "mse_loss": (f.mse_loss, m, m),
        "kl_div": (lambda x, y: f.kl_div(torch.log_softmax(x, -1), torch.softmax(y, -1), reduction="sum"), sq, sq),
    }


def by_autograd(torch, function, factor: float = 1.0, tensor: int = -1):
    """Return forward and backward of a torch function; one tensor's gradient is multiplied by a factor."""

    def forward(*inputs):
        moved = [value.detach().clone().requires_grad_() for value in inputs]
        return function(*moved), moved

    def run(*inputs):
        with torch.enable_grad():
            out, moved = forward(*inputs)
        return out, (out, moved)

    def backward(dout, cache):
        out, moved = cache
        gradients = torch.autograd.grad(out, moved, dout, retain_graph=True)
        return tuple(g * factor if i == tensor else g for i, g in enumerate(gradients))

    return run, backward


def drawn(torch, spec, dtype, seed: int):
    numbers, positive, found = np.random.default_rng(seed), False, []
    for part in spec:
        if part == "positive":
            positive = True
            continue
        value = numbers.random(part) + 0.5 if positive else numbers.standard_normal(part)
        positive = False
        found.append(torch.tensor(value, dtype=dtype))
    return tuple(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_fifty_operations_of_torch(name):
    torch = pytest.importorskip("torch")
    dtype, alarms, missed, refused, planted = getattr(torch, name), [], [], [], 0
    known = operations(torch)
    assert len(known) == 50
    for number, (operation, (function, *spec)) in enumerate(known.items()):
        inputs = drawn(torch, spec, dtype, number)
        options = {"further": False, "seed": number}
        report = check_vjp(*by_autograd(torch, function), inputs, names=list("xyz"[: len(inputs)]), **options)
        if any(check.name == "call" for check in report.checks):
            refused.append(operation)
            continue
        if not report.passed:
            alarms.append(f"{operation}\n{report}")
        for tensor, row in enumerate(report.rows):
            if row.verdict != "ok" or row.blind or row.precision == "ill-conditioned here":
                continue
            planted += 1
            pair = by_autograd(torch, function, ERROR[name], tensor)
            wrong = check_vjp(*pair, inputs, names=list("xyz"[: len(inputs)]), **options)
            if wrong.rows[tensor].verdict != "FAIL":
                missed.append(f"{operation}, {row.tensor}\n{wrong}")
    print(f"{name}: {len(known) - len(refused)} operations, {planted} planted errors, refused: {refused}")
    assert not alarms, "\n".join(alarms)
    assert not missed, "\n".join(missed)
    assert len(refused) <= 3
