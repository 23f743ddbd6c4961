"""Linear-chain conditional random field for one sentence."""

import numpy as np


def logsumexp(a, axis=None):
    m = np.max(a, axis=axis, keepdims=True)
    s = m + np.log(np.sum(np.exp(a - m), axis=axis, keepdims=True))
    return s.squeeze() if axis is None else np.squeeze(s, axis=axis)


def forward_messages(emissions, transitions):
    T, K = emissions.shape
    alpha = np.empty((T, K))
    alpha[0] = emissions[0]
    for t in range(1, T):
        alpha[t] = emissions[t] + logsumexp(alpha[t - 1][:, None] + transitions, axis=0)
    return alpha


def backward_messages(emissions, transitions):
    T, K = emissions.shape
    beta = np.zeros((T, K))
    for t in range(T - 2, -1, -1):
        beta[t] = logsumexp(transitions + (emissions[t + 1] + beta[t + 1])[None, :], axis=1)
    return beta


def crf_nll(emissions, transitions, tags):
    """
    emissions: (T, K) scores, transitions: (K, K) from row to column, tags: (T,) int

    returns the negative log-likelihood of tags and its gradients for
    emissions and transitions
    """
    T, K = emissions.shape
    alpha = forward_messages(emissions, transitions)
    beta = backward_messages(emissions, transitions)
    log_z = logsumexp(alpha[-1])

    score = emissions[np.arange(T), tags].sum() + transitions[tags[:-1], tags[1:]].sum()
    nll = log_z - score

    d_emissions = np.exp(alpha + beta - log_z)
    d_emissions[np.arange(T), tags] -= 1

    d_transitions = np.zeros_like(transitions)
    for t in range(T - 1):
        d_transitions += np.exp(alpha[t][:, None] + transitions + (emissions[t + 1] + beta[t + 1])[None, :] - log_z)
        d_transitions[tags[t], tags[t + 1]] -= 1
    return nll, d_emissions, d_transitions


def viterbi(emissions, transitions):
    T, K = emissions.shape
    best = emissions[0].copy()
    back = []
    for t in range(1, T):
        scores = best[:, None] + transitions
        back.append(scores.argmax(0))
        best = scores.max(0) + emissions[t]
    path = [int(best.argmax())]
    for bp in reversed(back):
        path.append(int(bp[path[-1]]))
    return path[::-1]


def structured_perceptron_loss(emissions, transitions, tags):
    """max-margin without margin: best score minus gold score"""
    T = len(tags)
    path = np.array(viterbi(emissions, transitions))
    tags = np.asarray(tags)

    def score(p):
        return emissions[np.arange(T), p].sum() + transitions[p[:-1], p[1:]].sum()

    d_e, d_t = np.zeros_like(emissions), np.zeros_like(transitions)
    d_e[np.arange(T), path] += 1
    d_e[np.arange(T), tags] -= 1
    np.add.at(d_t, (path[:-1], path[1:]), 1)
    np.add.at(d_t, (tags[:-1], tags[1:]), -1)
    return score(path) - score(tags), d_e, d_t
