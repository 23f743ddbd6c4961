"""The simple distributions: values and gradients of their log-densities, chapters 2 and 4. [D4] [D5] [D7] [D14]

The functions without an underscore are the solutions, as they are printed.
"""

from __future__ import annotations

import numpy as np

from vae_np import distributions
from vae_np.exercises.exercise import Argument, Edge, Exercise, Mistake, binary, draws, real
from vae_np.gradcheck import check_vjp


def bernoulli(x, logits):
    size = np.abs(logits)
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-size))
    loglik = (x * logits - softplus).sum(axis=1)
    e = np.exp(-size)
    pi = np.where(logits > 0, 1, e) / (1 + e)
    return loglik, x - pi


def _exact_bernoulli(x, logits):
    loglik, cache = distributions.bernoulli_log_prob_forward(x, logits)
    return loglik, distributions.bernoulli_log_prob_backward(np.ones_like(loglik), cache)


_PIXELS = np.random.default_rng(3).integers(0, 2, (5, 7)).astype(np.float64)
BERNOULLI = Exercise(
    "D4",
    "Bernoulli pixels from logits, and the gradient",
    chapter=2,
    asks="log p(x | logits), summed over the pixels, and its derivative in the logits",
    statement="""
    Pixel d is one with probability σ(l_d) = 1 / (1 + exp(-l_d)), where l_d is its logit, independently of the
    others. Return the log-likelihood of each example in nats and its derivative in each logit. Both have to be
    finite and right at logits of ±10⁴, too.
    """,
    arguments=(binary("x", "B D"), real("logits", "B D")),
    returns={"loglik": "B", "dlogits": "B D"},
    solution=bernoulli,
    exact=_exact_bernoulli,
    verify=lambda answer: check_vjp(
        lambda logits: (_exact_bernoulli(_PIXELS, logits)[0], logits),
        lambda dloglik, logits: dloglik[:, None] * answer(_PIXELS, logits)[1],
        draws(logits="B D"),
        names=["logits"],
    ),
    edges=(
        Edge(
            "at logits of ±10⁴ exp overflows: split softplus(l) as max(l, 0) + log1p(exp(-|l|)), and σ likewise",
            (np.array([[1.0, 0.0, 1.0, 0.0]]), np.array([[1e4, -1e4, -1e4, 1e4]])),
        ),
    ),
    hints=(
        "Write log p = x log π + (1 - x) log(1 - π) in the logit: log(π / (1 - π)) is l itself.",
        "log p = x l - softplus(l) with softplus(l) = log(1 + exp(l)). What is the derivative of softplus?",
        "softplus(l) = max(l, 0) + log1p(exp(-|l|)); its derivative is σ(l), so dlogits = x - σ(l).",
    ),
    mistakes=(
        Mistake(
            "x - pi", "pi - x", "this is the derivative of the loss, -log p: what was observed comes first, x - σ(l)"
        ),
        Mistake(".sum(axis=1)", ".mean(axis=1)", "the pixels are averaged, where independence makes log p their sum"),
        Mistake(
            "x * logits - softplus",
            "x * logits - (1 - x) * softplus",
            "x log π + (1 - x) log(1 - π) is x l - softplus(l): the softplus is there for pixels that are one, too",
        ),
        Mistake("x - pi", "x - pi * (1 - pi)", "the derivative of softplus is σ(l), not the derivative of σ"),
    ),
)


def normal(x, mean, logvar):
    residual = x - mean
    scaled = residual * np.exp(-logvar)
    loglik = -0.5 * (residual * scaled + logvar + np.log(2 * np.pi)).sum(axis=1)
    dmean = scaled
    dlogvar = 0.5 * (residual * scaled - 1)
    return loglik, dmean, dlogvar


def _exact_normal(x, mean, logvar):
    loglik, cache = distributions.normal_log_prob_forward(x, mean, logvar)
    _, dmean, dlogvar = distributions.normal_log_prob_backward(np.ones_like(loglik), cache)
    return loglik, dmean, dlogvar


def _verify_normal(answer):
    x, mean, logvar = draws(x="B D", mean="B D", logvar="B D")
    return check_vjp(
        lambda mean, logvar: (_exact_normal(x, mean, logvar)[0], (mean, logvar)),
        lambda dloglik, cache: tuple(dloglik[:, None] * part for part in answer(x, *cache)[1:]),
        (mean, logvar),
        names=["mean", "logvar"],
    )


NORMAL = Exercise(
    "D5",
    "The normal log-density, and its gradients",
    chapter=2,
    asks="log N(x; mean, exp logvar), summed over the features, and its derivatives",
    statement="""
    Feature d of an example is normal with mean `mean` and variance exp(logvar), independently of the others.
    Return the log-density of each example in nats, constants included, and its derivatives in the mean and in the
    log-variance.
    """,
    arguments=(real("x", "B D"), real("mean", "B D"), real("logvar", "B D", "log σ²")),
    returns={"loglik": "B", "dmean": "B D", "dlogvar": "B D"},
    solution=normal,
    exact=_exact_normal,
    verify=_verify_normal,
    hints=(
        "The density of one feature is exp(-(x - m)² / 2σ²) / √(2π σ²). Take its logarithm with σ² = exp(logvar).",
        "log N = -½ [(x - m)² exp(-v) + v + log 2π], summed. Differentiate the bracket in m and in v.",
        "With r = x - m: dmean = r exp(-v), dlogvar = ½ (r² exp(-v) - 1).",
    ),
    mistakes=(
        Mistake(
            "logvar + np.log(2 * np.pi)).sum",
            "logvar).sum",
            "the constant ½ log 2π of each feature is missing: without it this is no log-density",
        ),
        Mistake("dmean = scaled", "dmean = -scaled", "the sign of dmean is turned: this is the derivative in x"),
        Mistake(
            "scaled = residual * np.exp(-logvar)",
            "scaled = residual * np.exp(-0.5 * logvar)",
            "exp(logvar) is the variance σ²: this divides by σ",
        ),
        Mistake("residual * scaled - 1)\n", "residual * scaled)\n", "the -½ from the term logvar itself is missing"),
    ),
)


def categorical(labels, logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    dlogits = -np.exp(log_p)
    dlogits[rows, labels] += 1
    return log_p[rows, labels], dlogits


def _exact_categorical(labels, logits):
    log_prob, cache = distributions.categorical_log_prob_forward(labels, logits)
    return log_prob, distributions.categorical_log_prob_backward(np.ones_like(log_prob), cache)


_LABELS = np.array([0, 8, 3, 5, 3])
CATEGORICAL = Exercise(
    "D7",
    "The categorical distribution, and its gradient",
    chapter=2,
    asks="log p(label) from the logits of C classes, and its derivative in them",
    statement="""
    Class c has the probability exp(l_c) / Σ_j exp(l_j). Return the log-probability of each example's label and its
    derivative in each logit. Logits of ±10⁴ must not overflow.
    """,
    arguments=(
        Argument("labels", "B", "integers from 0 to C - 1", lambda rng, shape: rng.integers(0, 5, shape)),
        real("logits", "B C"),
    ),
    returns={"log_prob": "B", "dlogits": "B C"},
    solution=categorical,
    exact=_exact_categorical,
    verify=lambda answer: check_vjp(
        lambda logits: (_exact_categorical(_LABELS, logits)[0], logits),
        lambda dout, logits: dout[:, None] * answer(_LABELS, logits)[1],
        draws(logits="B C"),
        names=["logits"],
    ),
    edges=(
        Edge(
            "at logits of ±10⁴ exp overflows: subtract each row's largest logit first, which changes no probability",
            (np.array([0, 1]), np.array([[1e4, -1e4, 0.0], [1e4, 9999.0, -1e4]])),
        ),
    ),
    hints=(
        "log p(c) = l_c - log Σ exp(l_j). Which constant may be subtracted from all logits of a row?",
        "The derivative of log Σ exp(l_j) in l_j is the probability p_j, the softmax.",
        "dlogits is one at the label and zero elsewhere, less the probabilities.",
    ),
    mistakes=(
        Mistake("+= 1", "-= 1", "one is added at the label, as log p(label) has l_label with a plus sign"),
        Mistake(
            "dlogits = -np.exp(log_p)",
            "dlogits = np.exp(log_p) - 2 * (labels[:, None] == np.arange(logits.shape[1]))",
            "this is the derivative of the loss, -log p",
        ),
        Mistake(
            "np.exp(shifted).sum(axis=1, keepdims=True)",
            "np.exp(shifted).sum()",
            "the probabilities of each row add up to one: the sum runs over the classes of one example",
        ),
    ),
)


def full_normal(z, mu, chol):
    y = np.linalg.solve(chol, (z - mu)[:, :, None])[:, :, 0]
    diagonal = np.diagonal(chol, axis1=1, axis2=2)
    log_q = -0.5 * (y * y).sum(axis=1) - np.log(diagonal).sum(axis=1) - 0.5 * z.shape[1] * np.log(2 * np.pi)
    score = np.linalg.solve(chol.transpose(0, 2, 1), y[:, :, None])[:, :, 0]
    return log_q, score


def _exact_full_normal(z, mu, chol):
    log_q, cache = distributions.full_normal_log_prob_forward(z, mu, chol)
    return log_q, distributions.full_normal_log_prob_backward(np.ones_like(log_q), cache)[1]


def factors(rng, shape):
    """Lower triangular factors with a positive diagonal."""
    lower = np.tril(rng.standard_normal(shape), -1)
    return lower + np.eye(shape[-1]) * rng.uniform(0.5, 2.0, shape[:-1])[..., None]


def _verify_full_normal(answer):
    z, mu = draws(z="B K", mu="B K")
    chol = factors(np.random.default_rng(5), (5, 3, 3))
    return check_vjp(
        lambda mu: (_exact_full_normal(z, mu, chol)[0], mu),
        lambda dlog_q, mu: dlog_q[:, None] * answer(z, mu, chol)[1],
        (mu,),
        names=["mu"],
    )


FULL_NORMAL = Exercise(
    "D14",
    "A normal with a full covariance",
    chapter=4,
    asks="log N(z; mu, L Lᵀ) from the Cholesky factor, and its derivative in mu",
    statement="""
    q is normal with mean mu and covariance Σ = L Lᵀ, where L is lower triangular with a positive diagonal. Return
    log q(z) of each example in nats, and its derivative in mu. Solve with the factor: no inverse and no
    determinant of Σ.
    """,
    arguments=(real("z", "B K"), real("mu", "B K"), Argument("chol", "B K K", "L, lower triangular", factors)),
    returns={"log_q": "B", "dmu": "B K"},
    solution=full_normal,
    exact=_exact_full_normal,
    verify=_verify_full_normal,
    hints=(
        "With y = L⁻¹ (z - mu), (z - mu)ᵀ Σ⁻¹ (z - mu) is yᵀ y. What is log det Σ in terms of L's diagonal?",
        "log det Σ = 2 Σ log L_ii, so log q = -½ yᵀy - Σ log L_ii - ½ K log 2π.",
        "dmu = Σ⁻¹ (z - mu) = L⁻ᵀ y, which takes a second solve, with Lᵀ.",
    ),
    mistakes=(
        Mistake("chol.transpose(0, 2, 1), y", "chol, y", "the second solve takes Lᵀ: Σ⁻¹ = L⁻ᵀ L⁻¹"),
        Mistake("- np.log(diagonal)", "- 2 * np.log(diagonal)", "log det Σ = 2 Σ log L_ii enters with ½"),
        Mistake("- np.log(diagonal)", "+ np.log(diagonal)", "a wider normal is lower: log det Σ enters with a minus"),
        Mistake(
            "return log_q, score", "return log_q, y", "this is L⁻¹ (z - mu): the second solve, with Lᵀ, is missing"
        ),
    ),
)

EXERCISES = (BERNOULLI, NORMAL, CATEGORICAL, FULL_NORMAL)
