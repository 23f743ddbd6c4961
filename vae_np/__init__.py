"""A variational autoencoder from the mathematics up.

    from vae_np import VAE

    vae = VAE(features=784, latent=20)
    history = vae.fit(x, epochs=10)

`VAE` is the whole model as one object; `vae_np.ops` is the contract that every backend implements. The files are short
and named after what they hold: the mathematics is in `layers`, `distributions`, `model`, `elbo`, `objectives` and
`optim`. Importing this package costs NumPy and little more.
"""

from vae_np._version import __version__
from vae_np.training.progress import EarlyStopping, StopTraining
from vae_np.vae import VAE, History

__all__ = ["VAE", "EarlyStopping", "History", "StopTraining", "__version__"]
