"""The whole model's gradient once more, by PyTorch's or JAX's automatic differentiation, written as their users would.

Only what autodiff sees is theirs: the same parameters, data and noise go in. [D29] [D30]
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from types import ModuleType
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.model import Architecture
from vae_np.verify.catalogue import example, model_loss

LIBRARIES = ("torch", "jax")
ARCHITECTURES = (
    Architecture(7, 2, (5, 4), "tanh", "bernoulli"),
    Architecture(12, 3, (8,), "relu", "bernoulli"),
    Architecture(6, 2, (5, 4, 3), "softplus", "normal-diagonal", 0.7),
)


def check_present(library: str) -> None:
    """Raise InputError if `library` is not one of LIBRARIES or not installed."""
    if library not in LIBRARIES:
        raise InputError(f"against: got {library!r}, expected one of {', '.join(LIBRARIES)}")
    if importlib.util.find_spec(library) is None:
        raise InputError(f"against: {library} is not installed; pip install '.[bench]' brings it")


def gradients(library: str, arch: Architecture, form: str, seed: int, beta: float) -> dict[str, Array]:
    """d loss / d parameter by automatic differentiation in float64, for the model of `catalogue.model_loss`."""
    return (_torch_gradients if library == "torch" else _jax_gradients)(arch, form, seed, beta)


def _torch_gradients(arch: Architecture, form: str, seed: int, beta: float) -> dict[str, Array]:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    scalar = model_loss(_reference(), arch, form, seed, beta)
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in scalar.point.items()}
    x, eps = (torch.tensor(np.asarray(a, dtype=np.float64)) for a in example(arch, seed))
    activation = {"tanh": torch.tanh, "relu": torch.relu, "softplus": functional.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        repeated = target.repeat(len(logits) // len(target), 1)
        return -functional.binary_cross_entropy_with_logits(logits, repeated, reduction="none").sum(-1)

    loss = _loss(torch, activation, log_bernoulli, tensors, arch, form, x, eps, beta)
    loss.backward()
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


def _jax_gradients(arch: Architecture, form: str, seed: int, beta: float) -> dict[str, Array]:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp: Any = importlib.import_module("jax.numpy")
    scalar = model_loss(_reference(), arch, form, seed, beta)
    x, eps = (jnp.asarray(np.asarray(a, dtype=np.float64)) for a in example(arch, seed))
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu, "softplus": jax.nn.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        repeated = jnp.tile(target, (len(logits) // len(target), 1))
        return (repeated * jax.nn.log_sigmoid(logits) + (1 - repeated) * jax.nn.log_sigmoid(-logits)).sum(-1)

    def loss(values: dict[str, Any]) -> Any:
        return _loss(jnp, activation, log_bernoulli, values, arch, form, x, eps, beta)

    found = jax.grad(loss)({name: jnp.asarray(value) for name, value in scalar.point.items()})
    return {name: np.asarray(value) for name, value in found.items()}


def _reference() -> ModuleType:
    return importlib.import_module("vae_np.ops")


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
    if arch.is_bernoulli:
        log_likelihood = log_bernoulli(x, out)
    else:
        learned = values.get("likelihood.logvar")
        log_sigma2 = 2 * math.log(arch.sigma) + 0 * out[:1] if learned is None else learned
        log_likelihood = log_normal(xp.concatenate([x] * samples), out, log_sigma2)
    if form == "joint":
        kl = log_normal(z, mu_s, logvar_s) - log_normal(z, 0 * z, 0 * z)
    else:
        kl = 0.5 * (mu_s**2 + xp.exp(logvar_s) - 1 - logvar_s).sum(-1)
    return -(log_likelihood - beta * kl).mean()
