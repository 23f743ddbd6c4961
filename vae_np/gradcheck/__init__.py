"""A gradient checker whose verdicts can be trusted: for this package's hand-written gradients and for anyone's.

`check_vjp` takes a forward/backward pair, `check_grad` a scalar function and its gradient, `assert_grad` either, for
one line in a test. Each returns a `Report`: a table with a line per tensor, other promises that were checked, the
likely cause of what failed, the seed and a snippet that shows it again. NumPy and the standard library are all
it imports.
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
