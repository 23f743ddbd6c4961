"""The same gradients by other people's automatic differentiation, and the operations as autograd functions of PyTorch.

PyTorch and JAX are extras: where one is absent its tests are skipped and say so. HIPS autograd comes with the
development tools. Budget: about 1 s, or 5 s with PyTorch and JAX; most of JAX's models are marked slow (about 15 s).
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import error

from vae_np import layers, ops
from vae_np.errors import InputError
from vae_np.verify import against_autodiff, catalogue, runner
from vae_np.verify.catalogue import Pair

SEED = 3
PAIRS = [
    pair
    for family in (
        catalogue.layer_pairs(SEED),
        catalogue.distribution_pairs(SEED),
        catalogue.operation_pairs(ops, SEED),
    )
    for pair in family
]


def imported(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed: an extra, not needed for the package")


# --- The whole model --------------------------------------------------------------------------------------------


def models() -> list[Any]:
    """Every library with every architecture and loss: JAX compiles each for seconds, so that all but one are slow."""
    found = []
    architectures = against_autodiff.ARCHITECTURES
    every = [(arch, what) for arch in architectures for what in catalogue.losses_of(arch)]
    for library, (arch, what) in itertools.product(against_autodiff.LIBRARIES, every):
        first = arch is against_autodiff.ARCHITECTURES[0] and what == catalogue.LOSSES[0]
        marks = [pytest.mark.slow] if library == "jax" and not first else []
        layers_of = "" if arch.top_latent is None else "-two-layers"
        kinds = f"{arch.posterior}-{arch.prior}-{arch.conditions}{layers_of}"
        name = f"{library}-{arch.activation}-{arch.likelihood}-{kinds}-{what}"
        found.append(pytest.param(library, arch, what, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("library", "arch", "what"), models())
def test_every_parameter_tensor_agrees(library: str, arch: Any, what: str) -> None:
    imported(library)
    for seed, beta in ((SEED, 0.7), (SEED + 1, 1.0)):
        scalar = catalogue.loss_of(ops, arch, what, seed, beta)
        expected = against_autodiff.gradients(library, arch, what, seed, beta)
        found = scalar.gradient(scalar.point)
        assert found.keys() == expected.keys() == arch.shapes().keys()
        for name in found:
            assert np.any(expected[name]), name
            assert error(found[name], expected[name]) < 1e-10, name


def test_the_architectures_differ_in_activation_depth_and_likelihood() -> None:
    assert len(against_autodiff.ARCHITECTURES) >= 3
    assert {arch.activation for arch in against_autodiff.ARCHITECTURES} == {"tanh", "relu", "softplus"}
    assert {len(arch.hidden) for arch in against_autodiff.ARCHITECTURES} == {1, 2, 3}
    assert {arch.is_bernoulli for arch in against_autodiff.ARCHITECTURES} == {True, False}


def test_a_wrong_backward_fails_upstream_of_it_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part in a million of tanh's derivative: the encoder and the hidden decoder layers see it, the output not."""
    forward, backward = layers.ACTIVATIONS["tanh"]
    off = (forward, lambda dy, cache: backward(dy, cache) * (1 + 1e-6))
    monkeypatch.setitem(layers.ACTIVATIONS, "tanh", off)
    rows = list(runner._autodiff_rows("autograd", SEED))
    for row in rows:
        # The score function sends nothing through the decoder: the encoder's heads have no tanh below them. Where λ has
        # been refined by gradients, all of it has. Of two stochastic layers the heads of p(z₁|z₂) are an output, too,
        # and so is what a mixture's density depends on.
        heads = "mu" in row.name or "logvar" in row.name
        of_heads = heads and ("score" in row.name or ": top.decoder" in row.name)
        seen = ("decoder.out" in row.name and "refined" not in row.name) or of_heads
        seen = seen or any(name in row.name for name in ("prior.logits", "prior.means", "prior.logvars"))
        assert row.passed == ("tanh" not in row.name or seen), row
        assert row.backend == "numpy"
        assert row.method == "autodiff (autograd)"
    every = against_autodiff.ARCHITECTURES
    tensors = sum(len(arch.shapes()) * len(catalogue.losses_of(arch)) for arch in every)
    assert len({row.name for row in rows}) == len(rows) == tensors


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(InputError, match=r"^against: got 'tensorflow', expected one of torch, jax, autograd$"):
        against_autodiff.check_present("tensorflow")


@pytest.mark.parametrize("library", against_autodiff.LIBRARIES)
def test_a_library_that_cannot_be_imported_is_one_line_with_the_remedy(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"^against: {library} cannot be imported \(.*\); pip install '\.\[\w+\]'"):
        against_autodiff.check_present(library)


# --- PyTorch's own checker --------------------------------------------------------------------------------------


def differentiated(pair: Pair) -> list[int]:
    """The places of the inputs that have a gradient."""
    return [pair.names.index(name) for name in pair.wrt]


def as_torch_function(torch: Any, pair: Pair) -> Any:
    """The pair as a function of the tensors it has gradients for, which PyTorch differentiates by its backward."""
    places = differentiated(pair)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            inputs = list(pair.inputs)
            for place, tensor in zip(places, tensors, strict=True):
                inputs[place] = tensor.detach().numpy()
            out, ctx.cache = pair.forward(*inputs)
            return tuple(map(torch.from_numpy, out)) if isinstance(out, tuple) else torch.from_numpy(out)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *upstream: Any) -> Any:
            arrays = tuple(tensor.numpy() for tensor in upstream)
            found = pair.backward(arrays if len(arrays) > 1 else arrays[0], ctx.cache)
            gradients = found if isinstance(found, tuple) else (found,)
            return tuple(torch.from_numpy(np.array(g)) for g in gradients if g is not None)

    return Wrapped.apply


def torch_gradcheck(torch: Any, pair: Pair) -> bool:
    points = [torch.tensor(pair.inputs[place], requires_grad=True) for place in differentiated(pair)]
    return torch.autograd.gradcheck(as_torch_function(torch, pair), points, eps=1e-6, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_torch_gradcheck_accepts_the_pair(pair: Pair) -> None:
    assert torch_gradcheck(imported("torch"), pair)


def test_torch_gradcheck_would_refuse_a_wrong_backward() -> None:
    torch = imported("torch")
    right = next(pair for pair in PAIRS if pair.name == "normal_kl")
    wrong = replace(right, backward=lambda dkl, cache: tuple(2 * gradient for gradient in right.backward(dkl, cache)))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch_gradcheck(torch, wrong)


def pairs_of(module: Any) -> Iterator[str]:
    names = set(dir(module))
    for name in sorted(names):
        stem = name.removesuffix("_forward")
        if stem != name and f"{stem}_backward" in names:
            yield f"{stem}_forward"


def test_the_catalogue_holds_every_pair_of_the_reference() -> None:
    """So that a new pair is checked by everything that goes through the catalogue."""
    checked = {getattr(pair.forward, "__name__", "") for pair in PAIRS}
    # Wrapped in the catalogue, so that their functions have no name of their own.
    wrapped = {"mlp_forward", "full_normal_log_prob_forward", "full_normal_sample_forward"}
    modules = [importlib.import_module(f"vae_np.{name}") for name in ("layers", "distributions", "ops")]
    present = set(itertools.chain.from_iterable(map(pairs_of, modules)))
    assert present - wrapped <= checked
    assert {name.removesuffix("_forward") for name in wrapped} <= {pair.name.split(",")[0] for pair in PAIRS}
