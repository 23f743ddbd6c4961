"""Small problems of each family of q, and its draws at fixed heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numeric import Problem

from vae_np import ops
from vae_np.architecture import Architecture
from vae_np.choices import POSTERIORS
from vae_np.posteriors import Draw

RICH = tuple(name for name in POSTERIORS if name != "diagonal")
FLOWS = ("planar", "iaf")


def architecture(posterior: str, latent: int = 3, **changes: Any) -> Architecture:
    sizes = {"planar": {"flow_steps": 3}, "iaf": {"flow_steps": 2, "flow_hidden": 7}}.get(posterior, {})
    kinds = {"activation": "tanh", "posterior": posterior}
    return Architecture(5, latent, (4,), **{**kinds, **sizes, **changes})


def drawn(p: Problem, values: Any = None, eps: Any = None) -> Draw:
    """A draw of q at fixed heads, which `values` may replace."""
    return p.arch.family.draw_forward(ops, p.parameters, values or heads(p), p.eps if eps is None else eps)[0]


def heads(p: Problem) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    k, batch = p.arch.latent, len(p.x)
    return tuple(0.7 * rng.standard_normal((batch, width)) for width in (k, k, *p.arch.family.heads().values()))


def jacobian(p: Problem, q: tuple[Any, ...], eps: Any) -> Any:
    """dz/dε of every row, (S·B, K, K), by complex steps: it knows nothing of the log-determinants by hand."""
    columns = []
    for j in range(p.arch.latent):
        moved = eps.astype(complex)
        moved[:, j] += 1e-30j
        columns.append(drawn(p, tuple(part.astype(complex) for part in q), moved).z.imag / 1e-30)
    return np.stack(columns, axis=-1)
