"""The gap of a full covariance and of flows, by quadrature: its parts, their sum, and what a richer family leaves.

Budget: about 3 s (marked slow: an autoregressive flow in two latents and one decoder under three families, 10 s).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import VAE, data
from vae_np.exact.amortisation import FamilyGap, Gap
from vae_np.exact.linear_gaussian import LinearGaussian

SIZES: dict[str, Any] = {"hidden": (6,), "activation": "tanh", "backend": "numpy", "dtype": "float64"}


def fitted(posterior: str, latent: int = 2, **settings: Any) -> tuple[VAE, Any]:
    x = data.bars(4, 200, 0)[0]
    vae = VAE(16, latent=latent, posterior=posterior, **SIZES, **settings)
    vae.fit(x, epochs=3, batch_size=20, lr=0.02)
    return vae, x[:2]


@pytest.mark.parametrize(
    ("posterior", "latent", "settings"),
    [
        ("full", 2, {}),
        ("planar", 1, {"flow_steps": 1}),
        ("planar", 2, {"flow_steps": 2}),
        ("iaf", 1, {"flow_steps": 1, "flow_hidden": 4}),
        pytest.param("iaf", 2, {"flow_steps": 2, "flow_hidden": 4}, marks=pytest.mark.slow),
    ],
)
def test_the_three_quadratures_agree_and_the_elbo_falls_short_by_the_total(
    posterior: str, latent: int, settings: dict[str, Any]
) -> None:
    vae, x = fitted(posterior, latent, **settings)
    gap = vae.exact.gap(x)
    assert isinstance(gap, Gap if posterior == "full" else FamilyGap)
    assert gap.converged.all()
    assert np.abs(gap.residual).max() < 1e-6
    assert gap.approximation.min() > -1e-8
    assert gap.amortisation.min() > -1e-8
    np.testing.assert_allclose(gap.log_prob, vae.exact.log_likelihood(x).log_prob)
    elbo = vae.elbo(x, z_samples=20_000).elbo
    np.testing.assert_allclose(gap.log_prob - gap.total, elbo, atol=0.03)
    if isinstance(gap, FamilyGap):
        assert [at.family for at in gap.best] == [vae.arch.family] * 2


def test_a_linear_gaussian_posterior_is_in_the_full_family() -> None:
    rng = np.random.default_rng(0)
    vae = VAE(4, latent=2, likelihood="normal-fixed", posterior="full", hidden=(), dtype="float64", backend="numpy")
    for view in vae.parameters.values():
        view[...] = 0.4 * rng.standard_normal(view.shape)
    x = rng.standard_normal((5, 4))
    gap = vae.exact.gap(x, values="real")
    linear = LinearGaussian(vae.parameters["decoder.out.weight"].T, vae.parameters["decoder.out.bias"], 1.0)
    mu, logvar, below = (x @ vae.parameters[f"encoder.{name}.weight"] + vae.parameters[f"encoder.{name}.bias"]
                         for name in ("mu", "logvar", "below"))  # fmt: skip
    assert np.abs(gap.approximation).max() < 1e-9
    covariance = vae.arch.family.covariance(logvar, below)  # type: ignore[attr-defined]
    np.testing.assert_allclose(gap.total, linear.kl_to_posterior(x, mu, covariance), rtol=1e-8)
    np.testing.assert_allclose(gap.log_prob, linear.log_prob(x), atol=1e-8)


@pytest.mark.slow
def test_a_richer_family_leaves_less_of_one_decoder_s_gap() -> None:
    """The diagonal model's decoder under the other families' encoders: what their best q leave."""
    plain, x = fitted("diagonal")
    left = {"diagonal": plain.exact.gap(x).approximation}
    for posterior in ("full", "planar"):
        steps = {"flow_steps": 2} if posterior == "planar" else {}
        vae = VAE(16, latent=2, posterior=posterior, **SIZES, **steps)
        vae.parameters.assign({**vae.parameters, **plain.parameters})
        left[posterior] = vae.exact.gap(x, values="binary").approximation
    assert (left["full"] < left["diagonal"] - 1e-6).all()
    # A flow's climb begins at the encoder's q and at the prior alone, so this is about the mean.
    assert left["planar"].mean() < left["diagonal"].mean()
