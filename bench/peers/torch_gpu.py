"""The model in PyTorch on a CUDA device: eager with fused Adam, and a whole step as one graph, of eager kernels or of
compiled ones.

The mathematics is that of `torch_peer`; TF32 is off, as it is for everyone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F

from peers import torch_peer
from vae_np.architecture import Architecture
from vae_np.parameters import Parameters

MODES = ("torch eager", "torch graph", "torch compiled graph")
EVAL_MODES = ("torch eager", "torch compiled")
# Rows (samples × images) decoded at once in the evaluation: their logits take 160 MB.
_ROWS = 50_000
_WARM_STEPS = 5


def prepare(device: str = "cuda") -> None:
    """Float32 products without TF32, and new tensors on the device."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.set_default_device(device)


def loss(arch: Architecture, parameters: Parameters, x: Any, eps: Any, *, samples: int | None = None) -> float:
    """The loss on given noise, to be compared with ours."""
    return torch_peer.loss(arch, parameters, x, eps, samples=samples)


def training(
    mode: str,
    arch: Architecture,
    parameters: Parameters,
    x: Any,
    *,
    grey: bool,
    samples: int | None = None,
    device: str = "cuda",
) -> tuple[Callable[[int], None], Callable[[], dict[str, Any]]]:
    """Training on the batches x (N, B, D) in turn: as they are given, or with `grey` bytes that are drawn when visited.

    It maximises the ELBO, or with `samples` IWAE's bound. Returns what does so many steps and waits for them, and what
    gives the parameters as they are then.
    """
    p = torch_peer.tensors(parameters)
    graphed = mode.endswith("graph")
    optimiser = torch.optim.Adam(list(p.values()), lr=1e-3, fused=True, capturable=graphed)
    batches = cycle((torch.tensor(x, dtype=torch.float32) / (255 if grey else 1)).unbind())
    # A recorded graph reads from one place, to which each batch is copied.
    given = next(batches).clone()
    objective = torch_peer.negative_elbo if samples is None else torch_peer.negative_bound

    def one() -> torch.Tensor:
        seen = torch.bernoulli(given) if grey else given
        # The compiler does not ask for the default device, which is why it is named.
        eps = torch.randn(torch_peer.noise_shape(arch, given, samples), device=given.device)
        return objective(arch, p, seen, eps)

    # Without graphs of the compiler's own: those and the ones recorded here would share what they must not.
    forward = torch.compile(one) if "compiled" in mode else one

    def step() -> None:
        optimiser.zero_grad(set_to_none=not graphed)
        forward().backward()
        optimiser.step()

    if graphed:
        step = _captured(step)

    def run(count: int) -> None:
        for _ in range(count):
            given.copy_(next(batches))
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run, lambda: {name: value.detach().cpu().numpy().T for name, value in p.items()}


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """A whole step, forward, backward and Adam, recorded once: what `torch.cuda.graph` asks for before, too."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def gemm_only(products: list[tuple[Any, Any, Any]]) -> Callable[[int], None]:
    """These matrix products and nothing else, by cuBLAS in float32, recorded as one graph."""
    on_device = [tuple(torch.tensor(array.copy()) for array in one) for one in products]

    def step() -> None:
        for a, b, out in on_device:
            torch.matmul(a, b, out=out)

    replay = _captured(step)

    def run(count: int) -> None:
        for _ in range(count):
            replay()
        torch.cuda.synchronize()

    return run


def log_likelihood(mode: str, arch: Architecture, parameters: Parameters, *, samples: int) -> Callable[[Any], Any]:
    """What gives log p(x) of each x (B, D), (B,), by importance sampling with `samples` draws."""
    p = torch_peer.tensors(parameters)

    def part(x: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        z = mu + torch.exp(0.5 * logvar) * eps
        logits = torch_peer.decode(arch, p, z)
        found = (x * logits - F.softplus(logits)).sum(-1)
        return found + 0.5 * (eps.pow(2) + logvar - z.pow(2)).sum(-1)

    weights = torch.compile(part) if mode == "torch compiled" else part

    @torch.inference_mode()
    def run(x: Any) -> Any:
        given = torch.tensor(x, dtype=torch.float32)
        mu, logvar = torch_peer.encode(arch, p, given)
        chunk = max(1, min(samples, _ROWS // len(given)))
        log_w = []
        for first in range(0, samples, chunk):
            eps = torch.randn(min(chunk, samples - first), len(given), arch.latent)
            log_w.append(weights(given, mu, logvar, eps))
        return (torch.logsumexp(torch.cat(log_w), 0) - math.log(samples)).cpu().numpy()

    return run
