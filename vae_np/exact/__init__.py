"""Exact answers, and the derivation's own optimisation problems solved to convergence."""

from vae_np.exact.decoder import Decoder
from vae_np.exact.function import FunctionDecoder

__all__ = ["Decoder", "FunctionDecoder"]
