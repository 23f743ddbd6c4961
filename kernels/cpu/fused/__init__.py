"""One training step as one compiled function, for the family of models that both backends fuse."""

from __future__ import annotations

from ...arguments import OBJECTIVES
from .precision import instructions_here, precision_line, precision_problem
from .step import FusedStep, unsupported

__all__ = ["OBJECTIVES", "FusedStep", "instructions_here", "precision_line", "precision_problem", "unsupported"]
