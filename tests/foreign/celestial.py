"""
Functions of celestial mechanics and stellar physics with first derivatives, for
Newton iterations and least-squares fits. Units are cgs unless noted.
"""

import numpy as np

H = 6.62607015e-27  # erg s
C = 2.99792458e10  # cm / s
KB = 1.380649e-16  # erg / K


def kepler(E, e, M):
    """Kepler's equation. Returns f = E - e sin E - M and df/dE."""
    f = E - e * np.sin(E) - M
    dfdE = 1.0 - e * np.cos(E)
    return f, dfdE


def solve_kepler(M, e, tol=1e-13):
    E = M if e < 0.8 else np.pi
    for _ in range(50):
        f, dfdE = kepler(E, e, M)
        dE = f / dfdE
        E -= dE
        if abs(dE) < tol:
            break
    return E


def planck_nu(T, nu):
    """Spectral radiance B_nu(T) and dB/dT."""
    x = H * nu / (KB * T)
    B = 2 * H * nu**3 / C**2 / np.expm1(x)
    dBdT = B * x / T / (1 - np.exp(-x))
    return B, dBdT


def nfw_density(r, rho0, rs):
    """NFW profile and d rho / dr"""
    s = r / rs
    rho = rho0 / (s * (1 + s) ** 2)
    drho_dr = -rho0 / rs * (1 + 3 * s) / (s**2 * (1 + s) ** 3)
    return rho, drho_dr


def plummer_potential(r, GM=1.0, a=1.0):
    return -GM / np.sqrt(r**2 + a**2)


def plummer_dphi_dr(r, GM=1.0, a=1.0):
    return GM * r / (r**2 + a**2) ** 0.5 / (r**2 + a**2)


def sersic(r, Ie, re, n):
    """Sersic profile with b = 2 n - 1/3; returns I, dI/dr"""
    b = 2 * n - 1.0 / 3
    I = Ie * np.exp(-b * ((r / re) ** (1 / n) - 1))
    return I, -I * b / n * (r / re) ** (1 / n - 1)


def pair_energy(pos, eps=1.0, sigma=1.0):
    """Lennard-Jones energy of the points pos (N, 3)"""
    i, j = np.triu_indices(len(pos), 1)
    r2 = np.sum((pos[i] - pos[j]) ** 2, axis=1)
    s6 = (sigma**2 / r2) ** 3
    return np.sum(4 * eps * (s6**2 - s6))


def pair_forces(pos, eps=1.0, sigma=1.0):
    """Forces on the points: minus the gradient of pair_energy"""
    d = pos[:, None, :] - pos[None, :, :]
    r2 = np.sum(d**2, axis=-1)
    np.fill_diagonal(r2, 1.0)
    s6 = (sigma**2 / r2) ** 3
    mag = 24 * eps * (2 * s6**2 - s6) / r2
    np.fill_diagonal(mag, 0.0)
    return np.sum(mag[:, :, None] * d, axis=1)


def saha_ratio(T, chi):
    """~ T^1.5 exp(-chi / kT), chi in eV; returns the ratio and its logarithmic derivative dln/dlnT"""
    kT = 8.617333262e-5 * T
    y = T**1.5 * np.exp(-chi / kT)
    return y, 1.5 + chi / kT


def morse(r, D=1.0, a=1.0, r0=1.0):
    """V(r), V'(r), V''(r)"""
    u = np.exp(-a * (r - r0))
    V = D * (1 - u) ** 2
    dV = 2 * D * a * u * (1 - u)
    d2V = 2 * D * a**2 * u * (2 * u - 1)
    return V, dV, d2V
