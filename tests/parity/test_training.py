"""Training and evaluation as users run them: fused where they can be, with the bits that a run must repeat.

Budget: about 6 s once compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import VAE, backends, data
from vae_np.config import Config
from vae_np.data import bars
from vae_np.errors import NonFiniteError
from vae_np.evaluation import held_out
from vae_np.kernels.check import compare
from vae_np.training import loop
from vae_np.training.trainer import Trainer

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.kernels import cpu
from vae_np.model import Model

BITS = bars(4, 90, 0)[0]
GREY = np.where(BITS == 1, 230, 25).astype(np.uint8)


def trained(backend: str, rows: Any = GREY, values: Any = data.BYTE, **settings: Any) -> Trainer:
    how = {"hidden": (8,), "latent": 2, "batch_size": 10, "epochs": 3, "lr": 0.01, "dtype": "float64", "seed": 4}
    trainer = Trainer(Config(**{**how, **settings}), backends.choose(backend), rows, values)
    loop.run(trainer)
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"binarize": "fixed"},
        {"binarize": "threshold"},
        {"optimizer": "adagrad"},
        {"beta": 0.5, "beta_warmup": 2},
        {"hidden": (7, 5), "activation": "softplus"},
        {"hidden": ()},
        {"inference": "local"},
        {"likelihood": "bernoulli-grey", "binarize": "none"},
        {"likelihood": "normal", "binarize": "none"},
        {"likelihood": "normal-fixed", "sigma": 0.3, "binarize": "none"},
        {"likelihood": "normal-diagonal", "binarize": "none"},
        {"likelihood": "normal", "binarize": "dynamic"},
    ],
    ids=lambda settings: " ".join(f"{key}={value}" for key, value in settings.items()) or "default",
)
def test_both_backends_train_to_the_same_parameters(settings: dict[str, Any]) -> None:
    ours, theirs = trained("numba", **settings), trained("numpy", **settings)
    compare(ours.state.parameters.flat, theirs.state.parameters.flat).check(1e-9, "parameters")
    assert (ours.fused is None) == (settings.get("hidden") == () or "inference" in settings)
    assert theirs.fused is None


@pytest.mark.parametrize(("rows", "values"), [(BITS, data.BINARY), ((GREY / 255).astype(np.float32), data.UNIT)])
def test_other_kinds_of_data_take_the_fused_step_too(rows: Any, values: Any) -> None:
    ours, theirs = trained("numba", rows, values), trained("numpy", rows, values)
    assert ours.fused is not None
    compare(ours.state.parameters.flat, theirs.state.parameters.flat).check(1e-9, "parameters")


@pytest.mark.parametrize("settings", [{"dtype": "float32"}, {"likelihood": "normal", "binarize": "none"}])
def test_one_thread_or_all_and_again_give_the_same_bits(settings: dict[str, Any]) -> None:
    found = []
    for threads in (1, cpu.available(), cpu.available()):
        cpu.set_threads(threads)
        found.append(trained("numba", **settings).state.parameters.flat.copy())
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[1], found[2])


def test_the_likelihood_is_fused_where_it_can_be_and_the_same_for_any_threads() -> None:
    state = trained("numba").state
    examples = held_out.Examples(BITS, data.BINARY, "none", 0)
    arch = trained("numpy", epochs=1).arch
    backend = backends.choose("numba")
    fused, model = backend.fused_log_weights(arch), Model(backend.ops, arch, state.parameters)
    assert fused is not None
    found = []
    for threads in (1, cpu.available()):
        cpu.set_threads(threads)
        found.append(held_out.log_likelihood(model, examples, samples=130, seed=2, fused=fused))
    composed = held_out.log_likelihood(model, examples, samples=130, seed=2)
    assert np.array_equal(found[0].log_likelihood, found[1].log_likelihood)
    for name in ("log_likelihood", "stderr", "ess"):
        compare(getattr(found[0], name), getattr(composed, name)).check(1e-10, name)


@pytest.mark.parametrize(("likelihood", "x"), [("bernoulli", BITS), ("normal", GREY / 255)])
def test_a_model_uses_the_fused_likelihood(likelihood: str, x: Any) -> None:
    how: dict[str, Any] = {"hidden": (8,), "latent": 2, "dtype": "float64", "likelihood": likelihood}
    ours, theirs = (VAE(16, backend=name, **how) for name in ("numba", "numpy"))
    found, want = (vae.log_likelihood(x[:7], 20).log_likelihood for vae in (ours, theirs))
    compare(found, want).check(1e-11)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_what_is_not_finite_is_named(backend: str) -> None:
    with pytest.raises(NonFiniteError, match=r"^step \d+: .*\S is not finite; a smaller lr often helps$"):
        trained(backend, lr=1e30, dtype="float32")


def test_what_is_said_of_steps_and_evaluation() -> None:
    backend, arch = backends.choose("numba"), trained("numpy", epochs=1).arch
    assert backend.describe("steps", arch) == "fused steps"
    flat = trained("numpy", epochs=1, hidden=()).arch
    assert backend.describe("evaluation", flat) == "composed evaluation (nothing is fused without a hidden layer)"
    assert backends.choose("numpy").describe("steps", arch) == "composed steps"
    assert backend.vector_bits in (128, 256, 512)
