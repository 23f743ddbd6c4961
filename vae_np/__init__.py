"""A variational autoencoder from the mathematics up.

    from vae_np import VAE

    vae = VAE(features=784, latent=20)
    history = vae.fit(x, epochs=10)

`VAE` is the whole model as one object; `vae_np.ops` is the contract that every backend implements. The files are short
and named after what they hold: the mathematics is in `layers`, `distributions`, `model`, `elbo`, `objectives` and
`optim`. Importing this package imports nothing else; NumPy is imported when one of the package's names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_np._version import __version__

__all__ = ["VAE", "EarlyStopping", "History", "Metrics", "StopTraining", "__version__"]

_MODULES = {
    "EarlyStopping": "vae_np.training.progress",
    "Metrics": "vae_np.training.trainer",
    "StopTraining": "vae_np.training.progress",
}

if TYPE_CHECKING:
    from vae_np.training.progress import EarlyStopping, StopTraining
    from vae_np.training.trainer import Metrics
    from vae_np.vae import VAE, History
else:

    def __getattr__(name: str) -> Any:
        """`VAE` and the other names above, and every module, imported when first asked for.

        So the command line can answer Ctrl-C from the start: pressing it while NumPy is imported prints no traceback.
        """
        if name in __all__:
            return getattr(import_module(_MODULES.get(name, "vae_np.vae")), name)
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
