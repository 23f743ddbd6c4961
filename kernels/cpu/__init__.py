"""The contract (`vae_np.ops`) in Numba: same names, signatures and shapes, held against it. [docs/kernels.md]"""

from __future__ import annotations

from .adam import adam_update
from .affine import (
    affine_act_backward,
    affine_act_forward,
    binary_affine_act_backward,
    binary_affine_act_forward,
)
from .fused import OBJECTIVES, FusedStep, instructions_here, precision_line, precision_problem, unsupported
from .importance_weights import log_weights
from .likelihoods import (
    bernoulli_loglik_backward,
    bernoulli_loglik_forward,
    normal_loglik_backward,
    normal_loglik_forward,
)
from .noise import philox_bernoulli, philox_normal
from .on_threads import OnThreads
from .reparam import reparam_kl_backward, reparam_kl_forward
from .runtime.cache import CACHE_PROBLEM, on_compile
from .runtime.lowering import VECTOR_BYTES
from .runtime.pool import describe_threads, set_threads, threads
from .runtime.processors import available
from .warmup import warmup
from .weights import log_mean_exp_weights

__all__ = [
    "CACHE_PROBLEM",
    "OBJECTIVES",
    "VECTOR_BYTES",
    "FusedStep",
    "OnThreads",
    "adam_update",
    "affine_act_backward",
    "affine_act_forward",
    "available",
    "bernoulli_loglik_backward",
    "bernoulli_loglik_forward",
    "binary_affine_act_backward",
    "binary_affine_act_forward",
    "describe_threads",
    "instructions_here",
    "log_mean_exp_weights",
    "log_weights",
    "normal_loglik_backward",
    "normal_loglik_forward",
    "on_compile",
    "philox_bernoulli",
    "philox_normal",
    "precision_line",
    "precision_problem",
    "reparam_kl_backward",
    "reparam_kl_forward",
    "set_threads",
    "threads",
    "unsupported",
    "warmup",
]
