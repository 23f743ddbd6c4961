"""The model in JAX: a step is jit over a scan of several, so that Python is called once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_np.architecture import Architecture
from vae_np.parameters import Parameters
from vae_np.step import TrainingState

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "softplus": jax.nn.softplus}
MODES = ("jax",)
EVAL_MODES = MODES
REDUCED_MODES = {"bf16": ("jax bf16",)}
# Samples of each image that are decoded at once in the evaluation.
_CHUNK = 500


def _mlp(arch: Architecture, p: dict[str, Any], part: str, h: Any) -> Any:
    for name in arch.hidden_layers(part):
        h = ACTIVATIONS[arch.activation](_linear(p, name, h))
    return h


def _linear(p: dict[str, Any], name: str, h: Any) -> Any:
    """Products take operands in the weights' dtype; all else keeps that of h."""
    weight = p[f"{name}.weight"]
    return (h.astype(weight.dtype) @ weight).astype(h.dtype) + p[f"{name}.bias"]


def _in_bfloat16(p: dict[str, Any]) -> dict[str, Any]:
    """The parameters with weights in bfloat16."""
    return {name: value.astype(jnp.bfloat16) if name.endswith(".weight") else value for name, value in p.items()}


def encode(arch: Architecture, p: dict[str, Any], x: Any) -> tuple[Any, Any]:
    """mu and logvar (B, K) of x (B, D)."""
    h = _mlp(arch, p, "encoder", x)
    return _linear(p, "encoder.mu", h), _linear(p, "encoder.logvar", h)


def loglik(arch: Architecture, p: dict[str, Any], x: Any, z: Any) -> Any:
    """log p(x|z), (B,), of z (B, K) and x that broadcasts with (B, D)."""
    out = _linear(p, "decoder.out", _mlp(arch, p, "decoder", z))
    if arch.is_bernoulli:
        # Not jax.nn.softplus, whose care for NaN costs a tenth of an evaluation.
        return jnp.sum(x * out - jnp.maximum(out, 0) - jnp.log1p(jnp.exp(-jnp.abs(out))), axis=-1)
    logvar = p["likelihood.logvar"]
    return -0.5 * jnp.sum((x - out) ** 2 * jnp.exp(-logvar) + logvar + math.log(2 * math.pi), axis=-1)


def _normal_above(arch: Architecture, p: dict[str, Any], part: str, h: Any) -> tuple[Any, Any]:
    """Mean and logvar of what lies on the other side of a network between two stochastic layers."""
    for index in range(len(arch.top_hidden or ())):
        h = ACTIVATIONS[arch.activation](_linear(p, f"{part}.hidden.{index}", h))
    return _linear(p, f"{part}.mu", h), _linear(p, f"{part}.logvar", h)


def log_weight(arch: Architecture, p: dict[str, Any], x: Any, mu: Any, logvar: Any, eps: Any) -> Any:
    """log p(x, z) − log q(z|x) at the noise eps (..., columns), of both z where there are two stochastic layers."""
    below, above = eps[..., : arch.latent], eps[..., arch.latent :]
    z = mu + jnp.exp(0.5 * logvar) * below
    log_w = loglik(arch, p, x, z) + 0.5 * jnp.sum(below**2 + logvar, axis=-1)
    if arch.top_latent is None:
        return log_w - 0.5 * jnp.sum(z**2, axis=-1)
    top_mu, top_logvar = _normal_above(arch, p, "top.encoder", z)
    top = top_mu + jnp.exp(0.5 * top_logvar) * above
    mean, spread = _normal_above(arch, p, "top.decoder", top)
    log_w += 0.5 * jnp.sum(above**2 + top_logvar - top**2, axis=-1)
    return log_w - 0.5 * jnp.sum((z - mean) ** 2 * jnp.exp(-spread) + spread, axis=-1)


def negative_elbo(arch: Architecture, p: dict[str, Any], x: Any, eps: Any) -> Any:
    """−ELBO, (B,), in nats, with the analytic KL where there is one."""
    mu, logvar = encode(arch, p, x)
    if arch.top_latent is not None:
        return -log_weight(arch, p, x, mu, logvar, eps)
    kl = -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar), axis=-1)
    return kl - loglik(arch, p, x, mu + jnp.exp(0.5 * logvar) * eps)


def negative_bound(arch: Architecture, p: dict[str, Any], x: Any, eps: Any) -> Any:
    """−IWAE's bound, (B,), in nats, of the samples eps (K, B, columns)."""
    log_w = log_weight(arch, p, x, *encode(arch, p, x), eps)
    return math.log(len(eps)) - jax.nn.logsumexp(log_w, axis=0)


def adam(p: Any, g: Any, m: Any, v: Any, t: Any) -> tuple[Any, Any, Any]:
    """Adam's step number t: parameters and both moments."""
    m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
    v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
    size, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
    return jax.tree.map(lambda a, b, c: a - size * b / (jnp.sqrt(c) / root + 1e-8), p, m, v), m, v


def loss(arch: Architecture, parameters: Parameters, x: Any, eps: Any, *, samples: int | None = None) -> float:
    """The loss on given noise, sample by sample, to be compared with ours."""
    p = {name: jnp.asarray(value) for name, value in parameters.items()}
    of = negative_elbo if samples is None else negative_bound
    return float(of(arch, p, jnp.asarray(x, jnp.float32), jnp.asarray(eps).reshape(_noise(arch, x, samples))).mean())


def _noise(arch: Architecture, x: Any, samples: int | None) -> tuple[int, ...]:
    return (len(x), arch.noise_columns) if samples is None else (samples, len(x), arch.noise_columns)


def training(
    mode: str, arch: Architecture, x: Any, *, count: int, grey: bool = False, samples: int | None = None
) -> tuple[Callable[[], object], int, Callable[[TrainingState], object], Callable[[], dict[str, Any]]]:
    """Training on the batches x (N, B, D) in turn: as they are given, or with `grey` bytes that are drawn when visited.

    It maximises the ELBO, or with `samples` IWAE's bound.

    Returns what to call, how many steps that is (`count`), what goes to a state and the first batch, and what gives the
    parameters as they are then.
    """
    given = jnp.asarray(x.astype(np.float32) / np.float32(255 if grey else 1))
    objective = negative_elbo if samples is None else negative_bound
    weights = _in_bfloat16 if mode in REDUCED_MODES["bf16"] else dict

    def run_all(carry: Any, keys: Any, batches: Any) -> Any:
        def one(carry: Any, key: Any) -> tuple[Any, Any]:
            p, m, v, t, at = carry
            for_eps, for_x = jax.random.split(key)
            seen = jax.lax.dynamic_index_in_dim(batches, at % len(batches), keepdims=False)
            seen = jax.random.bernoulli(for_x, seen).astype(jnp.float32) if grey else seen
            eps = jax.random.normal(for_eps, _noise(arch, seen, samples))
            value, g = jax.value_and_grad(lambda q: objective(arch, weights(q), seen, eps).mean())(p)
            return (*adam(p, g, m, v, t + 1), t + 1, at + 1), value

        return jax.lax.scan(one, carry, keys)

    # The state is donated: its buffers are written again, not copied.
    compiled = jax.jit(run_all, donate_argnums=0)
    state: list[Any] = []

    def begin(at: TrainingState) -> None:
        trees = [
            {name: jnp.array(value) for name, value in of.items()}
            for of in (at.parameters, at.first_moment, at.second_moment)
        ]
        state[:] = (*trees, jnp.array(at.step, jnp.float32), jnp.array(0)), jax.random.key(0)

    def run() -> None:
        key, now = jax.random.split(state[1])
        carry, values = compiled(state[0], jax.random.split(now, count), given)
        values.block_until_ready()
        state[:] = carry, key

    return run, count, begin, lambda: {name: np.asarray(value) for name, value in state[0][0].items()}


def log_likelihood(
    mode: str, arch: Architecture, parameters: Parameters, *, samples: int
) -> Callable[[Any], tuple[Any, Any]]:
    """What gives log p(x) and Σ w̃² of each x (B, D), (B,) both, by importance sampling with `samples` draws.

    jit over all images at once and a scan of chunks of samples, so that memory does not grow with these. With a map
    of the images outside, whatever the chunk, it took half as long again or more.
    """
    p = {name: jnp.asarray(value) for name, value in parameters.items()}
    chunk = min(_CHUNK, samples)
    if samples % chunk:
        raise ValueError(f"samples: got {samples}, expected a multiple of {chunk}")

    def one(x: Any, mu: Any, logvar: Any, key: Any) -> tuple[Any, Any]:
        def part(now: Any) -> Any:
            return log_weight(arch, p, x, mu, logvar, jax.random.normal(now, (chunk, arch.noise_columns)))

        log_w = jax.lax.map(part, jax.random.split(key, samples // chunk)).reshape(-1)
        whole = jax.nn.logsumexp(log_w)
        return whole - math.log(samples), jnp.sum(jnp.exp(2 * (log_w - whole)))

    @jax.jit
    def all_of(x: Any, key: Any) -> Any:
        x = x.astype(jnp.float32)
        return jax.vmap(one)(x, *encode(arch, p, x), jax.random.split(key, len(x)))

    state = [jax.random.key(0)]

    def run(x: Any) -> tuple[Any, Any]:
        state[0], now = jax.random.split(state[0])
        found, sum_squares = all_of(x, now)
        return np.asarray(found), np.asarray(sum_squares)

    return run
