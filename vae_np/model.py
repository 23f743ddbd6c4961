"""The model: an encoder x → (mu, logvar) and a decoder z → logits or mean, over one flat, named parameter buffer.

Arrays are touched only through the `ops` that is passed in, so the same code runs on every backend. A `_backward` does
not accumulate: it writes the gradient of each tensor it owns into `gradients`, which has the layout of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vae_np import layers, noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import Initialisation
from vae_np.parameters import Parameters
from vae_np.posteriors import Posterior
from vae_np.priors import Encoder


class Model(NamedTuple):
    """The three that code above the book passes around together: operations to compute with, architecture, parameters.

    The functions below take them first and in this order, so `encode_forward(*model, x)` hands them over.
    """

    ops: ModuleType
    arch: Architecture
    parameters: Parameters


def initialise(
    arch: Architecture,
    *,
    seed: int,
    dtype: Any = np.float32,
    scheme: Initialisation = "uniform",
    mean: Array | None = None,
) -> Parameters:
    """Parameters drawn from the INIT stream of `seed`. [D40]

    `uniform` draws weights and biases from U(−1/√in, 1/√in). `glorot` draws weights from U(−√(6/(in+out)), +…) and
    leaves biases zero, except the output's, which starts at the logit of the clipped mean pixel where `mean` (D,) is
    given (Burda et al. 2015).
    """
    parameters = Parameters(arch.shapes(), dtype)
    # Counted with the encoder's tensors, so that a decoder starts the same with an encoder and without one.
    places = {name: place for place, name in enumerate(replace(arch, inference="amortized").shapes())}
    starts = arch.likelihood_tensors()
    for name, view in parameters.items():
        if name in starts:
            view[...] = starts[name][1]
            continue
        if name.startswith("prior."):
            continue
        weight = parameters[name.rsplit(".", 1)[0] + ".weight"]
        inputs, outputs = weight.shape
        if scheme == "uniform":
            bound = 1 / math.sqrt(inputs)
        else:
            bound = math.sqrt(6 / (inputs + outputs)) if view is weight else 0.0
        # One step of the INIT stream per tensor, so that a tensor's values do not depend on the sizes of the others.
        rows = np.arange(view.shape[0] if view.ndim == 2 else 1)
        u = noise.uniform(rows, view.shape[-1], seed=seed, stream=noise.INIT, step=places[name])
        view[...] = (bound * (2 * u.astype(np.float64) - 1)).reshape(view.shape)
    if arch.inference == "amortized":
        arch.family.start(parameters)
    if arch.learned_prior is not None:
        arch.learned_prior.start(parameters, seed=seed, places=places)
    if scheme == "glorot" and mean is not None:
        start_at_mean(arch, parameters, mean)
    return parameters


def start_at_mean(arch: Architecture, parameters: Parameters, mean: Array) -> None:
    """Set a Bernoulli output's bias, where it is still zero, to the logit of the clipped mean pixel (D,). [D40]"""
    bias = parameters["decoder.out.bias"]
    if arch.is_bernoulli and not bias.any():
        clipped = np.clip(np.asarray(mean, dtype=np.float64), 0.001, 0.999)
        bias[...] = np.log(clipped / (1 - clipped))


def _hidden(arch: Architecture, parameters: Mapping[str, Array], part: str) -> list[tuple[Array, Array]]:
    return [(parameters[f"{name}.weight"], parameters[f"{name}.bias"]) for name in arch.hidden_layers(part)]


def _in_precision(x: Array, parameter: Array) -> Array:
    """Floats as a file held them, in the precision of the parameters; bytes stay bytes."""
    return x.astype(parameter.dtype, copy=False) if x.dtype.kind == "f" else x


def _write(gradients: Parameters, name: str, dweight: Array, dbias: Array, *, add: bool = False) -> None:
    for part, value in ((f"{name}.weight", dweight), (f"{name}.bias", dbias)):
        gradients[part][...] = gradients[part] + value if add else value


def given_in(arch: Architecture, x: Array) -> Array | None:
    """The conditions (B, C) that stand behind the D columns of a conditional model's x (B, D + C); else None. [D79]"""
    return x[:, arch.features :] if arch.conditions else None


def encode_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], x: Array
) -> tuple[Posterior, Any]:
    """q(z|x): mu and logvar (B, K), from x (B, D); bytes go through the binary first layer. [D19] [D27]

    A family with a head of its own has a third array, which `arch.family` reads. [D53] [D55] [D56] A conditional
    model's x is (B, D + C). [D79]
    """
    weight = parameters["encoder.mu.weight"]
    if arch.observation is not None:
        x, given = x[:, : arch.features], given_in(arch, x)
        x = arch.observation.seen(x)
        x = x if given is None else np.concatenate([x, given.astype(x.dtype, copy=False)], axis=1)
    # Bytes are for the binary first layer; without hidden layers there is none.
    x = _in_precision(x, weight) if arch.hidden else x.astype(weight.dtype, copy=False)
    h, hidden_cache = layers.mlp_forward(ops, x, _hidden(arch, parameters, "encoder"), arch.activation)
    mu, mu_cache = ops.affine_act_forward(
        h, parameters["encoder.mu.weight"], parameters["encoder.mu.bias"], "identity"
    )
    logvar, logvar_cache = ops.affine_act_forward(
        h, parameters["encoder.logvar.weight"], parameters["encoder.logvar.bias"], "identity"
    )
    more, head_caches = [], {}
    for name in arch.family.heads():
        head = parameters[f"encoder.{name}.weight"], parameters[f"encoder.{name}.bias"]
        out, head_caches[name] = ops.affine_act_forward(h, *head, "identity")
        more.append(out)
    return (mu, logvar, *more), (hidden_cache, mu_cache, logvar_cache, head_caches)


def encode_backward(
    ops: ModuleType,
    dmu: Array,
    dlogvar: Array,
    cache: Any,
    gradients: Parameters,
    more: Sequence[Array] = (),
    *,
    add: bool = False,
    input_gradient: bool = False,
) -> Array | None:
    """Writes the encoder's gradients, from dmu and dlogvar (B, K), and from those of further heads. [D27] [D29]

    With `add` they are added to what is there: a prior has then been at the encoder before. With `input_gradient` it
    returns dx (B, D), and else None. [D78]
    """
    hidden_cache, mu_cache, logvar_cache, head_caches = cache
    dh_mu, *of_mu = ops.affine_act_backward(dmu, mu_cache)
    dh_logvar, *of_logvar = ops.affine_act_backward(dlogvar, logvar_cache)
    _write(gradients, "encoder.mu", *of_mu, add=add)
    _write(gradients, "encoder.logvar", *of_logvar, add=add)
    dh = dh_mu + dh_logvar
    for (name, head_cache), dhead in zip(head_caches.items(), more, strict=True):
        dh_head, *of_head = ops.affine_act_backward(dhead, head_cache)
        _write(gradients, f"encoder.{name}", *of_head, add=add)
        dh = dh + dh_head
    dx, of_hidden = layers.mlp_backward(ops, dh, hidden_cache, input_gradient=input_gradient)
    for index, (dweight, dbias) in enumerate(of_hidden):
        _write(gradients, f"encoder.hidden.{index}", dweight, dbias, add=add)
    return dx if input_gradient else None


def encoder_of(ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array]) -> Encoder:
    """The encoder as a learned prior sees it. [D78]"""

    def backward(dmu: Array, dlogvar: Array, cache: Any, gradients: Parameters) -> Array:
        dx = encode_backward(ops, dmu, dlogvar, cache, gradients, input_gradient=True)
        assert dx is not None
        return dx

    return Encoder(partial(encode_forward, ops, arch, parameters), backward)


def decode_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], z: Array, given: Array | None = None
) -> tuple[Array, Any]:
    """p(x|z): logits (Bernoulli), mean (normal) or what a family takes, (S·B, outputs), from z (S·B, K). [D3] [D27]

    A conditional model's p(x|z, c) needs c as `given` (B, C), for every draw of an example the same. [D79]
    """
    latent = z.shape[1]
    if given is not None:
        z = np.concatenate([z, np.tile(given, (len(z) // len(given), 1)).astype(z.dtype, copy=False)], axis=1)
    h, hidden_cache = layers.mlp_forward(ops, z, _hidden(arch, parameters, "decoder"), arch.activation)
    out, out_cache = ops.affine_act_forward(
        h, parameters["decoder.out.weight"], parameters["decoder.out.bias"], "identity"
    )
    return out, (hidden_cache, out_cache, latent)


def decode_backward(ops: ModuleType, dout: Array, cache: Any, gradients: Parameters | None) -> Array:
    """Writes the decoder's gradients and returns dz (S·B, K), from dout (S·B, D). [D27] [D29]

    With None for `gradients` those of the parameters are not computed, which saves a third of the products of both
    directions.
    """
    hidden_cache, out_cache, latent = cache
    wanted = gradients is not None
    dh, *of_out = ops.affine_act_backward(dout, out_cache, weight_gradient=wanted)
    dz, of_hidden = layers.mlp_backward(ops, dh, hidden_cache, input_gradient=True, weight_gradient=wanted)
    if gradients is not None:
        _write(gradients, "decoder.out", *of_out)
        for index, (dweight, dbias) in enumerate(of_hidden):
            _write(gradients, f"decoder.hidden.{index}", dweight, dbias)
    assert dz is not None
    # Conditions are data and have no gradient.
    return np.ascontiguousarray(dz[:, :latent])


def loglik_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], x: Array, out: Array
) -> tuple[Array, Any]:
    """log p(x|z) (S·B,) in nats, from x (B, D) and the decoder's output (S·B, outputs). [D4] [D5] [D67]

    Of a conditional model's x (B, D + C) the D columns count. [D79]
    """
    x = np.ascontiguousarray(x[:, : arch.features]) if arch.conditions else x
    if arch.observation is not None:
        return arch.observation.log_prob_forward(parameters, x, out)
    x = _in_precision(x, out)
    if arch.is_bernoulli:
        return ops.bernoulli_loglik_forward(x, out)
    if arch.likelihood == "normal-fixed":
        logvar = np.full_like(parameters["decoder.out.bias"][:1], arch.sigma_logvar)
    else:
        logvar = parameters["likelihood.logvar"]
    return ops.normal_loglik_forward(x, out, logvar)


def loglik_backward(
    ops: ModuleType, arch: Architecture, dloglik: Array, cache: Any, gradients: Parameters | None
) -> Array:
    """Returns dout (S·B, outputs) from dloglik (S·B,), and writes the gradients of what p(x|z) learns. [D4] [D5] [D67]

    With None for `gradients` nothing is written.
    """
    if arch.observation is not None:
        return arch.observation.log_prob_backward(dloglik, cache, gradients)
    if arch.is_bernoulli:
        return ops.bernoulli_loglik_backward(dloglik, cache)
    dout, dlogvar = ops.normal_loglik_backward(dloglik, cache)
    if gradients is not None and "likelihood.logvar" in gradients:
        gradients["likelihood.logvar"][...] = dlogvar
    return dout
