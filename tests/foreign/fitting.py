"""chi-square fits of light curves and spectra, with gradients for the minimizer"""

import numpy as np


def gaussian_line(x, theta):
    """theta = (amplitude, centre, width, continuum); returns model and its gradient (4, N)"""
    A, mu, s, c = theta
    u = (x - mu) / s
    e = np.exp(-0.5 * u**2)
    return A * e + c, np.array([e, A * e * u / s, A * e * u**2 / s, np.ones_like(x)])


def lorentzian_line(x, theta):
    """theta = (amplitude, centre, half width)"""
    A, x0, g = theta
    d = x - x0
    q = g**2 / (d**2 + g**2)
    return A * q, np.array([q, 2 * A * q * d / (d**2 + g**2), 2 * A * d**2 * g / (d**2 + g**2)])


def chi2(theta, x, y, sigma):
    m, _ = gaussian_line(x, theta)
    return np.sum(((y - m) / sigma) ** 2)


def dchi2(theta, x, y, sigma):
    m, dm = gaussian_line(x, theta)
    return -2 * dm @ ((y - m) / sigma**2)


def sinusoid_rv(t, K, P, phi, gamma):
    """radial velocity of a circular orbit, with d/dK, d/dP, d/dphi, d/dgamma"""
    a = 2 * np.pi * t / P + phi
    v = K * np.cos(a) + gamma
    return v, (np.cos(a), K * np.sin(a) * 2 * np.pi * t / P**2, -K * np.sin(a), np.ones_like(t))


def power_law(E, norm, index):
    """norm * E^-index; returns flux and the gradients for norm and index"""
    f = norm * E**-index
    return f, f / norm, -f * np.log(E)


def blackbody_ratio(T, l1, l2):
    """log ratio of the radiances at two wavelengths (cm), Wien's approximation, and d/dT"""
    k = 1.438776877
    return 5 * np.log(l2 / l1) - k / T * (1 / l1 - 1 / l2), k / T**2 * (1 / l1 - 1 / l2)


def loglike_poisson(theta, t, n):
    """exponential decay with background: rate = exp(a - b t) + exp(c); counts n. Returns logL, grad"""
    a, b, c = theta
    s, bg = np.exp(a - b * t), np.exp(c)
    r = s + bg
    w = n / r - 1
    return np.sum(n * np.log(r) - r), np.array([np.sum(w * s), -np.sum(w * s * t), np.sum(w)])
