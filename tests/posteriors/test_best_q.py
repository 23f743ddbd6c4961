"""`bench/best_q.py`, which solves for q where no quadrature reaches, on a model whose best q of each family is known.

Budget: about 2 s.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np

from vae_np import ops
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Model

_SPEC = importlib.util.spec_from_file_location("best_q", Path(__file__).resolve().parents[2] / "bench" / "best_q.py")
assert _SPEC is not None
assert _SPEC.loader is not None
best_q = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(best_q)


def test_what_is_solved_for_leaves_what_the_family_must() -> None:
    """A linear decoder: a diagonal q leaves the closed form, a full one nothing, and a flow something between."""
    linear = LinearGaussian(np.array([[1.5, 1.2], [1.0, -0.4], [0.3, 0.9]]), np.array([0.1, -0.2, 0.5]), 0.5)
    arch, parameters = to_parameters(linear)
    x = np.random.default_rng(0).normal(size=(20, 3))
    # Far from the best normal, and twice as wide.
    start = linear.posterior(x)[0] + 0.5, np.full((20, 2), 0.5)
    near = best_q.climbed(Model(ops, arch, parameters), x, start, 400, best_q.LR, 0)
    left = {}
    for name, kind in best_q.FAMILIES.items():
        model = Model(ops, replace(arch, **kind), parameters)
        q = best_q.climbed(model, x, near, 400, best_q.SMALLER_LR, 0)
        left[name] = float((linear.log_prob(x) - best_q.bound(model, x, q, 0)).mean())
    expected = linear.best_diagonal(x)[2]
    assert abs(left["diagonal"] - expected) < 0.01
    assert abs(left["full"]) < 0.02
    assert left["10 planar steps"] < left["diagonal"] - 0.1
