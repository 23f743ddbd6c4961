# -*- coding: utf-8 -*-
import numpy as np


class Flatten:
    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad):
        return grad.reshape(self.shape)


class SplitHeads:
    """(B, T, C) -> (B, heads, T, C // heads)"""

    def __init__(self, heads):
        self.heads = heads

    def forward(self, x):
        B, T, C = x.shape
        self.shape = x.shape
        return x.reshape(B, T, self.heads, C // self.heads).transpose(0, 2, 1, 3)

    def backward(self, grad):
        return grad.reshape(self.shape)


class MergeHeads:
    def forward(self, x):
        B, H, T, D = x.shape
        self.shape = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, H * D)

    def backward(self, grad):
        B, H, T, D = self.shape
        return grad.reshape(B, T, H, D).transpose(0, 2, 1, 3)


class ToChannelsFirst:
    """NHWC -> NCHW"""

    def forward(self, x):
        self.n, self.h, self.w, self.c = x.shape
        return np.transpose(x, (0, 3, 1, 2))

    def backward(self, grad):
        return np.reshape(grad, (self.n, self.h, self.w, self.c))


class PixelShuffle:
    def __init__(self, r):
        self.r = r

    def forward(self, x):
        N, C, H, W = x.shape
        r = self.r
        self.shape = x.shape
        return x.reshape(N, C // r**2, r, r, H, W).transpose(0, 1, 4, 2, 5, 3).reshape(N, C // r**2, H * r, W * r)

    def backward(self, grad):
        N, C, H, W = self.shape
        r = self.r
        g = grad.reshape(N, C // r**2, H, r, W, r)
        return g.transpose(0, 1, 3, 5, 2, 4).reshape(self.shape)


class Upsample2x:
    """nearest neighbour"""

    def forward(self, x):
        return x.repeat(2, axis=2).repeat(2, axis=3)

    def backward(self, grad):
        N, C, H, W = grad.shape
        return grad.reshape(N, C, H // 2, 2, W // 2, 2).sum(axis=(3, 5))


class Pad:
    def __init__(self, p):
        self.p = p

    def forward(self, x):
        p = self.p
        return np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), mode="reflect")

    def backward(self, grad):
        p = self.p
        return grad[:, :, p:-p, p:-p]


class GlobalAveragePool:
    def forward(self, x):
        self.shape = x.shape
        return x.mean(axis=(2, 3))

    def backward(self, grad):
        N, C, H, W = self.shape
        return np.broadcast_to(grad[:, :, None, None] / (H * W), self.shape)
