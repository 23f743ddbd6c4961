"""What holds the objectives of several samples, beside closed forms: gradients, names, what is drawn, stages."""

from __future__ import annotations

import numpy as np

from vae_np import ops, optim
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_forward
from vae_np.gradcheck import check_grad
from vae_np.model import initialise
from vae_np.objectives import objective_forward
from vae_np.step import Optimiser, TrainingState, training_step
from vae_np.training import loop
from vae_np.verify.catalogue import objective_loss

from .checks_conduct import _recording, _trainer, count, rule
from .checks_exact import close, exactly
from .checks_gradients import SEED, _hold
from .plant import Check

ARCH = Architecture(4, 1, (3,), "tanh", "bernoulli")
PARAMETERS = initialise(ARCH, seed=2, dtype=np.float64)
X = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]], dtype=np.uint8)


def gradient(objective: str) -> Check:
    """The gradient check of an objective; for an estimate, of the scalar that it is the derivative of."""

    def run() -> None:
        scalar = objective_loss(ops, Architecture(7, 2, (5, 4), "tanh", "bernoulli"), objective, SEED)
        _hold(check_grad(scalar.loss, scalar.gradient, scalar.point, name=scalar.name), scalar.smooth)

    return Check(f"gradient of the model ({objective})", "gradient", run)


@rule
def what_is_called_elbo_has_neither_weights_nor_beta() -> None:
    eps = np.random.default_rng(9).normal(size=(12, 1))
    elbo, _ = elbo_forward(ops, ARCH, PARAMETERS, X, eps)
    for objective in ("elbo", "iwae", "stl", "dreg", "score"):
        terms, _ = objective_forward(ops, ARCH, PARAMETERS, X, eps, objective=objective, beta=0.3)
        close(terms.elbo, elbo.elbo, 0.0)


@count
def a_step_draws_as_many_samples_as_were_asked_for() -> None:
    recording, calls = _recording()
    rows = np.array([7, 3, 5])
    for objective in ("elbo", "iwae"):
        state = TrainingState(PARAMETERS.astype(np.float64))
        training_step(recording, ARCH, state, X, rows, seed=0, optimiser=Optimiser(), objective=objective, samples=3)
    assert [call["pairs"] for call in calls] == [[(row, s) for s in range(3) for row in rows.tolist()]] * 2


@rule
def a_run_climbs_what_it_was_asked_to() -> None:
    lines: list[dict[str, float]] = []
    for objective in ("iwae", "elbo"):
        loop.run(_trainer(objective=objective, samples=5, epochs=1), on_metrics=lines.append)
    bound, elbo = (line for line in lines if line["split"] == "train")
    assert bound["elbo"] + 1e-3 < bound["objective"]
    close(elbo["objective"], elbo["elbo"], 1e-12)


@exactly
def stages_have_the_printed_rates() -> None:
    rates = [optim.staged_lr(optim.staged_epochs(n), first=1e-3) for n in range(8)]
    close(rates, [1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4], 1e-14)
    close([optim.staged_epochs(n) for n in range(1, 9)], [1, 4, 13, 40, 121, 364, 1093, 3280], 0.0)
    close([optim.stage_of(epoch) for epoch in (0, 1, 3, 4, 3279)], [1, 2, 2, 3, 8], 0.0)
