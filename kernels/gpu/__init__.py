"""The contract (`vae_np.ops`) in CUDA: same names, signatures and shapes, held against it. [docs/kernels.md]

Importing it neither imports CuPy nor asks for a device; `problem` says whether there is one that can be used.
"""

from __future__ import annotations

from ..arguments import OBJECTIVES
from ._compile import CACHE_PROBLEM, on_compile
from .adam import adam_update
from .affine import (
    affine_act_backward,
    affine_act_forward,
    binary_affine_act_backward,
    binary_affine_act_forward,
)
from .exchange import join
from .fused import FusedRun, FusedStep, unsupported
from .importance_weights import log_weights
from .likelihoods import (
    bernoulli_loglik_backward,
    bernoulli_loglik_forward,
    normal_loglik_backward,
    normal_loglik_forward,
)
from .noise import philox_bernoulli, philox_normal
from .problems import device_line, problem
from .reparam import reparam_kl_backward, reparam_kl_forward
from .shared_step import SharedStep
from .warmup import warmup
from .weights import log_mean_exp_weights

__all__ = [
    "CACHE_PROBLEM",
    "OBJECTIVES",
    "FusedRun",
    "FusedStep",
    "SharedStep",
    "adam_update",
    "affine_act_backward",
    "affine_act_forward",
    "bernoulli_loglik_backward",
    "bernoulli_loglik_forward",
    "binary_affine_act_backward",
    "binary_affine_act_forward",
    "device_line",
    "join",
    "log_mean_exp_weights",
    "log_weights",
    "normal_loglik_backward",
    "normal_loglik_forward",
    "on_compile",
    "philox_bernoulli",
    "philox_normal",
    "problem",
    "reparam_kl_backward",
    "reparam_kl_forward",
    "unsupported",
    "warmup",
]
