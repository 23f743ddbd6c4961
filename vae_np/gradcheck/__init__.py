"""A gradient checker whose verdicts can be trusted, for this package's gradients and for anyone's.

`check_vjp` takes a forward and a backward, `check_grad` a scalar function and its gradient, `check_layer` an object
with state, and `check_value_and_grad` a function that returns its value with its gradient. Each returns a `Report`: a
table with one line per tensor, the other promises that were checked, the likely cause of what failed, the seed, and a
snippet that repeats the check. The `assert_` forms raise an error instead and fit on one line of a test. The module
imports NumPy and the standard library only.
"""

from __future__ import annotations

from vae_np.gradcheck.check import assert_grad, check_grad, check_vjp
from vae_np.gradcheck.findings import Check, Kink, Row, Taylor
from vae_np.gradcheck.jvp import check_hvp, check_jvp
from vae_np.gradcheck.layers import assert_layer, check_layer
from vae_np.gradcheck.losses import assert_value_and_grad, check_value_and_grad
from vae_np.gradcheck.options import Options
from vae_np.gradcheck.report import GradientError, Report

__all__ = [
    "Check",
    "GradientError",
    "Kink",
    "Options",
    "Report",
    "Row",
    "Taylor",
    "assert_grad",
    "assert_layer",
    "assert_value_and_grad",
    "check_grad",
    "check_hvp",
    "check_jvp",
    "check_layer",
    "check_value_and_grad",
    "check_vjp",
]
