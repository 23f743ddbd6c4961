"""The default training in PyTorch, eager with fused Adam, as a whole program: what its memory is compared with.

784-400-20 on MNIST: Adam at batch 128, pixels drawn anew at every visit, the ELBO of 5,000 held-out images after each
epoch and of the test set at the end. Images stay bytes, and a batch becomes floats when it is used. `sys.argv[1]` is
the number of epochs. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys

import torch
from torch_peer import negative_elbo, tensors

from vae_np import data
from vae_np.architecture import Architecture
from vae_np.model import initialise

BATCH, HELD_OUT, EVAL_BATCH = 128, 5000, 500
ARCH = Architecture(784, 20, (400,), "relu")


def _seen(grey: torch.Tensor) -> torch.Tensor:
    return torch.bernoulli(grey.float().div_(255))


def _elbo(p: dict[str, torch.Tensor], images: torch.Tensor) -> float:
    """The mean ELBO, with one ε an image."""
    with torch.inference_mode():
        parts = [
            negative_elbo(ARCH, p, _seen(grey), torch.randn(len(grey), ARCH.latent))
            for grey in images.split(EVAL_BATCH)
        ]
    return -float(torch.stack(parts).mean())


def main() -> None:
    """Train, validate, test."""
    torch.manual_seed(0)
    mnist = data.load("mnist")
    train, test = torch.from_numpy(mnist.train), torch.from_numpy(mnist.test)
    train, held_out = train[:-HELD_OUT], train[-HELD_OUT:]
    p = tensors(initialise(ARCH, seed=0))
    optimiser = torch.optim.Adam(list(p.values()), lr=1e-3, fused=True)
    history = []
    for _ in range(int(sys.argv[1])):
        total = torch.zeros(())
        order = torch.randperm(len(train))
        for rows in order[: len(train) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            loss = negative_elbo(ARCH, p, _seen(train[rows]), torch.randn(BATCH, ARCH.latent))
            loss.backward()
            optimiser.step()
            total += loss.detach()
        history.append((-float(total) / (len(train) // BATCH), _elbo(p, held_out)))
    print(json.dumps({"test_elbo": _elbo(p, test), "history": history}))


if __name__ == "__main__":
    main()
