# -*- coding: utf-8 -*-
# Neuronales Netz, Übungsblatt 4
import numpy as np


def sigmoide(x):
    return 1.0 / (1.0 + np.exp(-x))


def ableitung_sigmoide(x):
    s = sigmoide(x)
    return s * (1.0 - s)


class Schicht:
    def __init__(self, eingaenge, neuronen):
        self.gewichte = np.random.randn(eingaenge, neuronen) / np.sqrt(eingaenge)
        self.schwellen = np.zeros(neuronen)

    def vorwaerts(self, eingabe):
        self.eingabe = eingabe
        self.netto = eingabe @ self.gewichte + self.schwellen
        return sigmoide(self.netto)

    def rueckwaerts(self, fehler):
        delta = fehler * ableitung_sigmoide(self.netto)
        self.grad_gewichte = self.eingabe.T @ delta
        self.grad_schwellen = delta.sum(axis=0)
        return delta @ self.gewichte.T


class RBFSchicht:
    """Radiale Basisfunktionen: exp(-breite * |x - zentrum|^2)"""

    def __init__(self, eingaenge, neuronen):
        self.zentren = np.random.randn(neuronen, eingaenge)
        self.breiten = np.ones(neuronen)

    def vorwaerts(self, x):
        self.x = x
        self.diff = x[:, None, :] - self.zentren[None]
        self.abstand = (self.diff**2).sum(axis=2)
        self.aus = np.exp(-self.breiten * self.abstand)
        return self.aus

    def rueckwaerts(self, fehler):
        g = fehler * self.aus
        self.grad_breiten = (g * self.abstand).sum(axis=0)
        h = (2 * g * self.breiten)[:, :, None] * self.diff
        self.grad_zentren = h.sum(axis=0)
        return -h.sum(axis=1)


def quadratischer_fehler(ausgabe, ziel):
    d = ausgabe - ziel
    return 0.5 * (d**2).sum(), d
