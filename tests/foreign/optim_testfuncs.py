"""Test functions for optimizers."""

import numpy as np


def f(x):
    """Rosenbrock"""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def grad_f(x):
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return g


def himmelblau(p):
    x, y = p
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def himmelblau_jac(p):
    x, y = p
    a, b = x**2 + y - 11, x + y**2 - 7
    return np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def beale(p, return_grad=False):
    x, y = p
    r = np.array([1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3])
    val = r @ r
    if not return_grad:
        return val
    J = np.array([[y - 1, x], [y**2 - 1, 2 * x * y], [y**3 - 1, 3 * x * y**2]])
    return val, 2 * J.T @ r


def rastrigin(x, A=10.0):
    return A * x.size + np.sum(x**2 - A * np.cos(2 * np.pi * x))


def rastrigin_gradient(x, A=10.0):
    return 2 * x + A * np.sin(2 * np.pi * x)


class Quadratic:
    """0.5 x'Ax - b'x, A symmetric"""

    def __init__(self, A, b):
        self.A = 0.5 * (A + A.T)
        self.b = b

    def __call__(self, x):
        return 0.5 * x @ self.A @ x - self.b @ x

    def grad(self, x):
        return self.A @ x - self.b

    def hess(self, x):
        return self.A


class LogBarrier:
    """-sum log(b - A x)"""

    def __init__(self, A, b):
        self.A, self.b = A, b

    def value(self, x):
        return -np.sum(np.log(self.b - self.A @ x))

    def gradient(self, x):
        return self.A.T @ (1 / (self.b - self.A @ x))


def fun(x, A, y):
    """residuals and Jacobian for Gauss-Newton: exponential decay A exp(-x0 t) + x1"""
    t = np.arange(len(y))
    e = A * np.exp(-x[0] * t)
    return e + x[1] - y, np.column_stack([-t * e, np.ones(len(y))])
