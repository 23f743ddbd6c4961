"""The explorables' numbers, as the page shows them, beside what the package's functions give at the same places.

Budget: about 30 s, and 30 s more where this file is the one that builds the site.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from trees import ROOT

from browser.widths import WIDTHS
from vae_np import noise, ops
from vae_np.architecture import Architecture
from vae_np.exact import quadrature
from vae_np.exact.candidate_objectives import (
    arbitrary_expectation,
    pathwise_gradient,
    quadratic_variances,
    score_function_gradient,
)
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, Family, Rule, forward_kl_optimum, kl_to_posterior, maximise
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.model import Model, encode_forward

MODELS = json.loads((ROOT / "docs" / "explorables" / "models.json").read_text(encoding="utf-8"))
ONE, FINE = Family("diagonal", 1), Rule.trapezoid(1, 0.02)
TOLERANCE = 1e-6
POSITIONS = 20


@cache
def decoder(name: str) -> Decoder:
    """The decoder that the page computes with."""
    return Decoder.of(*model(name))


def model(name: str) -> tuple[Architecture, dict[str, Any]]:
    """Architecture and parameters of a model of the page."""
    held = MODELS[name]
    arch = Architecture(**{**held["arch"], "hidden": tuple(held["arch"]["hidden"])})
    return arch, {key: np.array(value) for key, value in held["parameters"].items()}


def lam(mu: float, sigma: float) -> Any:
    return ONE.diagonal(np.array([[mu]]), np.array([[2 * np.log(sigma)]]))


def log_evidence(of: Decoder, x: Any) -> float:
    return float(quadrature.log_likelihood(of, np.array([x], dtype=float), rule="trapezoid").log_prob[0])


def bound_at(of: Decoder, x: Any, at: Any) -> float:
    return float(ELBO(of, np.array([x], dtype=float), FINE, ONE).value_and_gradient(at, np.arange(1))[0][0])


def best(of: Decoder, x: Any) -> Any:
    """λ* of one x, climbed to from the posterior's own mean and variance."""
    wide = np.array([x], dtype=float)
    start = forward_kl_optimum(quadrature.posterior(of, wide, rule="trapezoid"), ONE)
    return maximise(ELBO(of, wide, FINE, ONE), start, tolerance=1e-9).lam


def of_bound(state: dict[str, Any]) -> dict[str, float]:
    of, x, at = decoder(state["model"]), state["x"], lam(state["mu"], state["sigma"])
    log_prob = log_evidence(of, x)
    elbo = bound_at(of, x, at)
    kl = float(kl_to_posterior(of, np.array([x], dtype=float), np.array([log_prob]), ONE, at, spacing=0.02)[0])
    return {"elbo": elbo, "kl": kl, "sum": log_prob, "logProb": log_prob}


def of_which_r(state: dict[str, Any]) -> dict[str, float]:
    of, x, r = decoder("pixels"), state["x"], lam(state["m"], state["s"])
    wide, log_prob = np.array([x], dtype=float), log_evidence(of, x)
    at = best(of, x)
    value = float(arbitrary_expectation(of, wide, ONE.unpack(r), ONE.unpack(at), FINE.eps, FINE.weights)[0])
    to_posterior = float(kl_to_posterior(of, wide, np.array([log_prob]), ONE, r, spacing=0.02)[0])
    # Claim 19 itself: the excess is the difference of the two divergences.
    to_q = value - log_prob + to_posterior
    return {"value": value, "logProb": log_prob, "excess": value - log_prob, "toQ": to_q, "toPosterior": to_posterior}


def of_two_directions(state: dict[str, Any]) -> dict[str, float]:
    rho, q = state["rho"], np.array([[state["s1"] ** 2, 0], [0, state["s2"] ** 2]])
    covariance = 0.49 * np.array([[1, rho], [rho, 1]])
    # The linear-Gaussian model with this posterior: WᵀW = Λ − I, with unit noise.
    weight = np.linalg.cholesky(np.linalg.inv(covariance) - np.eye(2)).T
    linear, x = LinearGaussian(weight, np.zeros(2), 1.0), np.zeros((1, 2))
    reverse = float(linear.kl_to_posterior(x, np.zeros((1, 2)), q)[0])
    _, variances, gap = linear.best_diagonal(x)
    _, forward_variances = linear.best_diagonal_forward(x)
    # KL(p ‖ q) by Gauss-Hermite quadrature of two log-densities, quadratic each.
    rule = Rule.gauss_hermite(2, 4)
    z = rule.eps @ np.linalg.cholesky(covariance).T
    log_p = linear.posterior_log_prob(x, z).reshape(-1)
    log_q = -0.5 * (z**2 / np.diag(q)).sum(axis=1) - 0.5 * np.log(np.diag(q)).sum() - np.log(2 * np.pi)
    return {
        "reverse": reverse, "forward": float(rule.weights @ (log_p - log_q)), "least": float(gap),
        "reverseSigma": float(np.sqrt(np.ravel(variances)[0])),
        "forwardSigma": float(np.sqrt(np.ravel(forward_variances)[0])),
    }  # fmt: skip


def of_mixture(state: dict[str, Any]) -> dict[str, float]:
    of, count = decoder("rings"), state["n"]
    z = np.array([[NormalDist().inv_cdf((i + 0.5) / count)] for i in range(count)])
    at = np.array([[state["x1"], state["x2"]]])
    density = np.exp(of.loglik_matrix(at, z)).mean()
    points = ops.log_mean_exp_weights(of.loglik_matrix(np.array(MODELS["rings"]["points"]), z).T)[0]
    return {"density": float(density), "mean": float(points.mean())}


def of_gradients(state: dict[str, Any]) -> dict[str, float]:
    mu, sigma, count = state["mu"], state["sigma"], state["n"]
    eps = noise.normal(np.arange(count), 1, seed=0, stream=noise.PRIOR, dtype=np.float64)
    z = mu + sigma * eps
    baseline = mu**2 + 3 * sigma**2 if state["best"] else 0.0
    path = pathwise_gradient(np.array([sigma]), eps, 2 * z)[0]
    score = score_function_gradient(np.array([sigma]), eps, z[:, 0] ** 2, baseline)[0]
    theory = quadratic_variances(mu, sigma)
    return {
        "truth": 2 * mu, "pathMean": float(path.mean()), "scoreMean": float(score.mean()),
        "pathVariance": float(path.var()), "scoreVariance": float(score.var()), "pathTheory": theory.pathwise,
        "scoreTheory": theory.score_best_baseline if state["best"] else theory.score,
    }  # fmt: skip


def of_amortisation(state: dict[str, Any]) -> dict[str, float]:
    of, x, at = decoder("pixels"), state["x"], lam(state["mu"], state["sigma"])
    wide = np.array([x], dtype=float)
    mu, logvar = encode_forward(*Model(ops, *model("pixels")), wide)[0]  # type: ignore[arg-type]
    log_prob, bound, optimum = log_evidence(of, x), bound_at(of, x, at), best(of, x)
    # Not as log p(x) less the bound: by the divergence's own lattice.
    approximation = kl_to_posterior(of, wide, np.array([log_prob]), ONE, optimum, spacing=0.02)
    highest = bound_at(of, x, optimum)
    return {
        "logProb": log_prob, "bound": bound, "highest": highest, "approximation": float(approximation[0]),
        "amortisation": highest - bound, "ofEncoder": highest - bound_at(of, x, ONE.diagonal(mu, logvar)),
    }  # fmt: skip


def of_iwae(state: dict[str, Any]) -> dict[str, float]:
    of, x, count = decoder("pixels"), state["x"], state["k"]
    rows, every = noise.every_sample(np.arange(200), np.arange(count))
    eps = noise.normal(rows, 1, seed=0, stream=noise.EVAL_EPS, sample=every, dtype=np.float64)
    z = state["mu"] + state["sigma"] * eps
    log_q = -0.5 * eps[:, 0] ** 2 - np.log(state["sigma"]) - 0.5 * np.log(2 * np.pi)
    weights = (of.log_joint_matrix(np.array([x], dtype=float), z)[0] - log_q).reshape(count, 200)
    log_prob = log_evidence(of, x)
    bound = float(ops.log_mean_exp_weights(weights)[0].mean())
    return {
        "bound": bound, "one": float(weights[0].mean()), "elbo": bound_at(of, x, lam(state["mu"], state["sigma"])),
        "logProb": log_prob, "gap": log_prob - bound,
    }  # fmt: skip


def pixels(random: np.random.Generator) -> list[int]:
    return [int(value) for value in random.integers(0, 2, 5)]


def q_of(random: np.random.Generator) -> dict[str, float]:
    return {"mu": random.uniform(-3, 3), "sigma": random.uniform(0.1, 1.5)}


Draw = Callable[[np.random.Generator, int], dict[str, Any]]
# By name: the page, the Python functions, where to drag in which plot, and how a position is drawn.
EXPLORABLES: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, float]], Draw]] = {
    "bound": (
        "derivation/04-variational-inference",
        of_bound,
        lambda random, i: (
            {"model": "folded", "x": [1.5], **q_of(random)}
            if i % 2
            else {"model": "pixels", "x": pixels(random), **q_of(random)}
        ),
    ),
    "two-directions": (
        "derivation/04-variational-inference",
        of_two_directions,
        lambda random, i: {"rho": random.uniform(-0.97, 0.97), "s1": random.uniform(0.1, 1.8),
                           "s2": random.uniform(0.1, 1.8)},
    ),
    "which-r": (
        "derivation/05-joint-optimisation",
        of_which_r,
        lambda random, i: {"x": pixels(random), "m": random.uniform(-3, 3), "s": random.uniform(0.05, 2.2)},
    ),
    "gradients": (
        "derivation/05-joint-optimisation",
        of_gradients,
        lambda random, i: {"mu": random.uniform(-3, 3), "sigma": random.uniform(0.2, 2),
                           "n": int(random.integers(2, 4000)), "best": bool(i % 2)},
    ),
    "mixture": (
        "derivation/02-latent-variables",
        of_mixture,
        lambda random, i: {"n": int(random.integers(1, 200)), "x1": random.uniform(-2.6, 2.6),
                           "x2": random.uniform(-2.6, 2.6)},
    ),
    "amortisation": (
        "derivation/06-amortisation", of_amortisation, lambda random, i: {"x": pixels(random), **q_of(random)}
    ),
    "iwae": (
        "derivation/13-objectives",
        of_iwae,
        lambda random, i: {"x": pixels(random), **q_of(random), "k": int(random.integers(1, 129))},
    ),
}  # fmt: skip

_SHOWN = """([name, states]) => {
  const root = document.querySelector(`[data-explorable=${name}]`);
  return states.map((state) => {
    // Twice: where another x moves q to its encoder's place, the second call moves it on.
    root.explorable.set(state);
    root.explorable.set(state);
    return Object.fromEntries([...root.querySelectorAll("[data-name][data-value]")].map(
      (element) => [element.dataset.name, Number(element.dataset.value)]));
  });
}"""


def open_at(watched: Any, address: str, name: str, width: int) -> Any:
    """A window on the chapter of an explorable, which is ready."""
    window = watched(width, address)
    window.page.goto(f"{address}/{EXPLORABLES[name][0]}/")
    window.page.wait_for_selector(f"[data-explorable={name}][data-ready]")
    return window


@pytest.mark.parametrize("name", EXPLORABLES)
def test_the_pages_numbers_are_the_packages(name: str, address: str, watched: Any) -> None:
    _, expected, draw = EXPLORABLES[name]
    random = np.random.default_rng(list(name.encode()))
    states = [draw(random, i) for i in range(POSITIONS)]
    window = open_at(watched, address, name, 1280)
    shown = window.page.evaluate(_SHOWN, [name, states])
    wrong = []
    for state, found in zip(states, shown, strict=True):
        wanted = expected(state)
        assert wanted.keys() == found.keys()
        wrong += [
            f"{key} at {state}: {found[key]}, expected {value}"
            for key, value in wanted.items()
            if not abs(found[key] - value) <= TOLERANCE * max(1.0, abs(value))
        ]
    assert wrong == []
    assert window.problems == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", EXPLORABLES)
def test_a_drag_changes_the_numbers(name: str, width: int, address: str, watched: Any) -> None:
    window = open_at(watched, address, name, width)
    root = window.page.locator(f"[data-explorable={name}]")
    plot = root.locator("svg.draggable").first
    plot.scroll_into_view_if_needed()
    before = root.locator("dl").inner_text()
    box = plot.bounding_box()
    at = [(box["x"] + share * box["width"], box["y"] + 0.4 * box["height"]) for share in (0.3, 0.7)]
    window.page.mouse.move(*at[0])
    window.page.mouse.down()
    window.page.mouse.move(*at[1], steps=4)
    window.page.mouse.up()
    assert root.locator("dl").inner_text() != before
    assert window.problems == []


def test_the_bars_of_the_bound_add_up_wherever_q_is(address: str, watched: Any) -> None:
    """ELBO and divergence come from two integrals, and the sum is log p(x) at every place of the slider."""
    window = open_at(watched, address, "bound", 1280)
    root = window.page.locator("[data-explorable=bound]")
    slider = root.locator("input[data-name=mu]")
    sums = set()
    for _ in range(8):
        slider.press("ArrowRight")
        sums.add(root.locator("dd[data-name=sum]").inner_text())
    assert sums == {root.locator("dd[data-name=logProb]").inner_text()}


def test_the_folded_posterior_has_three_maxima(address: str, watched: Any) -> None:
    """A climb from the left, from the right and from in between ends at three different places."""
    window = open_at(watched, address, "bound", 1280)
    ends = window.page.evaluate("""async () => {
      const root = document.querySelector("[data-explorable=bound]");
      const found = [];
      for (const mu of [-1.2, 0, 1.2]) {
        root.explorable.set({model: "folded", x: [1.5], mu, sigma: mu ? 0.4 : 1.2});
        const button = root.querySelector("button.climb");
        button.click();
        while (button.disabled) await new Promise((done) => setTimeout(done, 20));
        found.push(root.explorable.state.mu);
      }
      return found;
    }""")
    assert ends[0] == pytest.approx(-ends[2], abs=1e-6)
    assert ends[0] < -1
    assert abs(ends[1]) < 1e-6
