"""The gradient of the whole model once more, by the automatic differentiation of PyTorch, JAX or HIPS autograd.

Each model is written as users of the library would write it. The two sides share what autodiff does not see: the
parameters, the data and the noise. [D29] [D30]
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.errors import InputError
from vae_np.model import encode_forward
from vae_np.verify.catalogue import PRIORS_AND_CONDITIONS, REFINED, RICH, TWO_LAYERS, example, loss_of, samples_of
from vae_np.verify.frozen import slope_by_complex_steps

# Each library and the extra that brings it.
LIBRARIES = {"torch": "bench", "jax": "bench", "autograd": "dev"}
ARCHITECTURES = (
    Architecture(7, 2, (5, 4), "tanh", "bernoulli"),
    Architecture(12, 3, (8,), "relu", "bernoulli"),
    Architecture(6, 2, (5, 4, 3), "softplus", "normal-diagonal", 0.7),
    *RICH,
    *REFINED,
    *TWO_LAYERS,
    *PRIORS_AND_CONDITIONS,
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
    slope = np.zeros_like(eps)
    if what in ("stl", "dreg") and arch.posterior != "diagonal":
        # Nobody has log q at a given z in closed form, for a flow; its slope there is a number to these objectives.
        slope = slope_by_complex_steps(arch, point, encode_forward(ops, arch, point, x)[0], eps)
    by_library = {"torch": _torch_gradients, "jax": _jax_gradients, "autograd": _autograd_gradients}
    return by_library[library](arch, what, point, (x, eps, slope), beta)


def _torch_gradients(
    arch: Architecture, what: str, point: dict[str, Array], data: tuple[Array, ...], beta: float
) -> dict[str, Array]:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in point.items()}
    activation = {"tanh": torch.tanh, "relu": torch.relu, "softplus": functional.softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return -functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)

    def differentiate(f: Any, *at: Any) -> Any:
        return torch.autograd.grad(f(*at), at, create_graph=True)

    tools = torch, torch.Tensor.detach, differentiate, activation, log_bernoulli
    _loss(*tools, tensors, arch, what, [torch.tensor(part) for part in data], beta).backward()
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


def _jax_gradients(
    arch: Architecture, what: str, point: dict[str, Array], data: tuple[Array, ...], beta: float
) -> dict[str, Array]:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp: Any = importlib.import_module("jax.numpy")
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu, "softplus": jax.nn.softplus}[arch.activation]

    def differentiate(f: Any, *at: Any) -> Any:
        return jax.grad(f, argnums=tuple(range(len(at))))(*at)

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return (target * jax.nn.log_sigmoid(logits) + (1 - target) * jax.nn.log_sigmoid(-logits)).sum(-1)

    def loss(values: dict[str, Any]) -> Any:
        tools = jnp, jax.lax.stop_gradient, differentiate, activation, log_bernoulli
        return _loss(*tools, values, arch, what, [jnp.asarray(part) for part in data], beta)

    found = jax.grad(loss)({name: jnp.asarray(value) for name, value in point.items()})
    return {name: np.asarray(value) for name, value in found.items()}


def _autograd_gradients(
    arch: Architecture, what: str, point: dict[str, Array], data: tuple[Array, ...], beta: float
) -> dict[str, Array]:
    autograd: Any = importlib.import_module("autograd")
    anp: Any = importlib.import_module("autograd.numpy")
    getval: Any = importlib.import_module("autograd.tracer").getval

    def softplus(a: Any) -> Any:
        return anp.logaddexp(0.0, a)

    activation = {"tanh": anp.tanh, "relu": lambda a: anp.maximum(a, 0.0), "softplus": softplus}[arch.activation]

    def log_bernoulli(target: Any, logits: Any) -> Any:
        return (target * logits - softplus(logits)).sum(-1)

    def differentiate(f: Any, *at: Any) -> Any:
        return autograd.grad(f, argnum=tuple(range(len(at))))(*at)

    def loss(values: dict[str, Any]) -> Any:
        return _loss(anp, getval, differentiate, activation, log_bernoulli, values, arch, what, data, beta)

    found: dict[str, Array] = autograd.grad(loss)(point)
    return found


def _loss(
    xp: Any,
    constant: Any,
    differentiate: Any,
    activation: Any,
    log_bernoulli: Any,
    values: Any,
    arch: Architecture,
    what: str,
    data: Sequence[Any],
    beta: float,
) -> Any:
    """−mean of an objective in an array library `xp` that differentiates by itself, from the densities and nothing of
    ours; `constant` is what the library has to keep a value from being differentiated, and `differentiate` returns the
    gradients of a scalar function at some arrays so that they can be differentiated once more.

    `data` are x, ε and the slope (S·B, K), ∂ log q/∂z at the draws of a family, which stl and dreg take for a number.
    """
    x, eps, slope = data

    def affine(h: Any, name: str) -> Any:
        return h @ values[f"{name}.weight"] + values[f"{name}.bias"]

    def hidden(h: Any, part: str) -> Any:
        for name in arch.hidden_layers(part):
            h = activation(affine(h, name))
        return h

    def log_normal(value: Any, mean: Any, logvar: Any) -> Any:
        return -0.5 * (math.log(2 * math.pi) + logvar + (value - mean) ** 2 / xp.exp(logvar)).sum(-1)

    def log_likelihood(z: Any) -> Any:
        if arch.conditions:
            z = xp.concatenate([z, xp.concatenate([given] * (len(z) // len(x)))], 1)
        out = affine(hidden(z, "decoder"), "decoder.out")
        if arch.is_bernoulli:
            return log_bernoulli(x_s, out)
        learned = values.get("likelihood.logvar")
        return log_normal(x_s, out, arch.sigma_logvar + 0 * out[:1] if learned is None else learned)

    def log_prior(z: Any) -> Any:
        if arch.prior == "standard":
            return log_normal(z, 0 * z, 0 * z)
        if arch.prior == "vamp":
            inputs = values["prior.pseudo_inputs"]
            h = hidden(xp.clip(inputs, 0, 1) if arch.is_bernoulli else inputs, "encoder")
            means, logvars = affine(h, "encoder.mu"), affine(h, "encoder.logvar")
            weights = [1 / len(inputs)] * len(inputs)
        else:
            means, logvars = values["prior.means"], values["prior.logvars"]
            weights = xp.exp(values["prior.logits"]) / xp.exp(values["prior.logits"]).sum()
        return xp.log(sum(w * xp.exp(log_normal(z, m, v)) for w, m, v in zip(weights, means, logvars, strict=True)))

    h = hidden(x, "encoder")
    if what == "refined":
        samples = len(eps) // ((1 + arch.refine_steps) * len(x))
        x_s = xp.concatenate([x] * samples)
        rate = arch.refine_rate or 0
        of_bound, *of_steps = eps.reshape(1 + arch.refine_steps, -1, arch.latent)

        def mean_loss(mu: Any, logvar: Any, noise: Any) -> Any:
            z = xp.concatenate([mu] * samples) + xp.concatenate([xp.exp(logvar / 2)] * samples) * noise
            kl = 0.5 * (mu**2 + xp.exp(logvar) - 1 - logvar).sum(-1)
            return -(log_likelihood(z).mean() - beta * kl.mean())

        mu, logvar = affine(h, "encoder.mu"), affine(h, "encoder.logvar")
        for noise in of_steps:

            def of_examples(mu: Any, logvar: Any, noise: Any = noise) -> Any:
                return len(x) * mean_loss(mu, logvar, noise)

            dmu, dlogvar = differentiate(of_examples, mu, logvar)
            mu, logvar = (
                mu - rate * xp.exp(logvar) * dmu,
                logvar - 2 * rate * dlogvar,
            )
        return mean_loss(mu, logvar, of_bound)
    x, given = x[:, : arch.features], x[:, arch.features :]
    if arch.posterior != "diagonal":
        samples = len(eps) // len(x)
        heads = [affine(h, f"encoder.{name}") for name in ("mu", "logvar", *arch.family.heads())]
        heads_s, x_s = [xp.concatenate([a] * samples) for a in heads], xp.concatenate([x] * samples)
        z, log_q = _drawn(xp, activation, values, arch, heads_s, eps)
        loglik, log_p = log_likelihood(z), log_prior(z)
        if what == "analytic":
            mu, logvar, below = heads
            kl = 0.5 * ((mu**2 + xp.exp(logvar) - 1 - logvar).sum(-1) + (below**2).sum(-1))
            return -(loglik.mean() - beta * kl.mean())
        w = (loglik + beta * (log_p - log_q)).reshape(samples, -1)
        if what in ("stl", "dreg"):
            weights = constant(xp.exp(w) / xp.exp(w).sum(0))
            z = _scaled(constant, z, weights, beta) if what == "dreg" else z
            of_q = (slope * (z - constant(z))).sum(-1)
            w = log_likelihood(z) + beta * (log_normal(z, 0 * z, 0 * z) - of_q)
            return -(weights * w.reshape(samples, -1)).sum(0).mean()
        return -w.mean() if what == "joint" else -(xp.log(xp.exp(w).mean(0))).mean()
    mu, logvar = affine(h, "encoder.mu"), affine(h, "encoder.logvar")
    samples = len(eps) // len(x)
    mu_s, logvar_s, x_s = (xp.concatenate([a] * samples) for a in (mu, logvar, x))
    if arch.top_latent is not None:
        below, above = eps[:, : arch.latent], eps[:, arch.latent :]

        def normal_of(h: Any, part: str) -> tuple[Any, Any]:
            for index in range(len(arch.top_hidden or ())):
                h = activation(affine(h, f"{part}.hidden.{index}"))
            return affine(h, f"{part}.mu"), affine(h, f"{part}.logvar")

        z = mu_s + xp.sqrt(xp.exp(logvar_s)) * below
        top_mu, top_logvar = normal_of(z, "top.encoder")
        top = top_mu + xp.sqrt(xp.exp(top_logvar)) * above
        log_p = log_normal(top, 0 * top, 0 * top) + log_normal(z, *normal_of(top, "top.decoder"))
        log_q = log_normal(z, mu_s, logvar_s) + log_normal(top, top_mu, top_logvar)
        w = (log_likelihood(z) + beta * (log_p - log_q)).reshape(samples, -1)
        return -w.mean() if what == "joint" else -(xp.log(xp.exp(w).mean(0))).mean()
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
        log_ratio = log_prior(z) - log_normal(z, mean, logvar)
        return (log_likelihood(z) + beta * log_ratio).reshape(samples, -1)

    w = log_w(z, mu_s, logvar_s)
    if what == "joint":
        return -w.mean()
    if what == "iwae":
        return -(xp.log(xp.exp(w).mean(0))).mean()
    weights = constant(xp.exp(w) / xp.exp(w).sum(0))
    if what == "dreg":
        z = _scaled(constant, z, weights, beta)
    return -(weights * log_w(z, constant(mu_s), constant(logvar_s))).sum(0).mean()


def _scaled(constant: Any, z: Any, weights: Any, beta: float) -> Any:
    """z itself, but what comes back through it is scaled for dreg: the decoder has Σ w̃ ∂ log w all the same. [D44]"""
    return constant(z) + (1 - beta + beta * weights).reshape(-1, 1) * (z - constant(z))


def _drawn(xp: Any, activation: Any, values: Any, arch: Architecture, heads: list[Any], eps: Any) -> tuple[Any, Any]:
    """z and log q(z|x), (S·B, K) and (S·B,), of a family beside the diagonal one, a latent at a time and without masks.

    A unit of an autoregressive step is the sum over those inputs that it may see. [D53] [D55] [D56]
    """
    k = arch.latent
    mu, logvar, more = heads
    log_q = -0.5 * (eps**2 + logvar + math.log(2 * math.pi)).sum(-1)
    sigma = xp.exp(logvar / 2)

    def columns(parts: list[Any]) -> Any:
        return xp.stack(parts).T

    if arch.posterior == "full":
        place = iter(range(k * k))
        rows = [[more[:, next(place)] for _ in range(i)] for i in range(k)]
        below = [sum(entry * eps[:, j] for j, entry in enumerate(row)) for row in rows]
        return columns([mu[:, i] + sigma[:, i] * eps[:, i] + below[i] for i in range(k)]), log_q
    z = mu + sigma * eps
    for step in range(arch.flow_steps or 0):
        if arch.posterior == "planar":
            part = more[:, step * (2 * k + 1) : (step + 1) * (2 * k + 1)]
            u, w, b = part[:, :k], part[:, k : 2 * k] + k**-0.5, part[:, 2 * k]
            dot = (u * w).sum(-1)
            m = xp.log(1 + (math.e - 1) * xp.exp(dot)) - 1
            moved = u + ((m - dot) / (w * w).sum(-1))[:, None] * w
            t = xp.tanh((w * z).sum(-1) + b)
            log_q = log_q - xp.log(abs(1 + ((1 - t**2)[:, None] * w * moved).sum(-1)))
            z = z + moved * t[:, None]
            continue
        name = f"encoder.flow.{step}"
        weight, bias = values[f"{name}.hidden.weight"], values[f"{name}.hidden.bias"]
        order = list(range(k)) if step % 2 == 0 else list(range(k))[::-1]
        units = []
        for unit in range(arch.flow_hidden or 0):
            seen = [j for j in range(k) if order[j] < unit % k]
            total = bias[unit] + (more * weight[k:, unit]).sum(-1)
            units.append(activation(total + sum(z[:, j] * weight[j, unit] for j in seen)))
        ends = {}
        for end in ("shift", "log_scale"):
            weight, bias = values[f"{name}.{end}.weight"], values[f"{name}.{end}.bias"]
            ends[end] = columns(
                [
                    bias[j] + sum(h * weight[unit, j] for unit, h in enumerate(units) if unit % k <= order[j])
                    for j in range(k)
                ]
            )
        z = xp.exp(ends["log_scale"]) * z + ends["shift"]
        log_q = log_q - ends["log_scale"].sum(-1)
    return z, log_q
