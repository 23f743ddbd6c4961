"""What is timed: the models, the batches and the operations. Whatever is timed is defined here."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import backends, data, noise
from vae_np.architecture import Architecture
from vae_np.backends import Backend
from vae_np.model import initialise
from vae_np.precision import FULL
from vae_np.step import Optimiser, TrainingState, training_step

SEED = 0
# Adam reads and writes a parameter and both its moments: two triads over as many entries move as much.
ADAM_BYTES = 24
STEP, AFTER, DRAWN, EVAL = "step", "step after training", "step with binarisation", "eval"
# Everyone's steps take the next of so many batches, or of those in a pass over MNIST: on one batch over and over the
# loss collapses.
MOST_BATCHES = 256

Step = Callable[[], object]
Product = tuple[Any, Any, Any]


def on_processor() -> list[str]:
    """The backends of this machine that compute on the processor."""
    return [name for name in backends.present() if backends.choose(name).device is None]


@dataclass(frozen=True)
class Workload:
    """A model, a batch size, and the samples of IWAE's bound; None trains on the ELBO."""

    arch: Architecture
    batch: int
    samples: int | None = None

    @property
    def objective(self) -> str:
        """What a step maximises."""
        return "elbo" if self.samples is None else "iwae"

    @property
    def epoch(self) -> int:
        """Steps of a pass over MNIST's training rows."""
        return 60_000 // self.batch

    @property
    def batches(self) -> int:
        """How many different batches its steps take in turn."""
        return min(MOST_BATCHES, self.epoch)

    @property
    def decoded(self) -> int:
        """Rows that the decoder has in a step."""
        return self.batch * (self.samples or 1)


WORKLOADS = {
    "pt": Workload(Architecture(784, 20, (400,), "relu"), 128),
    "kingma": Workload(Architecture(784, 20, (500,), "tanh"), 100),
    "iwae": Workload(Architecture(784, 50, (200, 200), "tanh"), 20),
    "iwae50": Workload(Architecture(784, 50, (200, 200), "tanh"), 20, samples=50),
    "wide": Workload(Architecture(784, 64, (1024, 1024), "relu"), 512),
    # Dense x, where nothing can be gained from zeros.
    "pt-grey": Workload(Architecture(784, 20, (400,), "relu", "normal"), 128),
    "kingma-grey": Workload(Architecture(784, 20, (500,), "tanh", "normal"), 100),
}
# The package of a revision that is compared with may have one layer only.
if "top_latent" in Architecture.__dataclass_fields__:
    # Two stochastic layers, as in Burda et al. 2015.
    _LAYERS = Architecture(784, 100, (200, 200), "tanh", top_latent=50, top_hidden=(100, 100))
    WORKLOADS |= {"two-layers": Workload(_LAYERS, 20), "two-layers-iwae5": Workload(_LAYERS, 20, samples=5)}


@functools.cache
def grey_batches(workload: Workload) -> tuple[Any, Any]:
    """Different batches of MNIST's training rows, shuffled: (N, B, 784) bytes 0..255, and their places (N, B)."""
    images, count = data.load("mnist").train, workload.batches * workload.batch
    rows = np.random.default_rng(SEED).permutation(len(images))[:count].reshape(workload.batches, workload.batch)
    return images[rows], rows


@functools.cache
def given_batches(workload: Workload) -> tuple[Any, Any]:
    """The x that steps are given in turn, and its rows' places: binary bytes, or float32 for a normal likelihood."""
    grey, rows = grey_batches(workload)
    if not workload.arch.is_bernoulli:
        return grey.astype(np.float32) / np.float32(255), rows
    # Drawn once before the timing: NumPy's generator does in a second what the reference's needs half a minute for.
    rng = np.random.default_rng(SEED)
    return np.stack([rng.random(x.shape, np.float32) < x / np.float32(255) for x in grey]).view(np.uint8), rows


def grey_batch(workload: Workload) -> tuple[Any, Any]:
    """The first of the grey batches, (B, 784), for what is timed or compared on a single one."""
    x, rows = grey_batches(workload)
    return x[0], rows[0]


def given_batch(workload: Workload) -> tuple[Any, Any]:
    """The first of the batches that steps are given."""
    x, rows = given_batches(workload)
    return x[0], rows[0]


def evaluation_images() -> Any:
    """The test images that evaluations take in turns: (500, 784) bytes, binarised."""
    rows = np.arange(500)
    grey = data.load("mnist").test[rows]
    return noise.bernoulli(grey, seed=SEED, stream=noise.EVAL_BINARIZE, step=0, rows=rows)


@dataclass(frozen=True)
class Training:
    """A training that can be timed: `run` does `steps` steps on the batches that are next.

    `begin` goes to a state and back to the first batch; `parameters` gives them as they are. Ours has a `state`.
    """

    run: Step
    steps: int
    begin: Callable[[TrainingState], object]
    parameters: Callable[[], Mapping[str, Any]]
    state: TrainingState | None = None


def composed_step(backend: ModuleType, workload: Workload, *, dense: bool = False) -> Training:
    """A training step of the contract's operations on given x: it draws ε, and does forward, backward and Adam.

    With `dense` the pixels come as floats, so that the first layer is a matrix product.
    """
    x, rows = given_batches(workload)
    how: dict[str, Any] = {"objective": workload.objective, "samples": workload.samples or 1}

    def step(state: TrainingState, x: Any, rows: Any) -> object:
        return training_step(backend, workload.arch, state, x, rows, seed=SEED, optimiser=Optimiser(), **how)

    return _training(step, start(workload), x.astype(np.float32) if dense else x, rows)


def fused_step(
    backend: Backend,
    workload: Workload,
    *,
    grey: bool = False,
    make: Callable[[Any], Any] = lambda fused: fused,
    precision: str = FULL,
    instructions: str | None = None,
) -> Training:
    """The fused step, which does the same; with `grey` it draws the binary pixels first. `make` may change it.

    Its products may have another precision, by the fastest instructions that are here unless they are named.
    """
    state = start(workload)
    if instructions is None:
        fused = backend.fused_step(workload.arch, state, workload.batch, workload.samples, precision)
    else:
        how = {"precision": precision, "instructions": instructions}
        fused = backend.ops.FusedStep(workload.arch, state, workload.batch, workload.samples, **how)
    optimiser = Optimiser()
    assert fused is not None
    fused = make(fused)

    def step(state: TrainingState, x: Any, rows: Any) -> object:
        return fused(x, rows, seed=SEED, optimiser=optimiser, grey=grey)

    return _training(step, state, *(grey_batches if grey else given_batches)(workload))


def start(workload: Workload) -> TrainingState:
    """The state that every training begins with."""
    return TrainingState(initialise(workload.arch, seed=SEED))


def _training(step: Callable[[TrainingState, Any, Any], object], state: TrainingState, x: Any, rows: Any) -> Training:
    """Our steps, one per call, which change `state` in place."""
    batches = list(zip(x, rows, strict=True))
    turn = cycle(batches)

    def run() -> object:
        return step(state, *next(turn))

    def begin(at: TrainingState) -> None:
        nonlocal turn
        turn = cycle(batches)
        for mine, given in zip(_flat(state), _flat(at), strict=True):
            mine[...] = given
        state.step = at.step

    return Training(run, 1, begin, lambda: state.parameters, state)


def _flat(state: TrainingState) -> list[Any]:
    return [state.parameters.flat, *state.moments().values()]


def save(state: TrainingState, path: Path) -> None:
    """Write what a step changes, for another process to begin with."""
    np.savez(path, *_flat(state), step=state.step)


def load(workload: Workload, path: Path) -> TrainingState:
    """The state that `save` wrote."""
    state = start(workload)
    with np.load(path) as saved:
        for number, mine in enumerate(_flat(state)):
            mine[...] = saved[f"arr_{number}"]
        state.step = int(saved["step"])
    return state


def steps_at_once(workload: Workload) -> int:
    """Steps that one call does where a call is not free: of a scan, and of floors whose threads meet once per call."""
    return 20 if workload.decoded < 256 else 4


def parameter_count(workload: Workload) -> int:
    """How many parameters the model has."""
    return sum(math.prod(shape) for shape in workload.arch.shapes().values())


def step_products(workload: Workload) -> list[Product]:
    """Every matrix product of a dense training step: forward, weight and input gradients.

    The first layer has no input gradient. The two heads of the encoder are one product each way.
    """
    arch, rng = workload.arch, np.random.default_rng(SEED)
    encoder = [arch.features, *arch.hidden, 2 * arch.latent]
    decoder = [arch.latent, *arch.decoder_widths, arch.features]
    found: list[Product] = []
    for widths in (encoder, decoder, *_above(workload)):
        rows = workload.batch if widths is encoder else workload.decoded
        for inputs, outputs in pairwise(widths):
            x, weight, dy = (
                rng.standard_normal(shape, dtype=np.float32)
                for shape in ((rows, inputs), (inputs, outputs), (rows, outputs))
            )
            found += [(x, weight, np.empty_like(dy)), (x.T, dy, np.empty_like(weight))]
            if widths is not encoder or inputs != arch.features:
                found.append((dy, weight.T, np.empty_like(x)))
    return found


def _above(workload: Workload) -> list[list[int]]:
    """The widths of the networks between two stochastic layers, up and down."""
    arch = workload.arch
    if arch.top_latent is None:
        return []
    between = list(arch.top_hidden or ())
    return [[arch.latent, *between, 2 * arch.top_latent], [arch.top_latent, *between[::-1], 2 * arch.latent]]


def evaluation_products(workload: Workload, samples: int, chunk: int) -> list[Product]:
    """The products for `samples` draws of one example but the encoder's, `chunk` rows at a time in the same buffers."""
    arch, rng = workload.arch, np.random.default_rng(SEED)
    found: list[Product] = []
    for widths in ([arch.latent, *arch.decoder_widths, arch.features], *_above(workload)):
        for inputs, outputs in pairwise(widths):
            x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((chunk, inputs), (inputs, outputs)))
            found.append((x, weight, np.empty((chunk, outputs), np.float32)))
    return found * (samples // chunk)


def gemm_only(products: list[Product]) -> Step:
    """These matrix products and nothing else, each by NumPy's BLAS in the threading that it was started with."""

    def run() -> None:
        for a, b, out in products:
            np.matmul(a, b, out=out)

    return run


def gemm_in_slabs(products: list[Product], threads: int, by: str, repeats: int) -> Step:
    """`repeats` times these products, each thread its slab (of `rows` or `columns`) of every one, meeting at the end.

    It is for a BLAS on one thread. No thread waits for another between products, which no real step could do.
    """
    slabs = []
    for part in range(threads):
        mine: list[Product] = []
        for a, b, out in products:
            of = slice(*(side * out.shape[by == "columns"] // threads for side in (part, part + 1)))
            mine.append((a[of], b, out[of]) if by == "rows" else (a, b[:, of], out[:, of]))
        slabs.append(gemm_only(mine))
    return in_threads(slabs, repeats)


def in_threads(parts: list[Step], repeats: int) -> Step:
    """One call that has each part called `repeats` times in a thread of its own, and waits for all."""
    pool = ThreadPoolExecutor(len(parts))

    def many(part: Step) -> None:
        for _ in range(repeats):
            part()

    def run() -> None:
        for _ in pool.map(many, parts):
            pass

    return run


def operations(backend: ModuleType, workload: Workload) -> dict[str, Step]:
    """Each operation of the contract on this workload's shapes, by name, in float32."""
    arch, batch = workload.arch, workload.batch
    rng = np.random.default_rng(SEED)
    width = arch.hidden[0]

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    grey, rows = grey_batch(workload)
    x = noise.bernoulli(grey, seed=SEED, stream=noise.BINARIZE, step=0, rows=rows)
    weight, bias = 0.05 * normal(arch.features, width), normal(width)
    h, out_weight, out_bias = normal(batch, width), 0.05 * normal(width, arch.features), normal(arch.features)
    mu, logvar, eps = (normal(batch, arch.latent) for _ in range(3))
    logits = normal(batch, arch.features)
    per_row, dz, dh = normal(batch), normal(batch, arch.latent), normal(batch, width)
    sigma, log_w = normal(arch.features), normal(50, batch)
    _, dense = backend.affine_act_forward(h, out_weight, out_bias, "identity")
    _, binary = backend.binary_affine_act_forward(x, weight, bias, arch.activation)
    _, reparam = backend.reparam_kl_forward(mu, logvar, eps)
    _, bernoulli = backend.bernoulli_loglik_forward(x, logits)
    _, gaussian = backend.normal_loglik_forward(logits, logits, sigma)
    flat = [np.abs(normal(parameter_count(workload))) for _ in range(4)]
    address = {"seed": SEED, "step": 0}
    return {
        "affine_act_forward": lambda: backend.affine_act_forward(h, out_weight, out_bias, "identity"),
        "affine_act_backward": lambda: backend.affine_act_backward(logits, dense),
        "binary_affine_act_forward": lambda: backend.binary_affine_act_forward(x, weight, bias, arch.activation),
        "binary_affine_act_backward": lambda: backend.binary_affine_act_backward(dh, binary),
        "reparam_kl_forward": lambda: backend.reparam_kl_forward(mu, logvar, eps),
        "reparam_kl_backward": lambda: backend.reparam_kl_backward((dz, per_row), reparam),
        "bernoulli_loglik_forward": lambda: backend.bernoulli_loglik_forward(x, logits),
        "bernoulli_loglik_backward": lambda: backend.bernoulli_loglik_backward(per_row, bernoulli),
        "normal_loglik_forward": lambda: backend.normal_loglik_forward(logits, logits, sigma),
        "normal_loglik_backward": lambda: backend.normal_loglik_backward(per_row, gaussian),
        "log_mean_exp_weights": lambda: backend.log_mean_exp_weights(log_w),
        "adam_update": lambda: backend.adam_update(*flat, step=1, lr=1e-9),
        "philox_normal": lambda: backend.philox_normal(rows, arch.latent, stream=noise.EPS, **address),
        "philox_bernoulli": lambda: backend.philox_bernoulli(grey, stream=noise.BINARIZE, rows=rows, **address),
    }
