"""Where everything that a step needs lies: records that compiled code reads by name, and the buffers they speak of.

All buffers are made once. Intermediate values share one workspace, in which a plan says what begins where.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numba.core import config

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.parameters import Parameters, aligned_zeros
from vae_np.step import TrainingState

from ...arguments import ACTIVATIONS
from ..engine.products import scratch_size
from ..engine.vectors import SUM_VECTORS
from ..likelihoods import LANES
from ..runtime.lowering import TILE_ROWS, VECTOR_BYTES
from .precision import Product

# Entries of weight gradient that one unit computes: they stay in the second cache until Adam has used them.
_UNIT_ENTRIES = 24_576
_FIRST_CACHE = 40_960
# Rows of weights of a unit whose product rounds its operands: each unit rounds all of dy.
_ROUNDING_UNIT_ROWS = 256


# What steers a step: records of whole numbers, one of the plan, one of each affine layer, one of each unit of weights.
# Places count entries of the workspace, or where it is said, of the parameters. `ld` is the distance between rows.


class Plan(Protocol):
    """One step: its sizes, what the caller wants of it, and where things lie."""

    batch: int
    features: int
    latent: int
    # Of each example; the decoder's rows lie example by example.
    samples: int
    # 1 for IWAE's bound, 0 for the ELBO.
    weighs_samples: int
    # 1 for a normal likelihood, 0 for Bernoulli's.
    is_normal: int

    # The numbers of layers: before `mu` lie the encoder's hidden ones, from `decoder` to `output` the decoder's.
    mu: int
    logvar: int
    decoder: int
    output: int

    # Of one call.
    key0: int
    key1: int
    step: int
    draws_pixels: int
    # Whether x came as bytes (or is drawn), else as floats.
    has_bytes: int
    keeps_gradients: int
    applies_adam: int

    # How many log σ² a normal likelihood learns (0, 1 or D), and where: among the parameters, or the fixed one in the
    # workspace.
    sigmas: int
    sigma: int

    z: int
    eps: int
    dz: int
    kl_terms: int
    # Of a second stochastic layer: its networks' first layers, up and down (each ends in the two heads), which follow
    # the decoder's; its latents; z₂, its noise and its gradient; and the noise of both layers, row by row. All 0 where
    # there is none.
    top: int
    top_decoder: int
    top_latent: int
    top_z: int
    top_eps: int
    top_dz: int
    all_eps: int
    # w̃/B of each of the decoder's rows.
    row_share: int
    # z, ε and w̃/B of the rows that the backward pass takes, one after the other; the ELBO's takes all where they lie.
    kept_z: int
    kept_eps: int
    kept_share: int

    # Scratch: the first thread's, and how far the next one's is.
    pixel_terms: int
    pixel_terms_size: int
    unit_gradient: int
    unit_gradient_size: int
    gemm_scratch: int
    gemm_scratch_size: int

    # Address of the compiled product.
    gemm: int
    # Columns of the first layer that one pass sums: of its weights, and of its gradient.
    forward_strip: int
    gradient_strip: int


class Layer(Protocol):
    """One affine layer and its activation."""

    rows: int
    inputs: int
    outputs: int
    activation: int
    # Among the parameters.
    weight: int
    bias: int

    input: int
    dinput: int
    input_ld: int
    result: int
    dresult: int
    ld: int


class Unit(Protocol):
    """Rows first..last−1 of a layer's weights: one thread's, from their gradient to their update.

    A layer's number beyond the last one stands for the likelihood's log σ².
    """

    layer: int
    first: int
    last: int


class Constants(Protocol):
    """What a step multiplies with, in the precision of the parameters."""

    # As `adam_range` takes them.
    adam: Array
    # 1/B and β/B.
    share: Any
    beta_share: Any


def _of_whole_numbers(record: type) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in record.__annotations__], align=True)


PLAN, LAYER, UNIT = _of_whole_numbers(Plan), _of_whole_numbers(Layer), _of_whole_numbers(Unit)


def constants_of(real: Any) -> np.dtype[Any]:
    """The dtype of `Constants` in a precision."""
    return np.dtype([("adam", real, (7,)), ("share", real), ("beta_share", real)], align=True)


def records(count: int, kind: np.dtype[Any]) -> Any:
    """So many records of zeros, whose fields can be read as attributes also where nothing is compiled."""
    made = np.zeros(count, kind)
    return made.view(np.recarray) if config.DISABLE_JIT else made


class Buffers(NamedTuple):
    """All that a step reads and writes, made once: B examples of S samples, D features, K latents, P parameters."""

    # Records: one plan, the layers, the layers as the backward pass finds them, the units, one of the constants.
    plan: Any
    layers: Any
    layers_back: Any
    units: Any
    constants: Any
    # The batch: its bytes (B·D,), grey and binary, and its places in the data set (B,).
    grey: Array
    bits: Array
    rows: Array
    # The row and the number of each sample (B·S,), by which its noise is addressed.
    sample_rows: Array
    sample_numbers: Array
    # The pixels that are one of each example (B·(D+1),) and how many (B,); the examples of each pixel (D·B,) and (D,).
    active_columns: Array
    active_count: Array
    active_rows: Array
    row_count: Array
    # Scratch of the noise (threads, …), and of each thread, how much of its part of the weights is not finite.
    words: Array
    not_finite: Array
    # (P,) each.
    parameters: Array
    gradients: Array
    first_moment: Array
    second_moment: Array
    # Every intermediate value in the precision of the parameters, at the places that the plan and its layers name.
    work: Array
    # How many of each example's samples the backward pass takes (B,).
    kept: Array
    # In float64: log p(x|z), then log w and w of each sample (B·S,), and scratch of the log ratio (B·K,), K the
    # larger of two layers'.
    log_w: Array
    ratio_terms: Array
    # With two stochastic layers log p(z₁, z₂) − log q(z₁, z₂|x) of each sample (B·S,), in float64.
    log_ratio: Array
    # Each feature's sum for the gradient of log σ² (D,), in float64.
    sigma_sums: Array
    # The results (B,).
    reconstruction: Array
    kl: Array
    bound: Array


def make_buffers(
    arch: Architecture, state: TrainingState, batch: int, samples: int | None, threads: int, product: Product
) -> Buffers:
    """The buffers of a step, with its plan laid out in them."""
    real, count = state.parameters.dtype, samples or 1
    plan, layers, layers_back, units, size = _lay_out(arch, state.parameters, batch, samples, threads, product)
    # A row of pixels at a time, or sixteen rows of latents.
    words = max(64 * ((arch.noise_columns + 3) // 4), 5 * ((arch.features + 3) // 4))
    return Buffers(
        plan=plan,
        layers=layers,
        layers_back=layers_back,
        units=units,
        constants=records(1, constants_of(real)),
        grey=np.zeros(batch * arch.features, np.uint8),
        bits=np.zeros(batch * arch.features, np.uint8),
        rows=np.zeros(batch, np.int64),
        sample_rows=np.zeros(batch * count, np.int64),
        sample_numbers=np.tile(np.arange(count), batch),
        active_columns=np.zeros(batch * (arch.features + 1), np.int32),
        active_count=np.zeros(batch, np.int64),
        active_rows=np.zeros(arch.features * batch, np.int32),
        row_count=np.zeros(arch.features, np.int64),
        words=np.zeros((threads, words), np.int64),
        not_finite=np.zeros(threads, np.int64),
        parameters=state.parameters.flat,
        gradients=state.gradients.flat,
        first_moment=state.first_moment.flat,
        second_moment=state.second_moment.flat,
        work=aligned_zeros(size, real),
        kept=np.full(batch, count),
        log_w=np.zeros(batch * count),
        ratio_terms=np.zeros(batch * max(arch.latent, arch.top_latent or 0)),
        log_ratio=np.zeros(batch * count),
        sigma_sums=np.zeros(arch.features),
        reconstruction=np.zeros(batch, real),
        kl=np.zeros(batch, real),
        bound=np.zeros(batch, real),
    )


class _Workspace:
    """Hands out places in an array of so many entries as are asked for, each beginning where a vector does."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize, self.lane, self.size = itemsize, VECTOR_BYTES // itemsize, 0

    def whole(self, count: int) -> int:
        """So many entries, in whole vectors."""
        return -(-count // self.lane) * self.lane

    def take(self, count: int) -> int:
        """The place of the next `count` entries, a line behind the last, so that no two threads share one."""
        place = self.size
        self.size += self.whole(count) + self.lane
        return place

    def row(self, count: int) -> int:
        """The distance of rows of `count` entries: a column of them is not to fall into few sets of the first cache."""
        entries = self.whole(count)
        return entries + (self.lane if entries * self.itemsize % 1024 == 0 else 0)


def _lay_out(
    arch: Architecture, parameters: Parameters, batch: int, samples: int | None, threads: int, product: Product
) -> tuple[Any, Any, Any, Any, int]:
    """The records of the plan, of the layers both ways and of the units, and how many entries the workspace has."""
    real, mu = parameters.dtype, len(arch.hidden)
    names = [*arch.hidden_layers("encoder"), "encoder.mu", "encoder.logvar"]
    names += [*arch.hidden_layers("decoder"), "decoder.out"]
    logvar, decoder, output = mu + 1, mu + 2, len(names) - 1
    up, down = len(names), 0
    if arch.upper is not None:
        names += arch.upper.inference.layers()
        down = len(names)
        names += arch.upper.generation.layers()
    heads = (mu, logvar) if down == 0 else (mu, logvar, down - 2, down - 1, len(names) - 2, len(names) - 1)
    count = samples or 1
    decoded = batch * count
    work = _Workspace(real.itemsize)
    z, eps, dz = (work.take(decoded * arch.latent) for _ in range(3))
    top_z, top_eps, top_dz = (work.take(decoded * (arch.top_latent or 0)) for _ in range(3))

    layers = records(len(names), LAYER)
    units: list[tuple[int, int, int]] = []
    x = work.take(batch * work.row(arch.features))
    for number, (layer, name) in enumerate(zip(layers, names, strict=True)):
        inputs, outputs = parameters[f"{name}.weight"].shape
        rows = decoded if number >= decoder else batch
        is_head, is_linear = number in heads, number in (*heads, output)
        layer["rows"], layer["inputs"], layer["outputs"] = rows, inputs, outputs
        layer["activation"] = ACTIVATIONS["identity" if is_linear else arch.activation]
        layer["weight"], layer["bias"] = parameters.offset(f"{name}.weight"), parameters.offset(f"{name}.bias")
        if number == 0:
            layer["input"], layer["input_ld"] = x, work.row(inputs)
        elif number == decoder or _reads(number, up, down - 2):
            layer["input"], layer["dinput"], layer["input_ld"] = z, dz, inputs
        elif _reads(number, down, len(names) - 2):
            layer["input"], layer["dinput"], layer["input_ld"] = top_z, top_dz, inputs
        else:
            # Both heads read the last hidden layer.
            below = layers[number - 1 - (number - 1 in heads)]
            layer["input"], layer["dinput"], layer["input_ld"] = below["result"], below["dresult"], below["ld"]
        # The heads' outputs have rows of K entries, as z and ε have.
        ld = outputs if is_head else work.row(outputs)
        layer["ld"], layer["result"] = ld, work.take(rows * ld)
        layer["dresult"] = layer["result"] if number == output else work.take(rows * ld)
        is_product = number > 0 or arch.likelihood != "bernoulli"
        least = 0 if not is_product else _ROUNDING_UNIT_ROWS if product.rounds else 96 if rows >= 256 else TILE_ROWS
        units += _units(number, inputs, outputs, least)
    # The costly ones first, so that the threads end together.
    units.sort(key=lambda u: -layers[u[0]]["outputs"] * (u[2] - u[1]) * (layers[u[0]]["rows"] if u[0] else batch // 4))

    row_share = work.take(decoded)
    layers_back, (kept_z, kept_eps, kept_share) = layers.copy(), (z, eps, row_share)
    if samples is not None and down == 0:
        kept_z, kept_eps, kept_share = (work.take(decoded * width) for width in (arch.latent, arch.latent, 1))
        layers_back[decoder]["input"] = kept_z
        for number in range(decoder, output):
            layers_back[number]["result"] = work.take(decoded * int(layers[number]["ld"]))
            layers_back[number + 1]["input"] = layers_back[number]["result"]
        layers_back[output]["dresult"] = work.take(decoded * int(layers[output]["ld"]))

    sigmas = arch.shapes().get("likelihood.logvar", (0,))[0]
    if sigmas:
        units.insert(0, (len(names), 0, sigmas))
    pixel_terms = 2 * arch.features + LANES
    widest = max((last - first + 1) * layers[n]["outputs"] for n, first, last in units if n < len(names))
    gradient = work.whole(widest) + work.lane
    gemm = work.whole(scratch_size(real.itemsize)) + work.lane
    # Equal strips of the first layer's columns: of its weights, and of dy as much as stays in the first cache.
    vectors = work.whole(arch.hidden[0]) // work.lane
    forward_strip, gradient_strip = (
        work.lane * -(-vectors // -(-vectors // most))
        for most in (SUM_VECTORS, min(SUM_VECTORS, max(4, _FIRST_CACHE // (batch * VECTOR_BYTES))))
    )
    plan = records(1, PLAN)
    for field, value in {
        "batch": batch, "features": arch.features, "latent": arch.latent, "samples": count,
        "weighs_samples": samples is not None, "is_normal": not arch.is_bernoulli,
        "mu": mu, "logvar": logvar, "decoder": decoder, "output": output,
        "sigmas": sigmas, "sigma": parameters.offset("likelihood.logvar") if sigmas else work.take(1),
        "z": z, "eps": eps, "dz": dz, "pixel_terms": work.take(threads * pixel_terms), "pixel_terms_size": pixel_terms,
        "unit_gradient": work.take(threads * gradient), "unit_gradient_size": gradient,
        "gemm_scratch": work.take(threads * gemm), "gemm_scratch_size": gemm, "row_share": row_share,
        "kept_z": kept_z, "kept_eps": kept_eps, "kept_share": kept_share,
        "kl_terms": work.take(batch * arch.latent), "gemm": product.address, "forward_strip": forward_strip,
        "gradient_strip": gradient_strip, "top": up if down else 0, "top_decoder": down,
        "top_latent": arch.top_latent or 0, "top_z": top_z, "top_eps": top_eps, "top_dz": top_dz,
        "all_eps": work.take(decoded * arch.noise_columns) if down else eps,
    }.items():  # fmt: skip
        plan[field] = value
    cut = records(len(units), UNIT)
    cut[:] = units
    return plan, layers, layers_back, cut, work.size


def _reads(number: int, first: int, heads: int) -> bool:
    """Whether a layer reads latents: the first of a network between them, or a head of one without hidden layers."""
    return number == first or (first == heads and number == first + 1)


def _units(layer: int, inputs: int, outputs: int, least: int) -> list[tuple[int, int, int]]:
    """The fields of a layer's units: rows of its weights, in parts that stay in the second cache.

    A product has at least so many rows, in whole tiles: more where panels that each unit copies are long.
    """
    count = max(1, _UNIT_ENTRIES // outputs)
    if least > 0:
        count = max(least, count // TILE_ROWS * TILE_ROWS)
    return [(layer, first, min(first + count, inputs)) for first in range(0, inputs, count)]
