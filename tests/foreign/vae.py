# -*- coding: utf-8 -*-
"""
Variational autoencoder, numpy only.
encoder: x -> h -> mu, logvar ; decoder: z -> h -> x_hat (bernoulli)
"""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lrelu(x, alpha=0.01):
    return np.where(x > 0, x, alpha * x)


def dlrelu(x, alpha=0.01):
    return np.where(x > 0, 1.0, alpha)


class VAE(object):
    def __init__(self, input_dim=784, hidden_dim=128, nz=20, seed=None):
        rng = np.random.RandomState(seed)

        def init(n_in, n_out):
            return rng.randn(n_in, n_out) * np.sqrt(2.0 / n_in)

        self.nz = nz
        # encoder
        self.e_W0, self.e_b0 = init(input_dim, hidden_dim), np.zeros(hidden_dim)
        self.e_W_mu, self.e_b_mu = init(hidden_dim, nz), np.zeros(nz)
        self.e_W_logvar, self.e_b_logvar = init(hidden_dim, nz) * 0.1, np.zeros(nz)
        # decoder
        self.d_W0, self.d_b0 = init(nz, hidden_dim), np.zeros(hidden_dim)
        self.d_W1, self.d_b1 = init(hidden_dim, input_dim), np.zeros(input_dim)

    def encode(self, x):
        self.x = x
        self.e_a0 = x.dot(self.e_W0) + self.e_b0
        self.e_h0 = lrelu(self.e_a0)
        self.mu = self.e_h0.dot(self.e_W_mu) + self.e_b_mu
        self.logvar = self.e_h0.dot(self.e_W_logvar) + self.e_b_logvar
        return self.mu, self.logvar

    def sample(self):
        self.eps = np.random.standard_normal(size=self.mu.shape)
        self.z = self.mu + np.exp(self.logvar * 0.5) * self.eps
        return self.z

    def decode(self, z):
        self.z = z
        self.d_a0 = z.dot(self.d_W0) + self.d_b0
        self.d_h0 = lrelu(self.d_a0)
        self.x_hat = sigmoid(self.d_h0.dot(self.d_W1) + self.d_b1)
        return self.x_hat

    def forward(self, x):
        self.encode(x)
        self.sample()
        return self.decode(self.z)

    def loss(self, x):
        """negative ELBO of the batch (mean over the examples)"""
        y = self.forward(x)
        bce = -np.sum(x * np.log(y) + (1 - x) * np.log(1 - y))
        kl = -0.5 * np.sum(1 + self.logvar - self.mu**2 - np.exp(self.logvar))
        return (bce + kl) / x.shape[0]

    def backward(self):
        """gradients of loss(x) for the x that was last seen"""
        m = self.x.shape[0]
        g = {}
        # decoder
        dout = (self.x_hat - self.x) / m
        g["d_W1"] = self.d_h0.T.dot(dout)
        g["d_b1"] = dout.sum(axis=0)
        dh = dout.dot(self.d_W1.T) * dlrelu(self.d_a0)
        g["d_W0"] = self.z.T.dot(dh)
        g["d_b0"] = dh.sum(axis=0)
        dz = dh.dot(self.d_W0.T)

        # reparametrization + KL
        dmu = dz + self.mu / m
        dlogvar = dz * self.eps * 0.5 * np.exp(self.logvar * 0.5) + 0.5 * (np.exp(self.logvar) - 1) / m

        # encoder
        g["e_W_mu"] = self.e_h0.T.dot(dmu)
        g["e_b_mu"] = dmu.sum(axis=0)
        g["e_W_logvar"] = self.e_h0.T.dot(dlogvar)
        g["e_b_logvar"] = dlogvar.sum(axis=0)
        dh = (dmu.dot(self.e_W_mu.T) + dlogvar.dot(self.e_W_logvar.T)) * dlrelu(self.e_a0)
        g["e_W0"] = self.x.T.dot(dh)
        g["e_b0"] = dh.sum(axis=0)
        self.grads = g
        return g
