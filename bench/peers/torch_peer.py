"""The model in PyTorch: nn.Linear's functions and fused Adam; the loss eager or compiled, or a whole step compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vae_np.architecture import Architecture
from vae_np.cli import machine
from vae_np.model import initialise
from vae_np.parameters import Parameters
from vae_np.step import TrainingState

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "softplus": F.softplus}
WHOLE = "torch whole graph"
MODES = ("torch eager", "torch compiled", WHOLE)
EVAL_MODES = MODES[:2]
# The same under autocast, which has the operands of products in bfloat16.
AUTOCAST = ", autocast"
REDUCED_MODES = {"bf16": tuple(mode + AUTOCAST for mode in MODES)}
# Samples decoded at once in the evaluation. Eager, of 250, 500, 1000 and 5000 the fastest.
_CHUNK = 500

torch.set_num_threads(machine.cores() or 1)


def tensors(parameters: Parameters) -> dict[str, torch.Tensor]:
    """Our parameters in PyTorch's layout, weights (out, in)."""
    return {
        name: torch.tensor(value.T.copy() if value.ndim == 2 else value.copy(), requires_grad=True)
        for name, value in parameters.items()
    }


def _mlp(arch: Architecture, p: dict[str, torch.Tensor], part: str, h: torch.Tensor) -> torch.Tensor:
    for name in arch.hidden_layers(part):
        h = ACTIVATIONS[arch.activation](_linear(p, name, h))
    return h


def _linear(p: dict[str, torch.Tensor], name: str, h: torch.Tensor) -> torch.Tensor:
    return F.linear(h, p[f"{name}.weight"], p[f"{name}.bias"])


def encode(arch: Architecture, p: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """mu and logvar (B, K) of x (B, D)."""
    h = _mlp(arch, p, "encoder", x)
    return _linear(p, "encoder.mu", h), _linear(p, "encoder.logvar", h)


def decode(arch: Architecture, p: dict[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """Logits, or the normal's mean, (B, D), of z (B, K)."""
    return _linear(p, "decoder.out", _mlp(arch, p, "decoder", z))


def _normal_above(
    arch: Architecture, p: dict[str, torch.Tensor], part: str, h: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and logvar of what lies on the other side of a network between two stochastic layers."""
    for index in range(len(arch.top_hidden or ())):
        h = ACTIVATIONS[arch.activation](_linear(p, f"{part}.hidden.{index}", h))
    return _linear(p, f"{part}.mu", h), _linear(p, f"{part}.logvar", h)


def log_ratio(
    arch: Architecture, p: dict[str, torch.Tensor], z: torch.Tensor, logvar: torch.Tensor, eps: torch.Tensor
) -> torch.Tensor:
    """log p(z) − log q(z|x) at the noise eps (..., columns), of both z where there are two stochastic layers."""
    below, above = eps[..., : arch.latent], eps[..., arch.latent :]
    own = below.pow(2) + logvar
    if arch.top_latent is None:
        return 0.5 * (own - z.pow(2)).sum(-1)
    top_mu, top_logvar = _normal_above(arch, p, "top.encoder", z)
    top = top_mu + torch.exp(0.5 * top_logvar) * above
    mean, spread = _normal_above(arch, p, "top.decoder", top)
    own = own - (z - mean).pow(2) * torch.exp(-spread) - spread
    return 0.5 * (own.sum(-1) + (above.pow(2) + top_logvar - top.pow(2)).sum(-1))


def negative_elbo(arch: Architecture, p: dict[str, torch.Tensor], x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """−ELBO, the mean over the batch, in nats, with the analytic KL where there is one."""
    if arch.top_latent is not None:
        return negative_bound(arch, p, x, eps[None])
    mu, logvar = encode(arch, p, x)
    out = decode(arch, p, mu + torch.exp(0.5 * logvar) * eps)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    if arch.is_bernoulli:
        missed = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
    else:
        of_pixel = p["likelihood.logvar"]
        missed = 0.5 * torch.sum((x - out).pow(2) * torch.exp(-of_pixel) + of_pixel + math.log(2 * math.pi))
    return (missed + kl) / len(x)


def negative_bound(arch: Architecture, p: dict[str, torch.Tensor], x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """−IWAE's bound, the mean over the batch, in nats, of the samples eps (K, B, columns)."""
    mu, logvar = encode(arch, p, x)
    z = mu + torch.exp(0.5 * logvar) * eps[..., : arch.latent]
    logits = decode(arch, p, z)
    loglik = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    log_w = loglik + log_ratio(arch, p, z, logvar, eps)
    return (math.log(len(eps)) - torch.logsumexp(log_w, 0)).mean()


def loss(arch: Architecture, parameters: Parameters, x: Any, eps: Any, *, samples: int | None = None) -> float:
    """The loss on given noise, sample by sample, to be compared with ours."""
    of = negative_elbo if samples is None else negative_bound
    with torch.no_grad():
        given, noise = torch.tensor(x.astype(np.float32)), torch.tensor(eps).reshape(noise_shape(arch, x, samples))
        return float(of(arch, tensors(parameters), given, noise))


def noise_shape(arch: Architecture, x: Any, samples: int | None) -> tuple[int, ...]:
    """The noise of a batch x: an ε an example, or with `samples` so many."""
    return (len(x), arch.noise_columns) if samples is None else (samples, len(x), arch.noise_columns)


Loss = Callable[[torch.Tensor, dict[str, torch.Tensor]], torch.Tensor]
# Of each parameter: both moments and the number of steps taken.
Moments = dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def training(
    mode: str, arch: Architecture, x: Any, *, count: int, grey: bool = False, samples: int | None = None
) -> tuple[Callable[[], object], int, Callable[[TrainingState], object], Callable[[], dict[str, Any]]]:
    """Training on the batches x (N, B, D) in turn: as they are given, or with `grey` bytes that are drawn when visited.

    It maximises the ELBO, or with `samples` IWAE's bound.

    Returns what to call, how many steps that is (one), what goes to a state and the first batch, and what gives the
    parameters as they are then.
    """
    batches = torch.tensor(x.astype(np.float32) / np.float32(255 if grey else 1)).unbind()
    objective = negative_elbo if samples is None else negative_bound
    turn, p = cycle(batches), tensors(initialise(arch, seed=0))

    how, is_reduced = mode.removesuffix(AUTOCAST), mode.endswith(AUTOCAST)

    def loss_on(x: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
        seen = torch.bernoulli(x) if grey else x
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_reduced):
            return objective(arch, p, seen, torch.randn(noise_shape(arch, x, samples)))

    step, moments = (_graph_step if how == WHOLE else _eager_step)(
        torch.compile(loss_on) if how == "torch compiled" else loss_on, p
    )

    @torch.no_grad()
    def begin(at: TrainingState) -> None:
        nonlocal turn
        turn = cycle(batches)
        # Its own seed is another one in each process.
        torch.manual_seed(0)
        for name, (first, second, steps) in moments.items():
            for mine, its in ((p[name], at.parameters), (first, at.first_moment), (second, at.second_moment)):
                mine.copy_(torch.from_numpy(its[name].T.copy()))
            steps.fill_(at.step)

    return lambda: step(next(turn)), 1, begin, lambda: {name: value.detach().numpy().T for name, value in p.items()}


def _eager_step(loss_on: Loss, p: dict[str, torch.Tensor]) -> tuple[Callable[[torch.Tensor], None], Moments]:
    """autograd and the fused Adam; the loss may have been compiled."""
    optimiser = torch.optim.Adam(list(p.values()), lr=1e-3, fused=True)
    for value in p.values():
        optimiser.state[value] = {
            "step": torch.tensor(0.0), "exp_avg": torch.zeros_like(value), "exp_avg_sq": torch.zeros_like(value)
        }  # fmt: skip

    def step(x: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss_on(x, p).backward()
        optimiser.step()

    names = ("exp_avg", "exp_avg_sq", "step")
    return step, {name: tuple(optimiser.state[value][key] for key in names) for name, value in p.items()}


def _graph_step(loss_on: Loss, p: dict[str, torch.Tensor]) -> tuple[Callable[[torch.Tensor], None], Moments]:
    """Forward, backward and Adam as one compiled graph, which fuses the update of all parameters."""
    values = {name: value.requires_grad_(False) for name, value in p.items()}
    taken = torch.tensor(0.0)
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value), taken) for name, value in values.items()}

    @torch.compile
    def step(x: torch.Tensor) -> None:
        gradients = torch.func.grad(lambda q: loss_on(x, q))(values)
        taken.add_(1)
        size, root = 1e-3 / (1 - 0.9**taken), torch.sqrt(1 - 0.999**taken)
        for name, g in gradients.items():
            first, second, _ = moments[name]
            first.lerp_(g, 0.1)
            second.mul_(0.999).addcmul_(g, g, value=0.001)
            values[name].sub_(size * first / (second.sqrt() / root + 1e-8))

    return step, moments


def log_likelihood(
    mode: str, arch: Architecture, parameters: Parameters, *, samples: int
) -> Callable[[Any], tuple[Any, Any]]:
    """What gives log p(x) and Σ w̃² of each x (B, D), (B,) both, by importance sampling with `samples` draws."""
    p = tensors(parameters)
    chunk = min(_CHUNK, samples)
    if samples % chunk:
        raise ValueError(f"samples: got {samples}, expected a multiple of {chunk}")

    def part(x: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        eps = torch.randn(chunk, arch.noise_columns)
        z = mu + torch.exp(0.5 * logvar) * eps[..., : arch.latent]
        logits = decode(arch, p, z)
        # Σ (x l − softplus(l)), the first part as a product, so that x is not spread over the samples.
        return logits @ x - F.softplus(logits).sum(-1) + log_ratio(arch, p, z, logvar, eps)

    weights = torch.compile(part) if mode == "torch compiled" else part

    @torch.inference_mode()
    def run(x: Any) -> tuple[Any, Any]:
        given = torch.from_numpy(x).float()
        mus, logvars = encode(arch, p, given)
        found, sum_squares = [], []
        for one, mu, logvar in zip(given, mus, logvars, strict=True):
            log_w = torch.cat([weights(one, mu, logvar) for _ in range(samples // chunk)])
            whole = torch.logsumexp(log_w, 0)
            found.append(whole - math.log(samples))
            sum_squares.append(torch.exp(2 * (log_w - whole)).sum())
        return torch.stack(found).numpy(), torch.stack(sum_squares).numpy()

    return run
