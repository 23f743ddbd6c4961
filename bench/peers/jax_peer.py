"""The training step in JAX: jit over a scan of several steps, so that Python is called once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_np.model import Architecture, Parameters

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "softplus": jax.nn.softplus}


def _loss(arch: Architecture, p: dict[str, Any], x: Any, eps: Any) -> Any:
    def linear(h: Any, name: str) -> Any:
        return h @ p[f"{name}.weight"] + p[f"{name}.bias"]

    activation = ACTIVATIONS[arch.activation]
    h = x
    for i in range(len(arch.hidden)):
        h = activation(linear(h, f"encoder.hidden.{i}"))
    mu, logvar = linear(h, "encoder.mu"), linear(h, "encoder.logvar")
    h = mu + jnp.exp(0.5 * logvar) * eps
    for i in range(len(arch.hidden)):
        h = activation(linear(h, f"decoder.hidden.{i}"))
    logits = linear(h, "decoder.out")
    missed = jnp.sum(jax.nn.softplus(logits) - x * logits)
    return (missed - 0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar))) / len(x)


def loss(arch: Architecture, parameters: Parameters, x: Any, eps: Any) -> float:
    """The loss on given noise, to be compared with ours."""
    return float(_loss(arch, {n: jnp.asarray(v) for n, v in parameters.items()}, jnp.asarray(x, jnp.float32), eps))


def steps(
    arch: Architecture, parameters: Parameters, x: Any, *, count: int, grey: bool = False
) -> Callable[[], object]:
    """`count` training steps in one call, on x (B, D): binary, or with `grey` bytes that are drawn anew each step."""
    given = jnp.asarray(x.astype(np.float32) / (255 if grey else 1))

    def one(carry: Any, key: Any) -> tuple[Any, Any]:
        p, m, v, t = carry
        for_eps, for_x = jax.random.split(key)
        eps = jax.random.normal(for_eps, (len(given), arch.latent))
        seen = jax.random.bernoulli(for_x, given).astype(jnp.float32) if grey else given
        value, g = jax.value_and_grad(lambda q: _loss(arch, q, seen, eps))(p)
        t = t + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        size, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        p = jax.tree.map(lambda a, b, c: a - size * b / (jnp.sqrt(c) / root + 1e-8), p, m, v)
        return (p, m, v, t), value

    # The state is donated: its buffers are written again, not copied.
    run_all = jax.jit(lambda carry, keys: jax.lax.scan(one, carry, keys), donate_argnums=0)
    start = {n: jnp.asarray(v) for n, v in parameters.items()}
    zeros = [jax.tree.map(jnp.zeros_like, start) for _ in range(2)]
    state: list[Any] = [(start, *zeros, jnp.asarray(0.0)), jax.random.key(0)]

    def run() -> None:
        key, now = jax.random.split(state[1])
        carry, values = run_all(state[0], jax.random.split(now, count))
        values.block_until_ready()
        state[:] = carry, key

    return run
