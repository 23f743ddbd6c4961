"""Mistakes that people make in hand-written gradients, one to a pair, and what `vae-np verify` makes of them.

Every forward here is right and every backward is wrong; the comment above each says how. A test asserts that the
checker fails each pair and names its mistake.
"""

import numpy as np

_fresh = np.random.default_rng(7)


def _affine(x, W, b):
    return x @ W + b, (x, W)


def _affine_inputs(rng, rows=5, columns=4, outputs=3):
    return rng.standard_normal((rows, columns)), rng.standard_normal((columns, outputs)), rng.standard_normal(outputs)


def _kl(mu, logvar):
    return 0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1), (mu, logvar)


def _pair_of_matrices(rng):
    return rng.standard_normal((4, 3)), rng.standard_normal((4, 3))


# 1. The sign: the gradient of the loss where that of the log-likelihood is due.
def sign_forward(logits, x):
    return np.sum(x * logits - np.log1p(np.exp(logits)), axis=1), (logits, x)


def sign_backward(dlogp, cache):
    logits, x = cache
    return dlogp[:, None] * (1 / (1 + np.exp(-logits)) - x), None


sign_wrt = "logits"


def sign_example(rng):
    return rng.standard_normal((4, 6)), (rng.random((4, 6)) < 0.5).astype(float)


# 2. A constant factor: 1/4 where 1/2 is due in the KL's gradient with respect to logvar.
def quarter_for_half_forward(mu, logvar):
    return _kl(mu, logvar)


def quarter_for_half_backward(dkl, cache):
    mu, logvar = cache
    return dkl[:, None] * mu, dkl[:, None] * 0.25 * (np.exp(logvar) - 1)


def quarter_for_half_example(rng):
    return _pair_of_matrices(rng)


# 3. The bias gradient is not summed over the batch: its shape gives it away.
def no_batch_sum_forward(x, W, b):
    return _affine(x, W, b)


def no_batch_sum_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout


def no_batch_sum_example(rng):
    return _affine_inputs(rng)


# 4. The same with the right shape: only the last row of the batch contributes.
def last_row_only_forward(x, W, b):
    return _affine(x, W, b)


def last_row_only_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout[-1]


def last_row_only_example(rng):
    return _affine_inputs(rng)


# 5. A mean over the batch where the sum is due.
def mean_for_sum_forward(x, W, b):
    return _affine(x, W, b)


def mean_for_sum_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout / len(x), dout.sum(axis=0)


def mean_for_sum_example(rng):
    return _affine_inputs(rng)


# 6. A square weight's gradient, transposed.
def transposed_forward(x, W, b):
    return _affine(x, W, b)


def transposed_backward(dout, cache):
    x, W = cache
    return dout @ W.T, dout.T @ x, dout.sum(axis=0)


def transposed_example(rng):
    return _affine_inputs(rng, columns=3)


# 7. Backward draws new noise instead of using that of forward.
def fresh_noise_forward(mu, logvar, eps):
    return mu + np.exp(0.5 * logvar) * eps, logvar


def fresh_noise_backward(dz, logvar):
    eps = _fresh.standard_normal(dz.shape)
    return dz, 0.5 * dz * np.exp(0.5 * logvar) * eps


fresh_noise_wrt = ("mu", "logvar")


def fresh_noise_example(rng):
    return tuple(rng.standard_normal((4, 2)) for _ in range(3))


# 8. The upstream gradient is ignored, as if this were always the last step.
def ignores_upstream_forward(x):
    return np.tanh(x), np.tanh(x)


def ignores_upstream_backward(dout, out):
    return 1 - out**2


def ignores_upstream_example(rng):
    return (rng.standard_normal((4, 3)),)


# 9. The input is overwritten: right here, wrong for whoever needs x later.
def in_place_forward(x):
    return np.where(x > 0, x, 0.0), x


def in_place_backward(dout, x):
    x[x <= 0] = 0.0
    x[x > 0] = 1.0
    return dout * x


def in_place_example(rng):
    return (rng.standard_normal((4, 3)),)


# 10. The gradient comes back in single precision.
def wrong_dtype_forward(x):
    return np.tanh(x), np.tanh(x)


def wrong_dtype_backward(dout, out):
    return (dout * (1 - out**2)).astype(np.float32)


def wrong_dtype_example(rng):
    return (rng.standard_normal((4, 3)),)


# 11. A gradient that was never written.
def never_computed_forward(x, W, b):
    return _affine(x, W, b)


def never_computed_backward(dout, cache):
    _, W = cache
    return dout @ W.T, np.zeros_like(W), dout.sum(axis=0)


def never_computed_example(rng):
    return _affine_inputs(rng)


# 12. A loop that stops one short: the last column is wrong.
def last_column_forward(x, W, b):
    return _affine(x, W, b)


def last_column_backward(dout, cache):
    x, W = cache
    dW = np.zeros_like(W)
    for j in range(W.shape[1] - 1):
        dW[:, j] = x.T @ dout[:, j]
    return dout @ W.T, dW, dout.sum(axis=0)


def last_column_example(rng):
    return _affine_inputs(rng)


# 13. A clamp in forward that backward does not know of.
def clamp_forward(x):
    return np.where(x > 1.0, 1.0, x), x


def clamp_backward(dout, x):
    return dout


def clamp_example(rng):
    return (2 * rng.standard_normal((4, 3)),)


# 14. Gradients returned in the wrong order.
def swapped_forward(mu, logvar):
    return _kl(mu, logvar)


def swapped_backward(dkl, cache):
    mu, logvar = cache
    return dkl[:, None] * 0.5 * (np.exp(logvar) - 1), dkl[:, None] * mu


def swapped_example(rng):
    return _pair_of_matrices(rng)


# 15. The second term of softmax's derivative is missing.
def softmax_term_forward(x):
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return p, p


def softmax_term_backward(dp, p):
    return p * dp


def softmax_term_example(rng):
    return (rng.standard_normal((4, 3)),)


# 16. Not a number: the derivative of sqrt is written so that it divides zero by zero.
def not_finite_forward(x):
    return np.sqrt(x**4 + 1), x


def not_finite_backward(dout, x):
    with np.errstate(all="ignore"):
        return dout * (2 * x**4 / np.sqrt(x**4 + 1)) / x


def not_finite_example(rng):
    x = rng.standard_normal((4, 3))
    x[2, 1] = 0.0
    return (x,)


# 17. A residual connection whose own path is forgotten.
def forgotten_path_forward(x):
    return x + np.tanh(x), np.tanh(x)


def forgotten_path_backward(dout, out):
    return dout * (1 - out**2)


def forgotten_path_example(rng):
    return (rng.standard_normal((4, 3)),)
