"""Which of their tensors is which of ours, and the architecture that their shapes tell."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import Activation, Likelihood
from vae_np.errors import InputError

# By our names, the layers as others call them. A tensor is a layer's name with `.weight` or `.bias` behind it.
MAPPINGS: Mapping[str, Mapping[str, str]] = {
    "pytorch-examples": {
        "encoder.hidden.0": "fc1",
        "encoder.mu": "fc21",
        "encoder.logvar": "fc22",
        "decoder.hidden.0": "fc3",
        "decoder.out": "fc4",
    },
}
_PARTS = ("weight", "bias")
_LAYER = re.compile(r"(?:encoder|decoder)\.hidden\.\d+|encoder\.(?:mu|logvar)|decoder\.out")
_LOGVAR = "likelihood.logvar"
_SHOWN = 6


def named(
    tensors: Mapping[str, Array],
    mapping: Mapping[str, str] | str | None = None,
    *,
    activation: Activation = "relu",
    likelihood: Likelihood = "bernoulli",
    sigma: float = 1.0,
) -> tuple[Architecture, dict[str, Array]]:
    """The architecture of a model whose tensors have names of their own, and its tensors by ours, weights (in, out).

    tensors: weights (out, in), as nn.Linear has them. mapping: our layers to theirs, such as {"encoder.mu": "fc21"}, or
    one of `MAPPINGS`; None where the names are ours, or those of one of `MAPPINGS`. Shapes do not tell activation,
    likelihood and sigma. Raises InputError where a tensor is missing or left over, or shapes do not fit together.
    """
    layers = _layers(tensors, mapping)
    found: dict[str, Array] = {}
    for ours, theirs in layers.items():
        for part in _PARTS:
            if f"{theirs}.{part}" not in tensors:
                raise InputError(f"weights: have no {theirs}.{part}, which is {ours}.{part}; {_had(tensors)}")
            found[f"{ours}.{part}"] = tensors[f"{theirs}.{part}"]
    used = {f"{theirs}.{part}" for theirs in layers.values() for part in _PARTS}
    if _LOGVAR in tensors:
        found[_LOGVAR] = tensors[_LOGVAR]
        used.add(_LOGVAR)
    left = [name for name in tensors if name not in used]
    if left:
        raise InputError(f"weights: nothing of ours is {', '.join(left[:_SHOWN])}; the mapping is {dict(layers)}")
    arch = _architecture(found, activation, likelihood, sigma)
    turned = {name: tensor.T if name.endswith(".weight") else tensor for name, tensor in found.items()}
    for name, expected in arch.shapes().items():
        if name not in turned:
            raise InputError(f"weights: have no {name}, which likelihood {likelihood!r} needs")
        if turned[name].shape != expected:
            shape = tuple(reversed(turned[name].shape))
            raise InputError(f"weights: {name} has shape {shape}, expected {tuple(reversed(expected))}")
    return arch, {name: np.ascontiguousarray(turned[name]) for name in arch.shapes()}


def _layers(tensors: Mapping[str, Array], mapping: Mapping[str, str] | str | None) -> Mapping[str, str]:
    if isinstance(mapping, str):
        if mapping not in MAPPINGS:
            raise InputError(f"mapping: got {mapping!r}, expected one of {', '.join(MAPPINGS)}, or layers by our names")
        return MAPPINGS[mapping]
    if mapping is not None:
        wrong = [name for name in mapping if not _LAYER.fullmatch(name)]
        if wrong:
            raise InputError(
                f"mapping: got the layer {wrong[0]!r}, expected encoder.hidden.0, ..., encoder.mu, encoder.logvar, "
                "decoder.hidden.0, ..., decoder.out"
            )
        return mapping
    theirs = {name.rpartition(".")[0] for name in tensors if name != _LOGVAR}
    if all(map(_LAYER.fullmatch, theirs)):
        return {name: name for name in sorted(theirs)}
    for known in MAPPINGS.values():
        if set(known.values()) == theirs:
            return known
    raise InputError(
        f"mapping: the names are not ours, nor those of {', '.join(MAPPINGS)}; {_had(tensors)}; name each layer, as in "
        '{"encoder.mu": "fc21"}'
    )


def _architecture(
    found: Mapping[str, Array], activation: Activation, likelihood: Likelihood, sigma: float
) -> Architecture:
    for name in ("encoder.mu.weight", "encoder.logvar.weight", "decoder.out.weight"):
        if name not in found:
            raise InputError(f"mapping: has no layer for {name.removesuffix('.weight')}")
    for name, tensor in found.items():
        if tensor.ndim != (2 if name.endswith(".weight") else 1):
            raise InputError(f"weights: {name} has shape {tensor.shape}, expected a dense layer's")
    count = sum(name.startswith("encoder.hidden.") for name in found) // 2
    widths = [found[name] for name in (f"encoder.hidden.{i}.weight" for i in range(count)) if name in found]
    hidden = tuple(int(weight.shape[0]) for weight in widths)
    back = [
        int(found[name].shape[0]) for name in (f"decoder.hidden.{i}.weight" for i in range(len(found))) if name in found
    ]
    return Architecture(
        features=int(found["decoder.out.weight"].shape[0]),
        latent=int(found["encoder.mu.weight"].shape[0]),
        hidden=hidden,
        activation=activation,
        likelihood=likelihood,
        sigma=sigma,
        decoder_hidden=tuple(back),
    )


def _had(tensors: Mapping[str, Array]) -> str:
    names = list(tensors)
    return "got " + (", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") if names else "no tensor")


def check_encoder(library: str, arch: Architecture) -> None:
    """Raise InputError, which begins with `library`, unless an encoder and a normal are all that q is.

    A flow has networks or steps behind the encoder, refined inference climbs from there, a second stochastic layer has
    an encoder of its own, and columns and missing cells are read in a way of their own.
    """
    if arch.inference != "amortized":
        raise InputError(f"{library}: got a model with inference {arch.inference!r}, expected one that has an encoder")
    if not arch.family.analytic:
        raise InputError(f"{library}: got a model with posterior {arch.posterior!r}, expected 'diagonal' or 'full'")
    if arch.refine_steps:
        raise InputError(
            f"{library}: got a model with refine_steps {arch.refine_steps}, expected 0: the encoder's output is only "
            "where its steps begin"
        )
    if arch.top_latent is not None:
        raise InputError(f"{library}: got a model with top_latent {arch.top_latent}, expected one stochastic layer")
    if arch.observation is not None:
        raise InputError(
            f"{library}: got a model with likelihood {arch.likelihood!r} and missing {arch.missing!r}, expected a "
            "Bernoulli or normal one without missing cells"
        )
