"""The contract (`vae_np.ops`) in Numba: same names, signatures and shapes, held against it. [docs/kernels.md]"""

from __future__ import annotations

from vae_np.kernels.cpu._cache import CACHE_PROBLEM, on_compile
from vae_np.kernels.cpu._jit import VECTOR_BYTES
from vae_np.kernels.cpu._pool import available, set_threads, threads
from vae_np.kernels.cpu.adam import adam_update
from vae_np.kernels.cpu.affine import (
    affine_act_backward,
    affine_act_forward,
    binary_affine_act_backward,
    binary_affine_act_forward,
)
from vae_np.kernels.cpu.fused import FusedStep, unsupported
from vae_np.kernels.cpu.importance import log_weights
from vae_np.kernels.cpu.likelihoods import (
    bernoulli_loglik_backward,
    bernoulli_loglik_forward,
    normal_loglik_backward,
    normal_loglik_forward,
)
from vae_np.kernels.cpu.noise import philox_bernoulli, philox_normal
from vae_np.kernels.cpu.reparam import reparam_kl_backward, reparam_kl_forward
from vae_np.kernels.cpu.warmup import warmup
from vae_np.kernels.cpu.weights import log_mean_exp_weights

__all__ = [
    "CACHE_PROBLEM",
    "VECTOR_BYTES",
    "FusedStep",
    "adam_update",
    "affine_act_backward",
    "affine_act_forward",
    "available",
    "bernoulli_loglik_backward",
    "bernoulli_loglik_forward",
    "binary_affine_act_backward",
    "binary_affine_act_forward",
    "log_mean_exp_weights",
    "log_weights",
    "normal_loglik_backward",
    "normal_loglik_forward",
    "on_compile",
    "philox_bernoulli",
    "philox_normal",
    "reparam_kl_backward",
    "reparam_kl_forward",
    "set_threads",
    "threads",
    "unsupported",
    "warmup",
]
