"""Several samples: importance weights and their bound, chapters 10 and 13. [D34] [D35] [D42] [D43] [D44] [D45]

The functions without an underscore are the solutions, as they are printed.
"""

from __future__ import annotations

import numpy as np

from vae_np import ops
from vae_np.evaluation import importance
from vae_np.exercises.exercise import Edge, Exercise, Mistake, draws, real
from vae_np.gradcheck import check_grad, check_vjp


def log_mean_exp(log_w):
    top = log_w.max(axis=0)
    w = np.exp(log_w - top)
    bound = top + np.log(w.mean(axis=0))
    weights = w / w.sum(axis=0)
    return bound, weights


_FAR = "at log-weights of {} nats exp {}: take each example's largest log-weight out before exp, add it after log"
LOG_MEAN_EXP = Exercise(
    "D34",
    "The log-mean-exp and the normalised weights",
    chapter=10,
    asks="log (1/S) Σ w of each example and w / Σ w, from log w",
    statement="""
    log_w has the log importance weights of S samples of each of B examples. Return the logarithm of each example's
    mean weight, which estimates log p(x), and its weights divided by their sum, which are that logarithm's
    derivatives. A digit's log-weights are near -100, and others are near ±1000.
    """,
    arguments=(real("log_w", "S B", "log w_sb in nats"),),
    returns={"bound": "B", "weights": "S B"},
    solution=log_mean_exp,
    exact=ops.log_mean_exp_weights,
    verify=lambda answer: check_vjp(
        lambda log_w: (np.log(np.exp(log_w).mean(axis=0)), log_w.real),
        lambda dbound, log_w: dbound * answer(log_w)[1],
        draws(log_w="S B"),
        names=["log_w"],
    ),
    edges=(
        Edge(_FAR.format("-1000", "is zero"), (np.array([[-1000.0, -2000.0], [-1001.0, -2000.0]]),)),
        Edge(_FAR.format("+1000", "is infinite"), (np.array([[1000.0, 2000.0], [1001.0, 2000.0]]),)),
        Edge(
            "one example's largest log-weight belongs to another example: each column has its own maximum",
            (np.array([[-1000.0, 0.0], [-1001.0, 1.0]]),),
        ),
    ),
    hints=(
        "log Σ exp(a_s) = a + log Σ exp(a_s - a) for any a. Which a makes every exponent at most 0?",
        "Each example has a maximum of its own: the maximum runs over the samples, axis 0.",
        "bound = top + log(mean of w), weights = w / Σ w, with w = exp(log_w - top).",
    ),
    mistakes=(
        Mistake(
            "np.log(w.mean(axis=0))",
            "np.log(w.sum(axis=0))",
            "the 1/S of the mean is missing: the bound is too large by log S",
        ),
        Mistake(
            "top + np.log(w.mean(axis=0))",
            "np.log(w.mean(axis=0))",
            "the largest log-weight was taken out and not put back",
        ),
        Mistake(
            "top + np.log(w.mean(axis=0))",
            "log_w.mean(axis=0)",
            "this is the mean of the logarithms, the ELBO: take the logarithm of the mean",
        ),
        Mistake(
            "weights = w / w.sum(axis=0)",
            "weights = np.exp(-log_w) / np.exp(-log_w).sum(axis=0)",
            "the softmax is over the losses -log w: the worst sample gets the largest weight",
        ),
        Mistake(
            "weights = w / w.sum(axis=0)",
            "weights = w / w.sum()",
            "each example's weights add up to one: the sum runs over its own samples",
        ),
    ),
)


def effective_sample_size(log_w):
    w = np.exp(log_w - log_w.max(axis=0))
    weights = w / w.sum(axis=0)
    squares = (weights * weights).sum(axis=0)
    samples = len(log_w)
    stderr = np.sqrt((samples * squares - 1) / (samples - 1))
    return 1 / squares, stderr


def _exact_ess(log_w):
    estimate = importance.estimate_from_log_weights(ops, log_w)
    return estimate.ess, estimate.stderr


ESS = Exercise(
    "D35",
    "Effective sample size and standard error",
    chapter=10,
    asks="the effective sample size of S weights, and the error of log p̂(x)",
    statement="""
    From the log-weights of S samples of each example, return the effective sample size, which is S where all
    weights are equal and 1 where one carries everything, and the standard error of the logarithm of their mean by
    the delta method: the standard error of the mean weight (with S - 1 in its variance) divided by the mean
    weight.
    """,
    arguments=(real("log_w", "S B", "log w_sb in nats"),),
    returns={"ess": "B", "stderr": "B"},
    solution=effective_sample_size,
    exact=_exact_ess,
    edges=(Edge(_FAR.format("-1000", "is zero"), (np.array([[-1000.0], [-1001.0], [-1000.5]]),)),),
    hints=(
        "In normalised weights, which add up to one, the effective sample size is one over the sum of their squares.",
        "The variance of the weights is Σ (w - mean w)² / (S - 1); the mean has 1/S of it.",
        "stderr² = (S Σ w̃² - 1) / (S - 1).",
    ),
    mistakes=(
        Mistake("return 1 / squares", "return 1 / squares / samples", "this is the effective share: multiply by S"),
        Mistake(
            "return 1 / squares",
            "return squares",
            "this is the sum of squares: the effective sample size is one over it",
        ),
        Mistake(
            "np.sqrt((samples * squares - 1) / (samples - 1))",
            "(samples * squares - 1) / (samples - 1)",
            "this is the squared error: the root is missing",
        ),
        Mistake("/ (samples - 1))", "/ samples)", "the variance of S weights has S - 1 in the denominator"),
        Mistake(
            "/ (samples - 1))",
            "* samples / (samples - 1))",
            "this is the spread of one weight: the mean of S has 1/√S of it",
        ),
    ),
)


def iwae_backward(dloglik, log_w, z, eps, logvar):
    w = np.exp(log_w - log_w.max(axis=0))
    share = (w / w.sum(axis=0) / log_w.shape[1])[:, :, None]
    dz = -share * (dloglik - z)
    dmu = dz.sum(axis=0)
    dlogvar = (0.5 * dz * eps * np.exp(0.5 * logvar)).sum(axis=0) - 0.5 / len(logvar)
    return dmu, dlogvar


def _draw_bound(rng, sizes):
    s, b, k = (sizes[letter] for letter in "SBK")
    logvar, eps, mu = rng.standard_normal((b, k)), rng.standard_normal((s, b, k)), rng.standard_normal((b, k))
    z = mu + np.exp(0.5 * logvar) * eps
    return rng.standard_normal((s, b, k)), rng.standard_normal((s, b)), z, eps, logvar


def _along_path(dz, eps, logvar):
    """dmu and dlogvar of dz (S, B, K) by the book's own backward pass."""
    rows = eps.reshape(-1, logvar.shape[1])
    _, cache = ops.reparam_kl_forward(np.zeros_like(logvar), logvar, rows)
    return ops.reparam_kl_backward((dz.reshape(rows.shape), np.zeros(len(logvar))), cache)


def _exact_iwae(dloglik, log_w, z, eps, logvar):
    share = (ops.log_mean_exp_weights(log_w)[1] / len(logvar))[:, :, None]
    dmu, dlogvar = _along_path(share * (z - dloglik), eps, logvar)
    return dmu, dlogvar - 0.5 / len(logvar)


def _verify_iwae(answer):
    mu, logvar, eps, a, x = draws(mu="B K", logvar="B K", eps="S B K", a="K D", x="B D")

    def parts(point):
        z = point["mu"] + np.exp(0.5 * point["logvar"]) * eps
        residual = x - z @ a
        log_q_over_p = 0.5 * (z * z - eps * eps - point["logvar"]).sum(axis=2)
        return z, residual @ a.T, -0.5 * (residual * residual).sum(axis=2) - log_q_over_p

    def bound_loss(point):
        return -np.log(np.exp(parts(point)[2]).mean(axis=0)).mean()

    def gradient(point):
        z, dloglik, log_w = parts(point)
        return dict(zip(("mu", "logvar"), answer(dloglik, log_w, z, eps, point["logvar"]), strict=True))

    return check_grad(bound_loss, gradient, {"mu": mu, "logvar": logvar}, name="bound of S samples")


_BOUND_ARGUMENTS = (
    real("dloglik", "S B K", "∂ log p(x | z_s) / ∂z_s"),
    real("log_w", "S B", "log w_sb in nats"),
    real("z", "S B K", "mu + exp(logvar / 2) eps"),
    real("eps", "S B K"),
    real("logvar", "B K", "log σ²"),
)
_ONES = np.ones((2, 1, 1))
_FAR_WEIGHTS = Edge(
    _FAR.format("-1000", "is zero").removesuffix(", add it after log"),
    (_ONES, np.array([[-1000.0], [-1001.0]]), 0.5 * _ONES, -_ONES, np.zeros((1, 1))),
)
_NO_WEIGHTS = "(w / w.sum(axis=0) / log_w.shape[1])"
_EVEN = Mistake(
    _NO_WEIGHTS,
    "(np.ones_like(w) / log_w.size)",
    "every sample counts the same, as in the ELBO: the derivative of the log-mean-exp is w / Σ w",
)
_WORST = Mistake(
    "log_w - log_w.max(axis=0)",
    "log_w.min(axis=0) - log_w",
    "the softmax is over the losses -log w: the worst sample gets the largest weight",
)
IWAE = Exercise(
    "D42",
    "The gradient of the bound of several samples",
    chapter=13,
    asks="dmu and dlogvar of -mean log (1/S) Σ w",
    statement="""
    The loss is -1/B Σ_b log (1/S) Σ_s w_sb with log w = log p(x | z) + log p(z) - log q(z | x), z = mu +
    exp(logvar / 2) eps and eps held fixed. dloglik has the derivative of each log p(x | z_s) in its z, without any
    1/S or 1/B. Return the derivatives of the loss in mu and logvar.
    """,
    arguments=_BOUND_ARGUMENTS,
    returns={"dmu": "B K", "dlogvar": "B K"},
    solution=iwae_backward,
    exact=_exact_iwae,
    draw=_draw_bound,
    edges=(_FAR_WEIGHTS,),
    verify=_verify_iwae,
    hints=(
        "The derivative of log (1/S) Σ w is the normalised weight: each row of log w has the upstream gradient -w̃ / B.",
        "Written in eps, log q = -½ Σ (eps² + logvar + log 2π): no z in it. log p(z) pulls with -z.",
        "dz = -w̃/B (dloglik - z), along the path to mu and logvar; and -1/(2 B) for logvar besides.",
    ),
    mistakes=(
        _EVEN,
        _WORST,
        Mistake("dloglik - z", "dloglik", "log p(z) is in the weights, too: its pull, -z, is missing"),
        Mistake(" - 0.5 / len(logvar)\n", "\n", "log q has -½ logvar besides the path: -1/(2 B) is missing"),
        Mistake(" / log_w.shape[1])", ")", "the 1/B of the mean over the batch is missing"),
        Mistake("dz = -share", "dz = share", "the loss is minus the bound: the path's sign is turned"),
    ),
)


def stl_backward(dloglik, log_w, z, eps, logvar):
    w = np.exp(log_w - log_w.max(axis=0))
    share = (w / w.sum(axis=0) / log_w.shape[1])[:, :, None]
    sigma = np.exp(0.5 * logvar)
    dz = -share * (dloglik - z + eps / sigma)
    dmu = dz.sum(axis=0)
    dlogvar = (0.5 * dz * eps * sigma).sum(axis=0)
    return dmu, dlogvar


def _exact_path(power, dloglik, log_w, z, eps, logvar):
    weights = ops.log_mean_exp_weights(log_w)[1]
    slope = dloglik - z + eps * np.exp(-0.5 * logvar)
    return _along_path(-(weights**power / len(logvar))[:, :, None] * slope, eps, logvar)


_STILL = Mistake("dloglik - z + eps / sigma", "dloglik - z", "log q depends on z, too: its pull, +eps / σ, is missing")
_SCORE = Mistake(
    "(0.5 * dz * eps * sigma).sum(axis=0)",
    "(0.5 * dz * eps * sigma).sum(axis=0) - 0.5 / len(logvar)",
    "the direct term -1/(2 B) is part of the score, which this estimate leaves out",
)
STL = Exercise(
    "D43",
    "Sticking the landing",
    chapter=13,
    asks="the encoder's gradient along the path alone, with weights w / Σ w",
    statement="""
    The bound is that of D42. Leave the score out: mu and logvar act through the sample z alone, also inside log
    q(z | x), whose own mu and logvar are held still. Return this estimate of the loss's derivatives in mu and
    logvar.
    """,
    arguments=_BOUND_ARGUMENTS,
    returns={"dmu": "B K", "dlogvar": "B K"},
    solution=stl_backward,
    exact=lambda *arguments: _exact_path(1, *arguments),
    draw=_draw_bound,
    edges=(_FAR_WEIGHTS,),
    hints=(
        "What is ∂ log w / ∂z with mu and logvar of q held still? Three terms.",
        "∂ log q / ∂z = -(z - mu) / σ² = -eps / σ, and log w has -log q.",
        "dz = -w̃/B (dloglik - z + eps / σ), then along the path to mu and logvar.",
    ),
    mistakes=(
        _STILL,
        _SCORE,
        _EVEN,
        _WORST,
        Mistake("+ eps / sigma", "- eps / sigma", "log w has -log q, whose derivative in z is +eps / σ"),
        Mistake("+ eps / sigma", "+ eps / sigma**2", "(z - mu) / σ² is eps / σ: one σ too many"),
    ),
)


def dreg_backward(dloglik, log_w, z, eps, logvar):
    w = np.exp(log_w - log_w.max(axis=0))
    weights = w / w.sum(axis=0)
    share = (weights * weights / log_w.shape[1])[:, :, None]
    sigma = np.exp(0.5 * logvar)
    dz = -share * (dloglik - z + eps / sigma)
    dmu = dz.sum(axis=0)
    dlogvar = (0.5 * dz * eps * sigma).sum(axis=0)
    return dmu, dlogvar


DREG = Exercise(
    "D44",
    "Doubly reparameterised",
    chapter=13,
    asks="the encoder's gradient along the path alone, without the bias of D43",
    statement="""
    Sticking the landing is biased for several samples, as the weights depend on them. Reparameterise the score
    once more: the expectation of w̃_s times its score is that of (w̃_s - w̃_s²) times the path's derivative.
    Return the estimate of the loss's derivatives in mu and logvar that has the bound's own mean, along the path
    alone.
    """,
    arguments=_BOUND_ARGUMENTS,
    returns={"dmu": "B K", "dlogvar": "B K"},
    solution=dreg_backward,
    exact=lambda *arguments: _exact_path(2, *arguments),
    draw=_draw_bound,
    edges=(_FAR_WEIGHTS,),
    hints=(
        "The whole gradient is Σ w̃ (g - s), with g along the path and s the score. Insert the expectation of Σ w̃ s.",
        "Σ w̃ g - Σ (w̃ - w̃²) g: what is left?",
        "As D43, with w̃² in the place of w̃.",
    ),
    mistakes=(
        Mistake(
            "weights * weights / log",
            "weights / log",
            "this is sticking the landing, D43: the weights are squared here",
        ),
        Mistake(
            "weights * weights / log",
            "weights * (1 - weights) / log",
            "this is the score's share: the whole is w̃ less it, w̃²",
        ),
        _STILL,
        _SCORE,
        Mistake("weights = w / w.sum(axis=0)", "weights = w", "the weights are not normalised: w̃ = w / Σ w"),
    ),
)


def score_backward(loglik, eps, logvar):
    samples, batch = loglik.shape
    others = (loglik.sum(axis=0) - loglik) / (samples - 1)
    signal = ((loglik - others) / (samples * batch))[:, :, None]
    dmu = -(signal * eps / np.exp(0.5 * logvar)).sum(axis=0)
    dlogvar = -(signal * 0.5 * (eps * eps - 1)).sum(axis=0)
    return dmu, dlogvar


def _exact_score(loglik, eps, logvar):
    samples, batch = loglik.shape
    # With the mean of the others as baseline, f - b = (f - mean f) S / (S - 1).
    signal = ((loglik - loglik.mean(axis=0)) / ((samples - 1) * batch))[:, :, None]
    return -(signal * eps * np.exp(-0.5 * logvar)).sum(axis=0), -0.5 * (signal * (eps * eps - 1)).sum(axis=0)


SCORE = Exercise(
    "D45",
    "Without a path: the score function",
    chapter=13,
    asks="dmu and dlogvar from values of log p(x|z) alone, with the other samples as baseline",
    statement="""
    Suppose that log p(x | z) cannot be differentiated in z. Return the score-function estimate of the derivatives
    in mu and logvar of -1/B Σ_b E log p(x_b | z) from S samples of each example: the mean over samples of (f_s -
    b_s) times the derivative of log q(z_s | x) at fixed z, with b_s the mean of the example's other samples.
    """,
    arguments=(
        real("loglik", "S B", "f = log p(x | z_s) in nats"),
        real("eps", "S B K"),
        real("logvar", "B K", "log σ²"),
    ),
    returns={"dmu": "B K", "dlogvar": "B K"},
    solution=score_backward,
    exact=_exact_score,
    hints=(
        "∇ E f = E[f ∇ log q], the derivative at fixed z. Write it in eps = (z - mu) / σ.",
        "∂ log q / ∂mu = eps / σ and ∂ log q / ∂logvar = ½ (eps² - 1). The baseline is (Σ f - f_s) / (S - 1).",
        "dmu = -1/(S B) Σ_s (f_s - b_s) eps_s / σ, dlogvar = -1/(S B) Σ_s (f_s - b_s) ½ (eps_s² - 1).",
    ),
    mistakes=(
        Mistake(
            "(loglik.sum(axis=0) - loglik) / (samples - 1)",
            "loglik.mean(axis=0)",
            "the baseline has the sample itself in it, which shrinks the gradient by 1 - 1/S",
        ),
        Mistake("loglik - others", "loglik", "the baseline is missing: right on average, and much noisier"),
        Mistake("0.5 * (eps * eps - 1)", "(eps * eps - 1)", "∂ log q / ∂logvar is ½ (eps² - 1): the ½ is missing"),
        Mistake("0.5 * (eps * eps - 1)", "0.5 * (eps - 1)", "∂ log q / ∂logvar is ½ (eps² - 1): the square is missing"),
        Mistake("eps / np.exp(0.5 * logvar)", "eps", "∂ log q / ∂mu is eps / σ: the 1/σ is missing"),
        Mistake(
            "eps / np.exp(0.5 * logvar)",
            "eps / np.exp(logvar)",
            "∂ log q / ∂mu is (z - mu) / σ² = eps / σ: this divides by σ²",
        ),
    ),
)

EXERCISES = (LOG_MEAN_EXP, ESS, IWAE, STL, DREG, SCORE)
