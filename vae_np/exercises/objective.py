"""The objective, ready to compute: chapter 7. [D21] [D22] [D23] [D24]

The functions without an underscore are the solutions, as they are printed.
"""

from __future__ import annotations

import numpy as np

from vae_np import distributions
from vae_np.elbo import Terms, posterior_log_prob, standard_normal_log_prob
from vae_np.exercises.distributions import factors
from vae_np.exercises.exercise import Argument, Edge, Exercise, Mistake, draws, number, real
from vae_np.gradcheck import check_vjp


def two_forms(loglik, mu, logvar, eps):
    z = mu + np.exp(0.5 * logvar) * eps
    log_q = -0.5 * (eps * eps + logvar + np.log(2 * np.pi)).sum(axis=2)
    log_p = -0.5 * (z * z + np.log(2 * np.pi)).sum(axis=2)
    kl = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(axis=1)
    joint = (loglik + log_p - log_q).mean(axis=0)
    analytic = loglik.mean(axis=0) - kl
    return joint, analytic


def _exact_forms(loglik, mu, logvar, eps):
    rows = eps.reshape(-1, mu.shape[1])
    z = distributions.normal_sample(mu, logvar, eps).reshape(rows.shape)
    sampled = (posterior_log_prob(logvar, rows) - standard_normal_log_prob(z)).reshape(loglik.shape)
    return (loglik - sampled).mean(axis=0), loglik.mean(axis=0) - distributions.normal_kl_forward(mu, logvar)[0]


TWO_FORMS = Exercise(
    "D21",
    "Two forms of the ELBO",
    chapter=7,
    asks="the joint form and the analytic-KL form from S samples of each example",
    statement="""
    q is N(mu, exp logvar), the prior N(0, I), and z_s = mu + exp(logvar / 2) eps_s; loglik has log p(x | z_s)
    already. Return for each example the ELBO's joint form, the mean over samples of log p(x | z) + log p(z) - log
    q(z | x), and its analytic-KL form, in which the last two terms are the KL in closed form.
    """,
    arguments=(
        real("loglik", "S B", "log p(x | z_s) in nats"),
        real("mu", "B K"),
        real("logvar", "B K", "log σ²"),
        real("eps", "S B K", "the noise"),
    ),
    returns={"joint": "B", "analytic": "B"},
    solution=two_forms,
    exact=_exact_forms,
    hints=(
        "Both densities are those of D13, summed over the latents. log q is taken at the sampled z: (z - "
        "mu)² / σ² is eps².",
        "log q = -½ Σ (eps² + logvar + log 2π), log p(z) = -½ Σ (z² + log 2π).",
        "joint = mean over s of loglik + log p(z) - log q; analytic = mean of loglik - ½ Σ (mu² + "
        "exp(logvar) - 1 - logvar).",
    ),
    mistakes=(
        Mistake(
            "loglik + log_p - log_q", "loglik - log_p + log_q", "log p(z) enters with a plus and log q with a minus"
        ),
        Mistake("loglik + log_p - log_q", "loglik - log_q", "log p(z) is missing: the joint form has log p(x, z)"),
        Mistake("loglik.mean(axis=0) - kl", "loglik.mean(axis=0) + kl", "the KL is subtracted"),
        Mistake("eps * eps + logvar + np", "eps * eps + np", "log q's own normaliser, logvar, is missing"),
        Mistake(
            "mu + np.exp(0.5 * logvar) * eps",
            "mu + np.exp(logvar) * eps",
            "σ is exp(logvar / 2): this takes the variance for it",
        ),
    ),
)


def kl(mu, logvar):
    value = 0.5 * (mu * mu + np.expm1(logvar) - logvar).sum(axis=1)
    dmu = mu
    dlogvar = 0.5 * np.expm1(logvar)
    return value, dmu, dlogvar


def _exact_kl(mu, logvar):
    value, cache = distributions.normal_kl_forward(mu, logvar)
    return value, *distributions.normal_kl_backward(np.ones_like(value), cache)


KL = Exercise(
    "D22",
    "The KL to the standard normal, and its gradient",
    chapter=7,
    asks="KL(N(mu, exp logvar) ‖ N(0, I)) of each example, and its derivatives",
    statement="""
    q has independent latents with means mu and variances exp(logvar), and p is standard normal. Return KL(q ‖ p)
    of each example in nats, summed over the latents, and its derivatives in mu and logvar.
    """,
    arguments=(real("mu", "B K"), real("logvar", "B K", "log σ²")),
    returns={"kl": "B", "dmu": "B K", "dlogvar": "B K"},
    solution=kl,
    exact=_exact_kl,
    verify=lambda answer: check_vjp(
        lambda mu, logvar: (_exact_kl(mu, logvar)[0], (mu.real, logvar.real)),
        lambda dkl, cache: tuple(dkl[:, None] * part for part in answer(*cache)[1:]),
        draws(mu="B K", logvar="B K"),
        names=["mu", "logvar"],
    ),
    edges=(
        Edge(
            "for a latent close to the prior exp(logvar) - 1 loses its digits: np.expm1(logvar) keeps them",
            (np.array([[0.0, 0.0]]), np.array([[1e-7, -3e-7]])),
            minor=True,
        ),
    ),
    hints=(
        "KL = E_q[log q(z) - log p(z)]. Which expectations under q do the two log-densities need?",
        "E_q (z - mu)² = exp(logvar) and E_q z² = mu² + exp(logvar); the constants ½ log 2π cancel.",
        "½ Σ (mu² + exp(logvar) - 1 - logvar); dmu = mu, dlogvar = ½ (exp(logvar) - 1).",
    ),
    mistakes=(
        Mistake(".sum(axis=1)", ".mean(axis=1)", "the KL is summed over the latents: a mean gives it the weight 1/K"),
        Mistake(
            "dlogvar = 0.5 * np.expm1(logvar)",
            "dlogvar = 0.25 * np.expm1(logvar)",
            "the derivative in logvar has the factor ½, not ¼",
        ),
        Mistake(
            "np.expm1(logvar) - logvar).sum",
            "np.exp(logvar) - logvar).sum",
            "the -1 of each latent is missing: the KL is 0 where q is the prior",
        ),
        Mistake(
            "np.expm1(logvar) - logvar).sum",
            "np.expm1(0.5 * logvar) - 0.5 * logvar).sum",
            "exp(logvar) is the variance σ²: this takes σ",
        ),
        Mistake(
            "dlogvar = 0.5 * np.expm1(logvar)",
            "dlogvar = 0.5 * np.exp(logvar)",
            "the -½ from the term -logvar is missing in dlogvar",
        ),
        Mistake(
            "dlogvar = 0.5 * np.expm1(logvar)",
            "dlogvar = 0.5 * (1 - 1 / np.exp(logvar))",
            "this is the derivative in σ², divided: logvar is its logarithm",
        ),
    ),
)


def full_kl(mu, chol):
    diagonal = np.diagonal(chol, axis1=1, axis2=2)
    trace = (chol * chol).sum(axis=(1, 2))
    value = 0.5 * (trace + (mu * mu).sum(axis=1) - mu.shape[1]) - np.log(diagonal).sum(axis=1)
    dchol = np.tril(chol) - np.eye(mu.shape[1]) / diagonal[:, None, :]
    return value, mu, dchol


def _exact_full_kl(mu, chol):
    value, cache = distributions.full_normal_kl_forward(mu, chol)
    return value, *distributions.full_normal_kl_backward(np.ones_like(value), cache)


def _verify_full_kl(answer):
    (mu,) = draws(mu="B K")
    return check_vjp(
        lambda mu, chol: (_exact_full_kl(mu, chol)[0], (mu.real, np.tril(chol.real))),
        lambda dkl, cache: [dkl.reshape(-1, *[1] * (part.ndim - 1)) * part for part in answer(*cache)[1:]],
        (mu, factors(np.random.default_rng(6), (5, 3, 3))),
        names=["mu", "chol"],
    )


FULL_KL = Exercise(
    "D23",
    "The KL to the standard normal, full covariance",
    chapter=7,
    asks="the KL of N(mu, L Lᵀ), and its derivatives in mu and L",
    statement="""
    q is normal with mean mu and covariance L Lᵀ, L lower triangular with a positive diagonal; p is standard
    normal. Return KL(q ‖ p) of each example in nats, and its derivatives in mu and in the entries of L. Only the
    lower triangle of L is free: the derivative is zero above the diagonal.
    """,
    arguments=(real("mu", "B K"), Argument("chol", "B K K", "L, lower triangular", factors)),
    returns={"kl": "B", "dmu": "B K", "dchol": "B K K"},
    solution=full_kl,
    exact=_exact_full_kl,
    verify=_verify_full_kl,
    hints=(
        "KL = ½ (tr Σ + muᵀ mu - K - log det Σ). Write the trace and the determinant in L.",
        "tr(L Lᵀ) is the sum of all squared entries of L, and log det Σ = 2 Σ log L_ii.",
        "dmu = mu; dL = L - diag(1 / L_ii), lower triangle.",
    ),
    mistakes=(
        Mistake(
            "(chol * chol).sum(axis=(1, 2))",
            "diagonal.sum(axis=1)",
            "tr Σ is the trace of L Lᵀ, all squared entries of L, and not that of L",
        ),
        Mistake(
            "(chol * chol).sum(axis=(1, 2))",
            "(diagonal * diagonal).sum(axis=1)",
            "tr(L Lᵀ) has the squares of all entries of L, those off the diagonal too",
        ),
        Mistake("- np.log(diagonal)", "- 0.5 * np.log(diagonal)", "½ log det Σ is Σ log L_ii, without a ½"),
        Mistake(
            " - np.eye(mu.shape[1]) / diagonal[:, None, :]",
            "",
            "log det Σ has a derivative, too: -1 / L_ii on the diagonal is missing",
        ),
        Mistake("- mu.shape[1])", ")", "the -K is missing: the KL is 0 where q is the prior"),
    ),
)


def loss(loglik, kl, beta):
    reconstruction = loglik.mean(axis=0)
    return -(reconstruction - beta * kl).mean()


LOSS = Exercise(
    "D24",
    "The loss",
    chapter=7,
    asks="the number that training minimises, from S samples of each of B examples",
    statement="""
    loglik has log p(x_b | z_sb) and kl has KL(q_b ‖ p), both summed over features or latents already. Return the
    loss: minus the mean over the batch of the reconstruction, itself a mean over samples, less beta times the KL.
    """,
    arguments=(
        real("loglik", "S B", "log p(x | z_s) in nats"),
        real("kl", "B", "KL(q ‖ p) in nats"),
        number("beta", 0.3, 0.9, "the KL's weight"),
    ),
    returns={"loss": ""},
    solution=loss,
    exact=lambda loglik, kl, beta: Terms(loglik.mean(axis=0), kl).loss(beta),
    hints=(
        "One value for each example first: its reconstruction less beta times its KL.",
        "Then the mean over the batch, and the sign, because optimisers minimise.",
        "-mean_b (mean_s loglik_sb - beta kl_b).",
    ),
    mistakes=(
        Mistake("-(reconstruction", "(reconstruction", "this is the objective: the loss is minus it"),
        Mistake(
            "reconstruction - beta * kl", "reconstruction + beta * kl", "the KL is subtracted from the reconstruction"
        ),
        Mistake("reconstruction - beta * kl", "beta * (reconstruction - kl)", "beta weighs the KL alone"),
        Mistake("reconstruction - beta * kl", "reconstruction - kl", "the KL's weight beta is missing"),
        Mistake("loglik.mean(axis=0)", "loglik.sum(axis=0)", "the S samples are averaged, not summed"),
        Mistake(
            "reconstruction - beta * kl",
            "reconstruction - beta * kl / len(kl)",
            "the KL is divided by B twice: the mean over the batch does it",
        ),
    ),
)

EXERCISES = (TWO_FORMS, KL, FULL_KL, LOSS)
