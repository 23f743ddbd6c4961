"""Gaussian mixture: log-likelihood and its gradient, for use with L-BFGS."""

import numpy as np
from scipy.special import logsumexp
from scipy.optimize import minimize


def unpack(theta, K, D):
    """theta = [K mixture logits, K*D means, K*D log standard deviations]"""
    logits = theta[:K]
    means = theta[K : K + K * D].reshape(K, D)
    log_std = theta[K + K * D :].reshape(K, D)
    return logits, means, log_std


def component_log_prob(X, means, log_std):
    z = (X[:, None, :] - means[None]) / np.exp(log_std)[None]
    return -0.5 * np.sum(z**2, axis=2) - np.sum(log_std, axis=1) - 0.5 * X.shape[1] * np.log(2 * np.pi)


def neg_log_likelihood(theta, X, K):
    logits, means, log_std = unpack(theta, K, X.shape[1])
    log_w = logits - logsumexp(logits)
    return -np.sum(logsumexp(component_log_prob(X, means, log_std) + log_w, axis=1))


def neg_log_likelihood_grad(theta, X, K):
    N, D = X.shape
    logits, means, log_std = unpack(theta, K, D)
    log_w = logits - logsumexp(logits)
    joint = component_log_prob(X, means, log_std) + log_w
    R = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    g_logits = R.sum(axis=0) - N * np.exp(log_w)
    z = (X[:, None, :] - means[None]) / np.exp(log_std)[None]
    g_means = np.sum(R[:, :, None] * z / np.exp(log_std)[None], axis=0)
    g_log_std = np.sum(R[:, :, None] * (z**2 - 1), axis=0)
    return -np.concatenate([g_logits, g_means.ravel(), g_log_std.ravel()])


def fit(X, K, seed=0):
    rng = np.random.RandomState(seed)
    D = X.shape[1]
    theta = np.concatenate([np.zeros(K), X[rng.choice(len(X), K, replace=False)].ravel(), np.zeros(K * D)])
    return minimize(neg_log_likelihood, theta, args=(X, K), jac=neg_log_likelihood_grad, method="L-BFGS-B")


def mixture_logpdf_and_grad(x, weights, mus, sigmas):
    """
    1-D mixture: log p(x) for each x, and the gradients of their sum with
    respect to the means and standard deviations.
    """
    d = (x[:, None] - mus) / sigmas
    comp = weights / (sigmas * np.sqrt(2 * np.pi)) * np.exp(-0.5 * d**2)
    total = comp.sum(axis=1)
    r = comp / total[:, None]
    dmus = (r * d / sigmas).sum(axis=0)
    dsigmas = (r * d**2 / sigmas).sum(axis=0)
    return np.log(total), dmus, dsigmas
