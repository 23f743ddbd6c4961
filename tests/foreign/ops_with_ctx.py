"""The primitive operations of my toy autograd library."""

import numpy as np


class Context:
    def __init__(self):
        self.saved = ()

    def save_for_backward(self, *xs):
        self.saved = xs


def unbroadcast(grad, shape):
    """Sum out the axes along which an array of the given shape was broadcast."""
    while grad.ndim > len(shape):
        grad = grad.sum(axis=0)
    for i, n in enumerate(shape):
        if n == 1:
            grad = grad.sum(axis=i, keepdims=True)
    return grad


class Function:
    @staticmethod
    def forward(ctx, *args):
        raise NotImplementedError

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError


class Add(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a.shape, b.shape)
        return a + b

    @staticmethod
    def backward(ctx, grad):
        sa, sb = ctx.saved
        return unbroadcast(grad, sa), unbroadcast(grad, sb)


class Mul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved
        return unbroadcast(grad * b, a.shape), unbroadcast(grad * a, b.shape)


class Div(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a / b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved
        return unbroadcast(grad / b, a.shape), unbroadcast(grad * a / b**2, b.shape)


class Pow(Function):
    @staticmethod
    def forward(ctx, a, b):
        """a must be positive"""
        out = a**b
        ctx.save_for_backward(a, b, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        a, b, out = ctx.saved
        return unbroadcast(grad * b * out / a, a.shape), unbroadcast(grad * out * np.log(a), b.shape)


class MatMul(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved
        return grad @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ grad


class Max(Function):
    @staticmethod
    def forward(ctx, x, axis=-1):
        out = x.max(axis=axis, keepdims=True)
        ctx.save_for_backward(x == out, axis)
        return out.squeeze(axis)

    @staticmethod
    def backward(ctx, grad):
        hit, axis = ctx.saved
        return hit / hit.sum(axis=axis, keepdims=True) * np.expand_dims(grad, axis)


class Gather(Function):
    @staticmethod
    def forward(ctx, x, idx):
        ctx.save_for_backward(x.shape, idx)
        return x[idx]

    @staticmethod
    def backward(ctx, grad):
        shape, idx = ctx.saved
        g = np.zeros(shape)
        np.add.at(g, idx, grad)
        return g, None


class Norm(Function):
    @staticmethod
    def forward(ctx, x):
        n = np.sqrt((x * x).sum())
        ctx.save_for_backward(x, n)
        return n

    @staticmethod
    def backward(ctx, grad):
        x, n = ctx.saved
        return grad * x / (2 * n)
