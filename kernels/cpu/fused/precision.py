"""What a step's matrix products do to their operands: nothing, or round them to bfloat16, for which they need a
processor that multiplies these."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vae_np.choices import PRECISIONS
from vae_np.errors import InputError
from vae_np.precision import FULL

from ..engine.bfloat16_products import bfloat16_gemm_address
from ..engine.products import gemm_address
from ..runtime import bfloat16


class Product(NamedTuple):
    """A step's product: the address of its machine code, and whether it rounds its operands."""

    address: int
    rounds: bool


def precision_problem(precision: str) -> str | None:
    """Why steps cannot be made in a precision here; None if they can."""
    if precision == FULL or bfloat16.best() is not None:
        return None
    return " and ".join(str(bfloat16.missing(name)) for name in bfloat16.NAMES)


def instructions_here() -> dict[str, str]:
    """By what reduced products can be computed here, the fastest first, and what each is called."""
    return {name: said for name, said in bfloat16.NAMES.items() if bfloat16.missing(name) is None}


def precision_line(precision: str) -> str:
    """What the products of a precision are computed by here, in a few words."""
    best = bfloat16.best()
    return precision if precision == FULL or best is None else f"{precision} products by {bfloat16.NAMES[best]}"


def product_for(dtype: Any, precision: str, instructions: str | None = None) -> Product:
    """The product of a precision, by the fastest instructions that are here unless they are named (`amx`, `avx512`).

    Raises InputError for an unknown precision, for parameters that are not float32, and where the processor lacks it.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if precision == FULL:
        return Product(gemm_address(dtype), rounds=False)
    if np.dtype(dtype) != np.float32:
        raise InputError(f"precision: got {precision!r} with parameters in {np.dtype(dtype)}, expected float32")
    why = precision_problem(precision) if instructions is None else bfloat16.missing(instructions)
    if why is not None:
        raise InputError(f"precision: got {precision!r}, but {why}")
    return Product(bfloat16_gemm_address(instructions or str(bfloat16.best()), precision), rounds=True)
