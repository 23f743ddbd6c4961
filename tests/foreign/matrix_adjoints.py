"""Reverse-mode rules for some matrix functions.

The name of each rule is that of the function with `_adjoint` appended; a bar
marks the derivative of the objective with respect to that matrix.
"""

import numpy as np
from scipy.linalg import solve_triangular


def inv(A):
    return np.linalg.inv(A)


def inv_adjoint(A, Ybar):
    Y = np.linalg.inv(A)
    return -Y.T @ Ybar @ Y.T


def det(A):
    return np.linalg.det(A)


def det_adjoint(A, ybar):
    return ybar * np.linalg.det(A) * np.linalg.inv(A).T


def logdet(A):
    return np.linalg.slogdet(A)[1]


def logdet_adjoint(A, ybar):
    return ybar * np.linalg.inv(A).T


def solve(A, B):
    return np.linalg.solve(A, B)


def solve_adjoint(A, B, Xbar):
    X = np.linalg.solve(A, B)
    Bbar = np.linalg.solve(A, Xbar)
    Abar = -Bbar @ X.T
    return Abar, Bbar


def cholesky(A):
    """A symmetric positive definite; lower triangular factor"""
    return np.linalg.cholesky(A)


def cholesky_adjoint(A, Lbar):
    """symmetric Abar"""
    L = np.linalg.cholesky(A)
    P = np.tril(L.T @ np.tril(Lbar))
    P[np.diag_indices_from(P)] *= 0.5
    S = solve_triangular(L, P.T, lower=True, trans="T").T
    S = solve_triangular(L, S, lower=True, trans="T")
    return 0.5 * (S + S.T)


def quadratic_form(A, x):
    return x @ A @ x


def quadratic_form_adjoint(A, x, ybar):
    Abar = ybar * np.outer(x, x)
    xbar = ybar * 2 * A @ x
    return Abar, xbar


def trace_product(A, B):
    """tr(A B)"""
    return np.trace(A @ B)


def trace_product_adjoint(A, B, ybar):
    return ybar * B.T, ybar * A.T


def eigvalsh(A):
    return np.linalg.eigvalsh(A)


def eigvalsh_adjoint(A, wbar):
    """A symmetric"""
    _, V = np.linalg.eigh(A)
    return (V * wbar) @ V.T


def frobenius(A):
    return np.sqrt(np.sum(A * A))


def frobenius_adjoint(A, ybar):
    return ybar * A / frobenius(A)


def mvn_logpdf(x, mu, S):
    d = x - mu
    return -0.5 * (d @ np.linalg.solve(S, d) + np.linalg.slogdet(S)[1] + len(x) * np.log(2 * np.pi))


def mvn_logpdf_adjoint(x, mu, S, ybar):
    """gradients for x, mu and S (S symmetric)"""
    Si = np.linalg.inv(S)
    a = Si @ (x - mu)
    return -ybar * a, ybar * a, 0.5 * ybar * (np.outer(a, a) - Si)


def matrix_power3(A):
    return A @ A @ A


def matrix_power3_adjoint(A, Ybar):
    At = A.T
    return Ybar @ At @ At + At @ Ybar @ At + At @ At @ Ybar
