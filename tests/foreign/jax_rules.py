from functools import partial

import jax
import jax.numpy as jnp


@jax.custom_vjp
def log1pexp(x):
    return jnp.where(x > 20, x, jnp.log1p(jnp.exp(jnp.minimum(x, 20))))


def log1pexp_fwd(x):
    return log1pexp(x), x


def log1pexp_bwd(x, g):
    return (g * jax.nn.sigmoid(x),)


log1pexp.defvjp(log1pexp_fwd, log1pexp_bwd)


@jax.custom_vjp
def safe_norm(x):
    """Euclidean norm of a vector with gradient zero at the origin."""
    return jnp.sqrt(jnp.sum(x * x))


def _safe_norm_fwd(x):
    n = safe_norm(x)
    return n, (x, n)


def _safe_norm_bwd(res, g):
    x, n = res
    return (g * jnp.where(n > 0, x / jnp.where(n > 0, n, 1.0), 0.0),)


safe_norm.defvjp(_safe_norm_fwd, _safe_norm_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def soft_clip(x, limit):
    return limit * jnp.tanh(x / limit)


def _soft_clip_fwd(x, limit):
    y = soft_clip(x, limit)
    return y, y


def _soft_clip_bwd(limit, y, g):
    return (g * (1 - y**2),)


soft_clip.defvjp(_soft_clip_fwd, _soft_clip_bwd)


@jax.custom_vjp
def fused_softmax_xent(logits, labels_onehot):
    return -jnp.sum(labels_onehot * jax.nn.log_softmax(logits), axis=-1).mean()


def _fsx_fwd(logits, labels_onehot):
    logp = jax.nn.log_softmax(logits)
    return -jnp.sum(labels_onehot * logp, axis=-1).mean(), (logp, labels_onehot)


def _fsx_bwd(res, g):
    logp, t = res
    n = logp.shape[0]
    return g * (jnp.exp(logp) - t) / n, -g * logp / n


fused_softmax_xent.defvjp(_fsx_fwd, _fsx_bwd)
