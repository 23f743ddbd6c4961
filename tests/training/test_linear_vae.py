"""A linear VAE, trained by the package's own loop, is probabilistic PCA. (Lucas et al. 2019) [D16] [D21]

Budget: about 4 s.
"""

from __future__ import annotations

import numpy as np

from vae_np import VAE
from vae_np.exact.linear_gaussian import from_parameters, ppca_log_likelihood

STAGES = ((1e-2, 400), (3e-3, 150), (1e-3, 150), (3e-4, 150))


def test_a_linear_vae_reaches_the_exact_ppca_log_likelihood() -> None:
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((2, 5)) * np.array([[2.0], [1.0]])
    x = rng.standard_normal((512, 2)) @ loadings + 0.5 * rng.standard_normal((512, 5)) + rng.standard_normal(5)
    exact = ppca_log_likelihood(x, 2)

    vae = VAE(5, hidden=(), latent=2, likelihood="normal", dtype="float64", seed=1, backend="numpy")
    for stage, (lr, epochs) in enumerate(STAGES):
        vae.fit(x, epochs=epochs, batch_size=128, lr=lr, seed=stage)

    model = from_parameters(vae.arch, vae.parameters)
    log_likelihood = model.log_prob(x).mean()
    assert exact - 1e-3 <= log_likelihood <= exact + 1e-9
    # The encoder has found the posterior, too: with the loadings along the axes, a diagonal q loses nothing.
    mu, logvar = vae.encode(x)
    elbo = model.elbo(x, mu, np.exp(logvar)[:, :, None] * np.eye(2)).mean()
    assert log_likelihood - 3e-3 <= elbo <= log_likelihood
