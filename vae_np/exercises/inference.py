"""From the integral to the gradient through a sample: chapters 1 to 5. [D3] [D10] [D11] [D16] [D17]

The functions without an underscore are the solutions, as they are printed.
"""

from __future__ import annotations

import numpy as np

from vae_np.exact import linear_gaussian
from vae_np.exercises.exercise import Edge, Exercise, Mistake, draws, number, real
from vae_np.gradcheck import check_grad, check_vjp


def log_evidence(log_prior, loglik, step):
    log_joint = log_prior + loglik
    top = log_joint.max(axis=1)
    w = np.exp(log_joint - top[:, None])
    integral = step * (w.sum(axis=1) - 0.5 * (w[:, 0] + w[:, -1]))
    return top + np.log(integral)


def _exact_evidence(log_prior, loglik, step):
    log_weights = np.full(len(log_prior), np.log(step))
    log_weights[[0, -1]] -= np.log(2)
    return np.logaddexp.reduce(log_weights + log_prior + loglik, axis=1)


def _draw_evidence(rng, sizes):
    z = np.linspace(-2.0, 2.5, sizes["M"])
    loglik = -0.5 * (rng.standard_normal((sizes["B"], 1)) - z) ** 2 + rng.standard_normal((sizes["B"], 1))
    return -0.5 * (z * z + np.log(2 * np.pi)), loglik, float(z[1] - z[0])


EVIDENCE = Exercise(
    "D3",
    "log p(x) by quadrature",
    chapter=1,
    asks="log ∫ p(z) p(x | z) dz by the trapezoid rule, without an underflow",
    statement="""
    With one latent, p(x) = ∫ p(z) p(x | z) dz is a sum over a grid. The nodes z_0 … z_(M-1) have the spacing
    `step`, and the trapezoid rule gives both ends half the weight of the others. Return log p(x) of each example
    in nats. Images have log-likelihoods of -1000 nats: exp of these is zero.
    """,
    arguments=(
        real("log_prior", "M", "log p(z) at the nodes"),
        real("loglik", "B M", "log p(x | z) at the nodes"),
        number("step", 0.1, 0.2, "the nodes' spacing"),
    ),
    returns={"log_evidence": "B"},
    solution=log_evidence,
    exact=_exact_evidence,
    draw=_draw_evidence,
    edges=(
        Edge(
            "at log-likelihoods of -1000 every exp is zero: take each row's largest out before exp, add it after log",
            (np.zeros(3), np.array([[-1000.0, -1001.0, -1002.0]]), 0.5),
        ),
    ),
    hints=(
        "The integrand is exp(log p(z) + log p(x | z)). The rule: step times the sum, less half of the two ends.",
        "log Σ exp(a_m) = a + log Σ exp(a_m - a) for any a. Which a makes every exponent at most 0?",
        "top = the row's maximum; w = exp(log_joint - top); top + log(step (Σ w - ½ (w_first + w_last))).",
    ),
    mistakes=(
        Mistake(" - 0.5 * (w[:, 0] + w[:, -1])", "", "the trapezoid rule gives both ends half the weight"),
        Mistake("0.5 * (w[:, 0] + w[:, -1])", "(w[:, 0] + w[:, -1])", "the ends are left out: they count half"),
        Mistake("step * (w", "(w", "the spacing is missing: a sum without dz is no integral"),
        Mistake(
            "log_joint = log_prior + loglik",
            "log_joint = 0 * log_prior + loglik",
            "the prior is missing: p(x) = ∫ p(z) p(x | z) dz",
        ),
        Mistake(
            "return top + np.log(integral)",
            "return np.log(integral)",
            "the largest was taken out before exp and not put back after log",
        ),
    ),
)


def fisher_gradient(log_joint, slopes):
    top = log_joint.max(axis=1, keepdims=True)
    w = np.exp(log_joint - top)
    posterior = w / w.sum(axis=1, keepdims=True)
    gradient = (posterior[:, :, None] * slopes).sum(axis=1)
    return posterior, gradient


def _exact_fisher(log_joint, slopes):
    posterior = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1)[:, None])
    return posterior, np.einsum("bm,bmp->bp", posterior, slopes)


def _verify_fisher(answer):
    log_joint, slopes, theta = draws(log_joint="B M", slopes="B M P", theta="P")
    # log p(x, z) that is linear in the parameters: its slopes are the same everywhere.
    return check_grad(
        lambda t: np.log(np.exp(log_joint + slopes @ t).sum(axis=1)).sum(),
        lambda t: answer(log_joint + slopes @ t, slopes)[1].sum(axis=0),
        0.1 * theta,
        name="log p(x)",
    )


FISHER = Exercise(
    "D10",
    "Fisher's identity on a grid",
    chapter=3,
    asks="the posterior on nodes, and the gradient of log p(x) as an average over it",
    statement="""
    log_joint has log p(x, z) at M equally spaced nodes z, and slopes its derivative in each of P parameters.
    Return the posterior's weights at the nodes, which add up to one for each example, and the derivative of log
    p(x) in each parameter: an expectation over the posterior.
    """,
    arguments=(
        real("log_joint", "B M", "log p(x, z) at the nodes"),
        real("slopes", "B M P", "∂ log p(x, z) / ∂θ there"),
    ),
    returns={"posterior": "B M", "dlog_p": "B P"},
    solution=fisher_gradient,
    exact=_exact_fisher,
    verify=_verify_fisher,
    edges=(
        Edge(
            "at log p(x, z) of -1000 every exp is zero: take each row's largest out first",
            (np.array([[-1000.0, -1001.0]]), np.ones((1, 2, 1))),
        ),
    ),
    hints=(
        "The posterior is p(x, z) / p(x), and p(x) is the sum over the nodes, up to the spacing, which cancels.",
        "∇ log p(x) = E[∇ log p(x, z)] with z from the posterior: a weighted mean of the slopes.",
        "posterior = exp(log_joint - top) normalised over the nodes; dlog_p = Σ_m posterior_m slopes_m.",
    ),
    mistakes=(
        Mistake(
            "w.sum(axis=1, keepdims=True)",
            "w.sum(axis=0, keepdims=True)",
            "each example's posterior adds up to one over its nodes (axis 1), not over the examples",
        ),
        Mistake(
            "w / w.sum(axis=1, keepdims=True)",
            "w / w.sum()",
            "each example has a posterior of its own: normalise each row",
        ),
        Mistake(
            "(posterior[:, :, None] * slopes).sum(axis=1)",
            "slopes.mean(axis=1)",
            "the slopes are averaged evenly: the expectation is over the posterior",
        ),
        Mistake(
            "(posterior[:, :, None] * slopes).sum(axis=1)",
            "(posterior[:, :, None] * slopes).mean(axis=1)",
            "the weights add up to one already: a sum over the nodes, no mean",
        ),
    ),
)


def best_diagonal(d, weight, noise):
    precision = np.eye(weight.shape[1]) + weight.T @ weight / noise
    mean = np.linalg.solve(precision, weight.T @ d.T / noise).T
    variances = 1 / np.diag(precision)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    return mean, variances, gap


BEST_DIAGONAL = Exercise(
    "D11",
    "The best diagonal normal for a normal posterior",
    chapter=4,
    asks="mean, variances and remaining KL(q ‖ p(z|x)) in the linear-Gaussian model",
    statement="""
    z is standard normal and x = W z + b plus normal noise of variance `noise` in each feature; d = x - b. The
    posterior is then normal. Return the diagonal normal q that is closest to it in KL(q ‖ p(z | x)): its means,
    its variances (the same for every x), and the divergence that is left.
    """,
    arguments=(
        real("d", "B D", "x - b"),
        real("weight", "D K", "W"),
        number("noise", 0.4, 1.5, "σ², the noise's variance"),
    ),
    returns={"mean": "B K", "variances": "K", "gap": ""},
    solution=best_diagonal,
    exact=lambda d, weight, noise: linear_gaussian.LinearGaussian(weight, np.zeros(len(weight)), noise).best_diagonal(
        d
    ),
    hints=(
        "The posterior's precision is Λ = I + Wᵀ W / σ², and its mean Λ⁻¹ Wᵀ d / σ².",
        "Up to constants KL(q ‖ p) is ½ Σ (Λ_jj s_j² - log s_j²) in the variances s_j². Where is its derivative zero?",
        "variances = 1 / Λ_jj, and the gap is ½ (Σ log Λ_jj - log det Λ).",
    ),
    mistakes=(
        Mistake(
            "1 / np.diag(precision)",
            "np.diag(np.linalg.inv(precision))",
            "these are the posterior's own variances (Λ⁻¹)_jj, which minimise the other KL(p ‖ q)",
        ),
        Mistake("np.eye(weight.shape[1]) + ", "", "the prior's share I of the precision is missing"),
        Mistake(
            "weight.T @ d.T / noise", "weight.T @ d.T", "the noise's variance is missing: the mean is Λ⁻¹ Wᵀ d / σ²"
        ),
        Mistake(
            "weight.T @ weight / noise\n",
            "weight.T @ weight / noise**2\n",
            "noise is the variance σ² already: it is squared",
        ),
    ),
)


def em_step(x, weight, noise):
    d = x - x.mean(axis=0)
    covariance = np.linalg.inv(np.eye(weight.shape[1]) + weight.T @ weight / noise)
    mean = d @ weight @ covariance / noise
    cross = d.T @ mean / len(x)
    second = mean.T @ mean / len(x) + covariance
    new_weight = np.linalg.solve(second, cross.T).T
    new_noise = ((d * d).mean(axis=0) - (new_weight * cross).sum(axis=1)).mean()
    return new_weight, new_noise


def _exact_em(x, weight, noise):
    model = linear_gaussian.LinearGaussian(weight, x.mean(axis=0), noise)
    after = linear_gaussian.em_step(model, x, isotropic=True)
    return after.weight, after.psi[0, 0]


EM_STEP = Exercise(
    "D16",
    "One step of EM for probabilistic PCA",
    chapter=5,
    asks="the new weight and noise: posteriors first, then the maximum over both",
    statement="""
    z is standard normal, x = W z + b plus noise of variance `noise` in each feature, and b is the data's mean. E:
    each row's posterior is normal, with a mean of its own and one covariance for all. M: return the W and the
    noise that maximise the mean over rows of E[log p(x, z)] under these posteriors.
    """,
    arguments=(real("x", "N D"), real("weight", "D K", "W"), number("noise", 0.4, 1.5, "σ², the noise's variance")),
    returns={"new_weight": "D K", "new_noise": ""},
    solution=em_step,
    exact=_exact_em,
    hints=(
        "E: with Λ = I + Wᵀ W / σ² the posterior's covariance is Λ⁻¹ and its mean Λ⁻¹ Wᵀ (x - b) / σ².",
        "M: least squares of d = x - b on z in expectation needs mean(d E[z]ᵀ) and mean(E[z zᵀ]); E[z zᵀ] is not "
        "E[z] E[z]ᵀ.",
        "W = cross second⁻¹ with cross = dᵀ m / N and second = mᵀ m / N + Λ⁻¹; the noise is the mean over features of "
        "mean(d²) - Σ_k W cross.",
    ),
    mistakes=(
        Mistake(
            " / len(x) + covariance",
            " / len(x)",
            "E[z zᵀ] is the mean's square plus the posterior's covariance, which is missing",
        ),
        Mistake("x - x.mean(axis=0)", "x", "b is the data's mean: subtract it first"),
        Mistake(
            "sum(axis=1)).mean()",
            "sum(axis=1)).sum()",
            "the noise is one variance per feature: the mean over the features",
        ),
        Mistake(
            "(new_weight * cross)",
            "(weight * cross)",
            "the noise is the maximum together with the new W: this takes the old one",
        ),
        Mistake(
            "/ len(x) + covariance",
            "/ len(x) + covariance / len(x)",
            "the posterior's covariance counts for every row: no 1/N before it",
        ),
    ),
)


def reparameterise(mu, logvar, eps, dz):
    sigma = np.exp(0.5 * logvar)
    z = mu + sigma * eps
    dmu = dz
    dlogvar = 0.5 * dz * sigma * eps
    return z, dmu, dlogvar


REPARAMETERISE = Exercise(
    "D17",
    "The sample as a function of its noise, and the gradient along it",
    chapter=5,
    asks="z = mu + σ eps, and dmu and dlogvar from dz",
    statement="""
    A draw from the normal with mean mu and variance exp(logvar) is written as a function of standard normal noise
    eps, so that it can be differentiated. Return the draw z, and from dz, the derivative of the loss with respect
    to z, those with respect to mu and logvar, with the noise held fixed.
    """,
    arguments=(real("mu", "B K"), real("logvar", "B K", "log σ²"), real("eps", "B K"), real("dz", "B K")),
    returns={"z": "B K", "dmu": "B K", "dlogvar": "B K"},
    solution=reparameterise,
    exact=lambda mu, logvar, eps, dz: (
        mu + np.sqrt(np.exp(logvar)) * eps,
        dz,
        dz * (np.sqrt(np.exp(logvar)) * eps) / 2,
    ),
    verify=lambda answer: check_vjp(
        lambda mu, logvar, eps: (mu + np.exp(0.5 * logvar) * eps, (mu.real, logvar.real, eps)),
        lambda dz, cache: tuple(answer(*cache, dz)[1:]),
        draws(mu="B K", logvar="B K", eps="B K"),
        names=["mu", "logvar", "eps"],
        wrt=["mu", "logvar"],
    ),
    hints=(
        "The standard deviation is the square root of exp(logvar).",
        "z = mu + exp(logvar / 2) eps. What are ∂z/∂mu and ∂z/∂logvar?",
        "dmu = dz, dlogvar = ½ dz exp(logvar / 2) eps.",
    ),
    mistakes=(
        Mistake("np.exp(0.5 * logvar)", "np.exp(logvar)", "exp(logvar) is the variance: σ is exp(logvar / 2)"),
        Mistake("0.5 * dz * sigma * eps", "dz * sigma * eps", "σ = exp(logvar / 2): the ½ comes down, and is missing"),
        Mistake("0.5 * dz * sigma * eps", "0.5 * dz * sigma", "∂z/∂logvar has the noise in it: eps is missing"),
        Mistake("0.5 * dz * sigma * eps", "0.5 * dz * eps", "∂z/∂logvar is ½ σ eps: the factor σ is missing"),
        Mistake("0.5 * dz * sigma * eps", "0.5 * dz * z", "∂z/∂logvar is ½ σ eps = ½ (z - mu), not ½ z"),
        Mistake("0.5 * dz * sigma * eps", "dz * eps", "this is the derivative in σ: the chain rule's ½ σ is missing"),
    ),
)

EXERCISES = (EVIDENCE, FISHER, BEST_DIAGONAL, EM_STEP, REPARAMETERISE)
