"""The whole model's gradient once more, by the automatic differentiation of PyTorch, JAX or HIPS autograd.

Each is written as its users would. Only what autodiff sees is theirs: the same parameters, data and noise go in.
[D29] [D30]
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.model import Architecture
from vae_np.verify.catalogue import example, model_loss

# Each library and the extra that brings it.
LIBRARIES = {"torch": "bench", "jax": "bench", "autograd": "dev"}
ARCHITECTURES = (
    Architecture(7, 2, (5, 4), "tanh", "bernoulli"),
    Architecture(12, 3, (8,), "relu", "bernoulli"),
    Architecture(6, 2, (5, 4, 3), "softplus", "normal-diagonal", 0.7),
)


def check_present(library: str) -> None:
    """Raise InputError if `library` is not one of LIBRARIES, not installed, or installed and broken."""
    if library not in LIBRARIES:
        raise InputError(f"against: got {library!r}, expected one of {', '.join(LIBRARIES)}")
    try:
        importlib.import_module(library)
    except ImportError as error:
        remedy = f"pip install '.[{LIBRARIES[library]}]' brings it"
        raise InputError(f"against: {library} cannot be imported ({error}); {remedy}") from None


def gradients(library: str, arch: Architecture, form: str, seed: int, beta: float) -> dict[str, Array]:
    """d loss / d parameter by automatic differentiation in float64, for the model of `catalogue.model_loss`."""
    point = model_loss(ops, arch, form, seed, beta).point
    x, eps = (np.asarray(a, dtype=np.float64) for a in example(arch, seed))
    by_library = {"torch": _torch_gradients, "jax": _jax_gradients, "autograd": _autograd_gradients}
    return by_library[library](arch, form, point, x, eps, beta)


def _torch_gradients(
    arch: Architecture, form: str, point: dict[str, Array], x: Array, eps: Array, beta: float
) -> dict[str, Array]:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in point.items()}
    activation = {"tanh": torch.tanh, "relu": torch.relu, "softplus": functional.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return -functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)

    data = torch.tensor(x), torch.tensor(eps)
    _loss(torch, activation, log_bernoulli, tensors, arch, form, *data, beta).backward()
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


def _jax_gradients(
    arch: Architecture, form: str, point: dict[str, Array], x: Array, eps: Array, beta: float
) -> dict[str, Array]:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp: Any = importlib.import_module("jax.numpy")
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu, "softplus": jax.nn.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return (target * jax.nn.log_sigmoid(logits) + (1 - target) * jax.nn.log_sigmoid(-logits)).sum(-1)

    def loss(values: dict[str, Any]) -> Any:
        return _loss(jnp, activation, log_bernoulli, values, arch, form, jnp.asarray(x), jnp.asarray(eps), beta)

    found = jax.grad(loss)({name: jnp.asarray(value) for name, value in point.items()})
    return {name: np.asarray(value) for name, value in found.items()}


def _autograd_gradients(
    arch: Architecture, form: str, point: dict[str, Array], x: Array, eps: Array, beta: float
) -> dict[str, Array]:
    autograd: Any = importlib.import_module("autograd")
    anp: Any = importlib.import_module("autograd.numpy")

    def softplus(a: Any) -> Any:
        return anp.logaddexp(0.0, a)

    activation = {"tanh": anp.tanh, "relu": lambda a: anp.maximum(a, 0.0), "softplus": softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return (target * logits - softplus(logits)).sum(-1)

    def loss(values: dict[str, Any]) -> Any:
        return _loss(anp, activation, log_bernoulli, values, arch, form, x, eps, beta)

    found: dict[str, Array] = autograd.grad(loss)(point)
    return found


def _loss(
    xp: Any,
    activation: Any,
    log_bernoulli: Any,
    values: Any,
    arch: Architecture,
    form: str,
    x: Any,
    eps: Any,
    beta: float,
) -> Any:
    """−mean ELBO in an array library `xp` that differentiates by itself, from the densities and nothing of ours."""

    def affine(h: Any, name: str) -> Any:
        return h @ values[f"{name}.weight"] + values[f"{name}.bias"]

    def hidden(h: Any, part: str) -> Any:
        for index in range(len(arch.hidden)):
            h = activation(affine(h, f"{part}.hidden.{index}"))
        return h

    def log_normal(value: Any, mean: Any, logvar: Any) -> Any:
        return -0.5 * (math.log(2 * math.pi) + logvar + (value - mean) ** 2 / xp.exp(logvar)).sum(-1)

    h = hidden(x, "encoder")
    mu, logvar = affine(h, "encoder.mu"), affine(h, "encoder.logvar")
    samples = len(eps) // len(x)
    mu_s, logvar_s = xp.concatenate([mu] * samples), xp.concatenate([logvar] * samples)
    z = mu_s + xp.sqrt(xp.exp(logvar_s)) * eps
    out = affine(hidden(z, "decoder"), "decoder.out")
    x_s = xp.concatenate([x] * samples)
    if arch.is_bernoulli:
        log_likelihood = log_bernoulli(x_s, out)
    else:
        learned = values.get("likelihood.logvar")
        log_sigma2 = 2 * math.log(arch.sigma) + 0 * out[:1] if learned is None else learned
        log_likelihood = log_normal(x_s, out, log_sigma2)
    if form == "joint":
        kl = log_normal(z, mu_s, logvar_s) - log_normal(z, 0 * z, 0 * z)
    else:
        kl = 0.5 * (mu_s**2 + xp.exp(logvar_s) - 1 - logvar_s).sum(-1)
    return -(log_likelihood - beta * kl).mean()
