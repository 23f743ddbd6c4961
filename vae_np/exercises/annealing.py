"""log p(x) without an encoder: chapter 14. [D46] [D47] [D50]

The functions without an underscore are the solutions, as they are printed.
"""

from __future__ import annotations

import numpy as np

from vae_np import distributions
from vae_np.exercises.exercise import Argument, Edge, Exercise, Mistake, number, real


def _log_likelihood(z):
    """The log-likelihood of some x: two bumps along the first latent."""
    return np.logaddexp(-2 * (z[:, 0] - 1) ** 2, -2 * (z[:, 0] + 1) ** 2) - 0.3 * (z * z).sum(axis=1)


def _slope(z):
    """Its gradient."""
    a, b = -2 * (z[:, 0] - 1) ** 2, -2 * (z[:, 0] + 1) ** 2
    share = 1 / (1 + np.exp(b - a))
    gradient = -0.6 * z
    gradient[:, 0] += share * -4 * (z[:, 0] - 1) + (1 - share) * -4 * (z[:, 0] + 1)
    return gradient


def _shift(z, beta):
    """A transition that tells at which beta it was called."""
    return np.cos(z) + beta


def _is(function):
    return lambda rng, shape: function


def ais_step(z, log_w, beta, next_beta, log_likelihood, transition):
    log_w = log_w + (next_beta - beta) * log_likelihood(z)
    z = transition(z, next_beta)
    return z, log_w


def _exact_ais(z, log_w, beta, next_beta, log_likelihood, transition):
    # The ratio f_next(z) / f(z) of the two unnormalised densities, at the draw of the one that is being left.
    return transition(z, next_beta), log_w + next_beta * log_likelihood(z) - beta * log_likelihood(z)


AIS = Exercise(
    "D46",
    "A step of annealed importance sampling",
    chapter=14,
    asks="each chain weighed and moved, from one temperature to the next",
    statement="""
    Chains stand at z, draws of (nearly) p(z) p(x | z)^beta. Bring them to next_beta: return where they are then,
    and their log-weights. log_likelihood(z) is log p(x | z) of each chain, (B,), and transition(z, b) moves each
    chain so that p(z) p(x | z)^b is left invariant.
    """,
    arguments=(
        real("z", "B K"),
        real("log_w", "B", "the log-weights so far"),
        number("beta", 0.1, 0.3),
        number("next_beta", 0.4, 0.9),
        Argument("log_likelihood", "", "a function of z", _is(_log_likelihood)),
        Argument("transition", "", "a function of z and b", _is(_shift)),
    ),
    returns={"new_z": "B K", "new_log_w": "B"},
    solution=ais_step,
    exact=_exact_ais,
    hints=(
        "The weight gains the ratio of the next unnormalised density to this one. Where is it taken?",
        "log of the ratio: (next_beta - beta) log p(x | z). The prior cancels.",
        "Weigh where the chain stands, then move it with the transition of next_beta.",
    ),
    mistakes=(
        Mistake(
            "    log_w = log_w + (next_beta - beta) * log_likelihood(z)\n    z = transition(z, next_beta)\n",
            "    z = transition(z, next_beta)\n    log_w = log_w + (next_beta - beta) * log_likelihood(z)\n",
            "it is weighed after the move: weigh where it stands, at a draw of the temperature that is left",
        ),
        Mistake(
            "transition(z, next_beta)",
            "transition(z, beta)",
            "the transition leaves the next temperature invariant, not the old one",
        ),
        Mistake(
            "(next_beta - beta)", "next_beta", "the weight gains the difference of the temperatures times log p(x | z)"
        ),
        Mistake(
            "(next_beta - beta)",
            "(beta - next_beta)",
            "the weight is the next density over this one: the sign of its gain is turned",
        ),
        Mistake("log_w = log_w + (", "log_w = (", "the weight collects what it gained before: log_w is lost"),
    ),
)


def leapfrog(z, r, beta, h, steps, gradient):
    r = r + 0.5 * h * (beta * gradient(z) - z)
    for index in range(steps):
        z = z + h * r
        size = h if index < steps - 1 else 0.5 * h
        r = r + size * (beta * gradient(z) - z)
    return z, r


def _exact_leapfrog(z, r, beta, h, steps, gradient):
    # With the two half kicks between drifts apart.
    for _ in range(steps):
        r = r + 0.5 * h * (beta * gradient(z) - z)
        z = z + h * r
        r = r + 0.5 * h * (beta * gradient(z) - z)
    return z, r


LEAPFROG = Exercise(
    "D47",
    "Leapfrog steps",
    chapter=14,
    asks="position and momentum after so many leapfrog steps",
    statement="""
    The target is p(z) p(x | z)^beta with a standard normal prior; gradient(z) is ∇ log p(x | z), (B, K). Each
    leapfrog step of size h changes the momentum r by half a step along the gradient of the target's logarithm, z
    by a whole step along r, and r by half a step again. Return z and r after `steps` of them.
    """,
    arguments=(
        real("z", "B K"),
        real("r", "B K", "the momentum"),
        number("beta", 0.3, 0.9),
        number("h", 0.05, 0.2, "the step size"),
        Argument("steps", "", "how many", lambda rng, shape: int(rng.integers(2, 5))),
        Argument("gradient", "", "a function of z", _is(_slope)),
    ),
    returns={"new_z": "B K", "new_r": "B K"},
    solution=leapfrog,
    exact=_exact_leapfrog,
    hints=(
        "The logarithm of the target is beta log p(x | z) - ½ |z|². What is its gradient?",
        "The force is beta gradient(z) - z. Half a kick, a whole drift, half a kick; z has moved before the "
        "second kick.",
        "r += h/2 force(z); z += h r; r += h/2 force(z), `steps` times.",
    ),
    mistakes=(
        Mistake(
            "r = r + 0.5 * h * (beta * gradient(z) - z)",
            "r = r + h * (beta * gradient(z) - z)",
            "the first kick is half a step",
        ),
        Mistake("size = h if index < steps - 1 else 0.5 * h", "size = h", "the last kick is half a step"),
        Mistake(
            "0.5 * h * (beta * gradient(z) - z)\n    for",
            "0.5 * h * (gradient(z) - z)\n    for",
            "beta is missing before the likelihood's gradient",
        ),
        Mistake(
            "size * (beta * gradient(z) - z)",
            "size * beta * gradient(z)",
            "the prior pulls, too: -z is missing in the force",
        ),
        Mistake(
            "size = h if index < steps - 1 else 0.5 * h",
            "size = 0.5 * h",
            "between two drifts the two half kicks make a whole one",
        ),
    ),
)


def surgery(mu, logvar, z):
    distance = (z[:, None, :] - mu[None]) ** 2 / np.exp(logvar)[None]
    log_q = -0.5 * (distance + logvar[None] + np.log(2 * np.pi)).sum(axis=2)
    top = log_q.max(axis=1)
    log_mixture = top + np.log(np.exp(log_q - top[:, None]).mean(axis=1))
    information = (np.diagonal(log_q) - log_mixture).mean()
    kl = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(axis=1).mean()
    return information, kl - information


def _exact_surgery(mu, logvar, z):
    def log_q(n):
        same = np.broadcast_to
        return distributions.normal_log_prob_forward(z, same(mu[n], z.shape), logvar[n])[0]

    each = np.array([log_q(n) for n in range(len(mu))])
    information = np.mean([each[n, n] - (np.logaddexp.reduce(each[:, n]) - np.log(len(mu))) for n in range(len(mu))])
    return information, distributions.normal_kl_forward(mu, logvar)[0].mean() - information


SURGERY = Exercise(
    "D50",
    "What the KL is made of",
    chapter=14,
    asks="the mean KL as mutual information plus the mixture's KL to the prior",
    statement="""
    q(z | x_n) is N(mu_n, exp logvar_n), z_n one draw from it, and q(z) = 1/N Σ_n q(z | x_n) their mixture.
    Estimate the mutual information of an example's number and its z by the mean over n of log q(z_n | x_n) - log
    q(z_n), and the mixture's KL to the standard normal prior as the mean KL in closed form less it. Return both,
    in nats.
    """,
    arguments=(real("mu", "N K"), real("logvar", "N K", "log σ²"), real("z", "N K", "a draw of each example's q")),
    returns={"information": "", "marginal_kl": ""},
    solution=surgery,
    exact=_exact_surgery,
    edges=(
        Edge(
            "where a draw is far from every mean exp is zero: take each row's largest out before exp, add it after log",
            (np.array([[0.0], [100.0]]), np.zeros((2, 1)), np.array([[50.0], [0.0]])),
        ),
    ),
    hints=(
        "All N² pairs are needed: log q(z_n | x_m), an (N, N) matrix. Which entries are log q(z_n | x_n)?",
        "log q(z_n) is the log-mean-exp over m of row n.",
        "information = mean(diagonal - log-mean-exp of the rows); marginal_kl = mean of ½ Σ (mu² + σ² - 1 - "
        "logvar) less it.",
    ),
    mistakes=(
        Mistake(
            "- top[:, None]).mean(axis=1)",
            "- top[:, None]).sum(axis=1)",
            "the mixture is a mean of N densities: its 1/N is missing, which is log N",
        ),
        Mistake(
            "return information, kl - information",
            "return information, kl",
            "this is the whole mean KL: the information is a part of it",
        ),
        Mistake(
            "return information, kl - information",
            "return information, kl + information",
            "the two parts add up to the mean KL: subtract the information from it",
        ),
        Mistake(
            "np.diagonal(log_q) - log_mixture",
            "log_mixture - np.diagonal(log_q)",
            "the information is log q(z_n | x_n) less log q(z_n): its sign is turned",
        ),
        Mistake(
            "(np.diagonal(log_q) - log_mixture)",
            "(log_q - log_mixture[:, None])",
            "only z_n's own density is compared with the mixture: the diagonal, not all pairs",
        ),
    ),
)

EXERCISES = (AIS, LEAPFROG, SURGERY)
