"""The gradient of the whole model once more, by the automatic differentiation of PyTorch, JAX or HIPS autograd.

Each model is written as users of the library would write it. The two sides share what autodiff does not see: the
parameters, the data and the noise. [D29] [D30]
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
from vae_np.verify.catalogue import example, loss_of, samples_of

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


def gradients(library: str, arch: Architecture, what: str, seed: int, beta: float) -> dict[str, Array]:
    """d loss / d parameter by automatic differentiation in float64, for the model of `catalogue.loss_of`."""
    point = loss_of(ops, arch, what, seed, beta).point
    x, eps = (np.asarray(a, dtype=np.float64) for a in example(arch, seed, samples_of(what)))
    by_library = {"torch": _torch_gradients, "jax": _jax_gradients, "autograd": _autograd_gradients}
    return by_library[library](arch, what, point, x, eps, beta)


def _torch_gradients(
    arch: Architecture, what: str, point: dict[str, Array], x: Array, eps: Array, beta: float
) -> dict[str, Array]:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in point.items()}
    activation = {"tanh": torch.tanh, "relu": torch.relu, "softplus": functional.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return -functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)

    data = torch.tensor(x), torch.tensor(eps)
    tools = torch, torch.Tensor.detach, activation, log_bernoulli
    _loss(*tools, tensors, arch, what, *data, beta).backward()
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


def _jax_gradients(
    arch: Architecture, what: str, point: dict[str, Array], x: Array, eps: Array, beta: float
) -> dict[str, Array]:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp: Any = importlib.import_module("jax.numpy")
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu, "softplus": jax.nn.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return (target * jax.nn.log_sigmoid(logits) + (1 - target) * jax.nn.log_sigmoid(-logits)).sum(-1)

    def loss(values: dict[str, Any]) -> Any:
        tools = jnp, jax.lax.stop_gradient, activation, log_bernoulli
        return _loss(*tools, values, arch, what, jnp.asarray(x), jnp.asarray(eps), beta)

    found = jax.grad(loss)({name: jnp.asarray(value) for name, value in point.items()})
    return {name: np.asarray(value) for name, value in found.items()}


def _autograd_gradients(
    arch: Architecture, what: str, point: dict[str, Array], x: Array, eps: Array, beta: float
) -> dict[str, Array]:
    autograd: Any = importlib.import_module("autograd")
    anp: Any = importlib.import_module("autograd.numpy")
    getval: Any = importlib.import_module("autograd.tracer").getval

    def softplus(a: Any) -> Any:
        return anp.logaddexp(0.0, a)

    activation = {"tanh": anp.tanh, "relu": lambda a: anp.maximum(a, 0.0), "softplus": softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return (target * logits - softplus(logits)).sum(-1)

    def loss(values: dict[str, Any]) -> Any:
        return _loss(anp, getval, activation, log_bernoulli, values, arch, what, x, eps, beta)

    found: dict[str, Array] = autograd.grad(loss)(point)
    return found


def _loss(
    xp: Any,
    constant: Any,
    activation: Any,
    log_bernoulli: Any,
    values: Any,
    arch: Architecture,
    what: str,
    x: Any,
    eps: Any,
    beta: float,
) -> Any:
    """−mean of an objective in an array library `xp` that differentiates by itself, from the densities and nothing of
    ours; `constant` is what the library has to keep a value from being differentiated.
    """

    def affine(h: Any, name: str) -> Any:
        return h @ values[f"{name}.weight"] + values[f"{name}.bias"]

    def hidden(h: Any, part: str) -> Any:
        for name in arch.hidden_layers(part):
            h = activation(affine(h, name))
        return h

    def log_normal(value: Any, mean: Any, logvar: Any) -> Any:
        return -0.5 * (math.log(2 * math.pi) + logvar + (value - mean) ** 2 / xp.exp(logvar)).sum(-1)

    def log_likelihood(z: Any) -> Any:
        out = affine(hidden(z, "decoder"), "decoder.out")
        if arch.is_bernoulli:
            return log_bernoulli(x_s, out)
        learned = values.get("likelihood.logvar")
        return log_normal(x_s, out, arch.sigma_logvar + 0 * out[:1] if learned is None else learned)

    h = hidden(x, "encoder")
    mu, logvar = affine(h, "encoder.mu"), affine(h, "encoder.logvar")
    samples = len(eps) // len(x)
    mu_s, logvar_s, x_s = (xp.concatenate([a] * samples) for a in (mu, logvar, x))
    z = mu_s + xp.sqrt(xp.exp(logvar_s)) * eps
    kl = 0.5 * (mu_s**2 + xp.exp(logvar_s) - 1 - logvar_s).sum(-1)
    if what == "analytic":
        return -(log_likelihood(z) - beta * kl).mean()
    if what == "score":
        z = constant(z)
        f = log_likelihood(z).reshape(samples, -1)
        others = (f.sum(0) - f) / (samples - 1)
        log_q = log_normal(z, mu_s, logvar_s).reshape(samples, -1)
        return -(f + constant(f - others) * log_q).mean() + beta * kl.mean()

    def log_w(z: Any, mean: Any, logvar: Any) -> Any:
        log_ratio = log_normal(z, 0 * z, 0 * z) - log_normal(z, mean, logvar)
        return (log_likelihood(z) + beta * log_ratio).reshape(samples, -1)

    w = log_w(z, mu_s, logvar_s)
    if what == "joint":
        return -w.mean()
    if what == "iwae":
        return -(xp.log(xp.exp(w).mean(0))).mean()
    weights = constant(xp.exp(w) / xp.exp(w).sum(0))
    if what == "dreg":
        # z itself, but what comes back through it is scaled: the decoder below has Σ w̃ ∂ log w all the same.
        factor = (1 - beta + beta * weights).reshape(-1, 1)
        z = constant(z) + factor * (z - constant(z))
    return -(weights * log_w(z, constant(mu_s), constant(logvar_s))).sum(0).mean()
