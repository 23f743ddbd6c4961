"""The default training as a JAX user would write it at its best, as a whole program.

784-400-20 on MNIST: Adam at batch 128, pixels drawn anew at every visit, the ELBO of 5,000 held-out images
after each epoch and of the test set at the end. Data stay on the device, an epoch is one call (jit over scan), and
compiled code is kept between runs. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
from jax_peer import adam, negative_elbo

from vae_np import data
from vae_np.architecture import Architecture
from vae_np.model import initialise

BATCH, HELD_OUT, EVAL_BATCH = 128, 5000, 1000
ARCH = Architecture(784, 20, (400,), "relu")


def _seen(key, grey):
    return jax.random.bernoulli(key, grey.astype(jnp.float32) / 255).astype(jnp.float32)


def _noise(key, rows):
    return jax.random.normal(key, (rows, ARCH.latent))


def _epoch(state, key, train):
    """All steps of an epoch; the state is parameters, both moments and the number of steps."""
    for_order, for_steps = jax.random.split(key)
    steps = len(train) // BATCH
    order = jax.random.permutation(for_order, len(train))[: steps * BATCH].reshape(steps, BATCH)

    def step(carry, given):
        p, m, v, t = carry
        rows, key = given
        for_x, for_eps = jax.random.split(key)
        x, eps = _seen(for_x, train[rows]), _noise(for_eps, BATCH)
        value, g = jax.value_and_grad(lambda q: negative_elbo(ARCH, q, x, eps).mean())(p)
        return (*adam(p, g, m, v, t + 1), t + 1), value

    return jax.lax.scan(step, state, (order, jax.random.split(for_steps, steps)))


def _elbo(p, key, images):
    """The mean ELBO of images that are drawn once, with one ε each."""
    parts = images.reshape(-1, EVAL_BATCH, images.shape[1])

    def part(given):
        grey, key = given
        for_x, for_eps = jax.random.split(key)
        return -negative_elbo(ARCH, p, _seen(for_x, grey), _noise(for_eps, EVAL_BATCH)).mean()

    return jax.lax.map(part, (parts, jax.random.split(key, len(parts)))).mean()


def main() -> None:
    """Train, validate, test; `sys.argv` has the number of epochs and the folder that keeps compiled code."""
    jax.config.update("jax_compilation_cache_dir", sys.argv[2])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    mnist = data.load("mnist")
    train, held_out, test = (
        jnp.asarray(part) for part in (mnist.train[:-HELD_OUT], mnist.train[-HELD_OUT:], mnist.test)
    )
    p = {name: jnp.array(value) for name, value in initialise(ARCH, seed=0).items()}
    state = (p, *(jax.tree.map(jnp.zeros_like, p) for _ in range(2)), jnp.asarray(0.0))
    epoch, elbo = jax.jit(_epoch, donate_argnums=0), jax.jit(_elbo)
    key, for_held_out, for_test = jax.random.split(jax.random.key(0), 3)
    history = []
    for number in range(int(sys.argv[1])):
        state, losses = epoch(state, jax.random.fold_in(key, number), train)
        history.append((-float(losses.mean()), float(elbo(state[0], for_held_out, held_out))))
    found = float(elbo(state[0], for_test, test))
    print(json.dumps({"test_elbo": found, "history": history}))


if __name__ == "__main__":
    main()
