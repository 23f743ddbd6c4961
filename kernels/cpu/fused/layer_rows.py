"""Some rows of an affine layer, forward and back, at the places that a step's plan names. [D25] [D26]"""

from __future__ import annotations

from vae_np._types import Array

from ..affine import activate, activation_gradient
from ..engine.products import call_gemm
from ..runtime.compilation import njit
from .layout import Layer, Plan


@njit()
def affine_rows(plan: Plan, layer: Layer, first: int, last: int, parameters: Array, work: Array, scratch: int) -> None:
    """Rows first..last−1 of a layer's output. [D25] [D26]"""
    result = layer.result + first * layer.ld
    call_gemm(
        plan.gemm, work, layer.input + first * layer.input_ld, layer.input_ld, 1,
        parameters, layer.weight, layer.outputs, 1, work, result, layer.ld,
        last - first, layer.outputs, layer.inputs, 0, work, scratch,
    )  # fmt: skip
    for i in range(last - first):
        activate(work, result + i * layer.ld, parameters, layer.bias, layer.outputs, layer.activation)


@njit()
def input_gradient_rows(
    plan: Plan, layer: Layer, first: int, last: int, parameters: Array, work: Array, accumulate: int, scratch: int
) -> None:
    """Rows first..last−1 of dx (+)= dy Wᵀ. [D25]"""
    dy, dx = layer.dresult + first * layer.ld, layer.dinput + first * layer.input_ld
    call_gemm(
        plan.gemm, work, dy, layer.ld, 1, parameters, layer.weight, 1, layer.outputs, work, dx, layer.input_ld,
        last - first, layer.inputs, layer.outputs, accumulate, work, scratch,
    )  # fmt: skip


@njit()
def activation_rows(layer: Layer, first: int, last: int, work: Array) -> None:
    """dy → da in place, for rows of a hidden layer. [D26]"""
    for i in range(first, last):
        dy, y = layer.dresult + i * layer.ld, layer.result + i * layer.ld
        activation_gradient(work, dy, work, y, work, dy, layer.outputs, layer.activation)
