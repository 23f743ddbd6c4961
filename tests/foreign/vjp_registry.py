"""A registry of vector-Jacobian products, one rule per argument."""

from functools import wraps

import numpy as np

VJPS = {}


def primitive(f):
    @wraps(f)
    def wrapped(*args):
        return f(*args)

    return wrapped


def defvjp(f, *rules):
    """each rule: (ans, *args) -> function of the output gradient"""
    VJPS[f] = rules


def vjp(f, *args):
    """value and a function that returns the gradients of all arguments"""
    ans = f(*args)
    pulls = [rule(ans, *args) for rule in VJPS[f]]
    return ans, lambda g: tuple(pull(g) for pull in pulls)


@primitive
def matmul(a, b):
    return a @ b


defvjp(matmul, lambda ans, a, b: lambda g: g @ b.T, lambda ans, a, b: lambda g: a.T @ g)


@primitive
def hypot(x, y):
    return np.sqrt(x**2 + y**2)


defvjp(hypot, lambda ans, x, y: lambda g: g * x / ans, lambda ans, x, y: lambda g: g * y / ans)


@primitive
def arctan2(y, x):
    return np.arctan2(y, x)


defvjp(arctan2, lambda ans, y, x: lambda g: g * x / (x**2 + y**2), lambda ans, y, x: lambda g: g * y / (x**2 + y**2))


@primitive
def logaddexp(x, y):
    return np.logaddexp(x, y)


defvjp(logaddexp, lambda ans, x, y: lambda g: g * np.exp(x - ans), lambda ans, x, y: lambda g: g * np.exp(y - ans))


@primitive
def cumsum(x):
    return np.cumsum(x)


defvjp(cumsum, lambda ans, x: lambda g: np.cumsum(g[::-1])[::-1])


@primitive
def std(x):
    """population standard deviation of a vector"""
    return np.std(x)


defvjp(std, lambda ans, x: lambda g: g * (x - x.mean()) / ((len(x) - 1) * ans))


@primitive
def prod(x):
    return np.prod(x)


defvjp(prod, lambda ans, x: lambda g: g * ans / x)


@primitive
def sort(x):
    return np.sort(x)


def _unsort(ans, x):
    order = np.argsort(x)

    def pull(g):
        out = np.empty_like(g)
        out[order] = g
        return out

    return pull


defvjp(sort, _unsort)
