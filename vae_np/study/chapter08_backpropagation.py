"""Chapter 8: the gradient by hand beside its numbers. It has no numbered claims, but a figure and notes. [D29] [D30]"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import normal_kl_backward, normal_kl_forward
from vae_np.elbo import FORMS, elbo_backward, elbo_forward
from vae_np.model import initialise
from vae_np.parameters import Parameters
from vae_np.study import models
from vae_np.study.claims import Claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The gradient by hand agrees with its numbers to the last digits; two kinds of mistake, one of which hides."

CHAPTER = 8
ARCH = Architecture(features=12, latent=3, hidden=(8,), activation="tanh")
BATCH, SAMPLES = 5, 2
# The steps of the checks of every derivative, and those that are compared along random directions.
DIFFERENCE, COMPLEX = 1e-5, 1e-30
DIFFERENCES, COMPLEXES = 10.0 ** np.arange(-13, 0), 10.0 ** np.arange(-30, 0)
DIRECTIONS = 20


@cache
def start(seed: int) -> tuple[Parameters, Array, Array]:
    """Parameters of a small VAE, binary x (B, D) and noise (S·B, K)."""
    random = models.generator(seed, CHAPTER)
    x = random.integers(0, 2, (BATCH, ARCH.features)).astype(np.float64)
    parameters = initialise(ARCH, seed=seed, dtype=np.float64)
    parameters.flat[...] *= 2
    return parameters, x, random.standard_normal((SAMPLES * BATCH, ARCH.latent))


def gradient(seed: int, form: str = "analytic", with_ops: ModuleType = ops) -> Parameters:
    """The loss's gradient with respect to every parameter, by hand."""
    parameters, x, eps = start(seed)
    found = parameters.zeros_like()
    _, kept = elbo_forward(with_ops, ARCH, parameters, x, eps, form=form)
    elbo_backward(with_ops, ARCH, kept, found)
    return found


def _loss(parameters: Parameters, x: Array, eps: Array, form: str, with_ops: ModuleType) -> Any:
    return elbo_forward(with_ops, ARCH, parameters, x, eps, form=form)[0].loss()


def slope(seed: int, direction: Parameters, h: float, form: str, with_ops: ModuleType, *, is_complex: bool) -> float:
    """The loss's slope along a direction: its imaginary part after an imaginary step, or a central difference. [D30]"""
    parameters, x, eps = start(seed)

    def at(step: complex) -> Any:
        moved = parameters.astype(np.complex128 if is_complex else np.float64)
        for name, view in moved.items():
            view += step * direction[name]
        return _loss(moved, x, eps, form, with_ops)

    return float(at(1j * h).imag / h if is_complex else (at(h) - at(-h)) / (2 * h))


def numeric(seed: int, form: str = "analytic", with_ops: ModuleType = ops, *, is_complex: bool = True) -> Parameters:
    """The loss's derivative in every parameter, one after the other, by numbers alone."""
    parameters = start(seed)[0]
    found, direction = parameters.zeros_like(), parameters.zeros_like()
    for name, view in found.items():
        for index in np.ndindex(view.shape):
            direction[name][index] = 1
            step = COMPLEX if is_complex else DIFFERENCE
            view[index] = slope(seed, direction, step, form, with_ops, is_complex=is_complex)
            direction[name][index] = 0
    return found


def errors(by_hand: Parameters, by_numbers: Parameters) -> dict[str, float]:
    """For each tensor the largest distance over its largest derivative."""
    return {
        name: float(np.abs(by_hand[name] - by_numbers[name]).max() / np.abs(by_numbers[name]).max()) for name in by_hand
    }


def planted(**changed: Callable[..., Any]) -> ModuleType:
    """The package's operations with some of them replaced."""
    module = ModuleType("planted")
    vars(module).update({**vars(ops), **changed})
    return module


def _quarter_backward(dout: tuple[Array, Array], kept: Any) -> tuple[Array, Array]:
    """¼ where ½ is due in the KL's gradient."""
    dmu, dlogvar = ops.reparam_kl_backward(dout, kept)
    return dmu, dlogvar - 0.25 * dout[1][:, None] * np.expm1(kept[1])


def _variance_forward(mu: Array, logvar: Array, eps: Array) -> tuple[tuple[Array, Array], Any]:
    """The noise scaled with the variance instead of the standard deviation."""
    stacked = eps.reshape(-1, *mu.shape)
    kl, kept = normal_kl_forward(mu, logvar)
    return ((mu + np.exp(logvar) * stacked).reshape(eps.shape), kl), (stacked, logvar, kept)


def _variance_backward(dout: tuple[Array, Array], kept: Any) -> tuple[Array, Array]:
    """The gradient of that, without a mistake."""
    eps, logvar, of_kl = kept
    dz = dout[0].reshape(eps.shape)
    dmu, dlogvar = normal_kl_backward(dout[1], of_kl)
    return dmu + dz.sum(axis=0), dlogvar + np.exp(logvar) * (dz * eps).sum(axis=0)


QUARTER = planted(reparam_kl_backward=_quarter_backward)
VARIANCE = planted(reparam_kl_forward=_variance_forward, reparam_kl_backward=_variance_backward)


@cache
def checked(seed: int) -> dict[str, dict[str, float]]:
    """Errors of each tensor, for both forms by complex steps and for one by differences, and for both mistakes."""
    found = {form: errors(gradient(seed, form), numeric(seed, form)) for form in FORMS}
    found["differences"] = errors(gradient(seed), numeric(seed, is_complex=False))
    for name, with_ops in (("quarter", QUARTER), ("variance", VARIANCE)):
        found[name] = errors(gradient(seed, with_ops=with_ops), numeric(seed, with_ops=with_ops))
    return found


def spread(seed: int, with_ops: ModuleType, logvar: float = 1.0) -> float:
    """The variance of 100,000 draws of z where log σ² = 1: what a check of the gradient never looks at."""
    eps = models.generator(seed, CHAPTER, 1).standard_normal((100_000, 1))
    (z, _), _ = with_ops.reparam_kl_forward(np.zeros((1, 1)), np.full((1, 1), logvar), eps)
    return float(z.var())


def figures(seed: int) -> dict[str, Figure]:
    """How good each check is by its step, what it says of each tensor, and two mistakes."""
    from vae_np.pictures.drawing import blank_figure, head

    figure = blank_figure(1320, 450)
    by_step, by_tensor, mistakes = figure.subplots(1, 3)
    _draw_steps(by_step, seed)
    _draw_tensors(by_tensor, seed)
    _draw_mistakes(mistakes, seed)
    head(by_step, "Two checks, by their step")
    head(by_tensor, "Each tensor's derivatives")
    head(mistakes, "Two planted mistakes")
    return {"08-checked-by-numbers": figure}


def notes(seed: int) -> list[str]:
    """How many derivatives agree, how well, and what the checks say of two mistakes."""
    found, count = checked(seed), start(seed)[0].count
    analytic, joint, differences, quarter, variance = (
        max(found[name].values()) for name in (*FORMS, "differences", "quarter", "variance")
    )
    return [
        f"All {count} derivatives: complex steps differ from those by hand by at most {analytic:.0e} of their tensor's "
        f"largest, and by {joint:.0e} in the joint form; central differences by {differences:.0e}.",
        f"¼ for ½ in the KL's gradient: {quarter:.0%} off. The noise scaled by e^v, forward and backward: "
        f"{variance:.0e}, so the gradient is right, and z has the variance {spread(seed, VARIANCE):.2f} where "
        f"log σ² = 1, and not {spread(seed, ops):.2f}.",
    ]


CLAIMS: dict[int, Callable[[int], list[Claim]]] = {}


# --- the figure -----------------------------------------------------------------------------------------------------


def by_step(seed: int, steps: Array, *, is_complex: bool) -> Array:
    """For each step the largest error of the slope along random directions, of its size."""
    random, by_hand = models.generator(seed, CHAPTER, 2), gradient(seed)
    worst = np.zeros(len(steps))
    for _ in range(DIRECTIONS):
        direction = by_hand.zeros_like()
        for view in direction.values():
            view[...] = random.standard_normal(view.shape)
        exact = float(by_hand.flat @ direction.flat)
        found = [slope(seed, direction, h, "analytic", ops, is_complex=is_complex) for h in steps]
        worst = np.maximum(worst, np.abs(np.array(found) - exact) / abs(exact))
    return worst


def _draw_steps(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, ORANGE, legend, style

    style(ax, "step h", "largest error of a slope, relative")
    for steps, is_complex, colour, label in (
        (DIFFERENCES, False, ORANGE, "central difference"),
        (COMPLEXES, True, BLUE, "complex step"),
    ):
        # An error of nothing at all has no place on a logarithmic axis.
        found = np.maximum(by_step(seed, steps, is_complex=is_complex), 1e-17)
        ax.plot(steps, found, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=label)
    ax.set(xscale="log", yscale="log", ylim=(1e-16, 1e4))
    legend(ax)


def _draw_tensors(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, GREEN, ORANGE, legend, style

    style(ax, "largest error, of the tensor's largest", "")
    names = list(start(seed)[0])
    for key, colour, marker, label in (
        ("analytic", BLUE, "o", "complex step, D29"),
        ("joint", GREEN, "s", "complex step, D30"),
        ("differences", ORANGE, "D", f"difference, h = {DIFFERENCE:g}"),
    ):
        found = [max(checked(seed)[key][name], 1e-17) for name in names]
        ax.plot(found, range(len(names)), color=colour, marker=marker, markersize=6, linestyle="none", label=label)
    ax.set_yticks(range(len(names)), [name.replace("encoder", "enc").replace("decoder", "dec") for name in names])
    ax.set(xscale="log", xlim=(3e-18, 1e-7), ylim=(len(names) + 3.2, -0.6))
    legend(ax)


def _draw_mistakes(ax: Axes, seed: int) -> None:
    from vae_np.pictures.drawing import BLUE, MUTED, ORANGE, legend, style

    style(ax, "derivative by complex step", "derivative by hand")
    name, reach = "encoder.logvar.weight", 0.0
    for with_ops, colour, marker, label in (
        (VARIANCE, BLUE, "o", "wrong scale of ε, both ways"),
        (QUARTER, ORANGE, "D", "¼ for ½ in the KL"),
    ):
        right, by_hand = numeric(seed, with_ops=with_ops)[name], gradient(seed, with_ops=with_ops)[name]
        ax.plot(right.ravel(), by_hand.ravel(), color=colour, marker=marker, markersize=5, linestyle="none",
                alpha=0.8, label=label)  # fmt: skip
        reach = max(reach, float(np.abs(right).max()))
    ax.axline((0, 0), slope=1, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-1.1 * reach, 1.7 * reach))
    legend(ax)
