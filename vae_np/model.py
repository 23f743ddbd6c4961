"""The model: an encoder x → (mu, logvar) and a decoder z → logits or mean, over one flat, named parameter buffer.

Arrays are touched only through the `ops` that is passed in, so the same code runs on every backend. A `_backward` does
not accumulate: it writes the gradient of each tensor it owns into `gradients`, which has the layout of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vae_np import layers, likelihoods, noise, posteriors, priors, two_layers
from vae_np._types import Array
from vae_np.choices import (
    COMPOSED_LIKELIHOODS,
    INFERENCES,
    LIKELIHOODS,
    MISSINGS,
    POSTERIORS,
    PRIORS,
    Activation,
    Inference,
    Initialisation,
    Likelihood,
    Missing,
    PosteriorFamily,
    PriorFamily,
    RefineGradient,
)
from vae_np.display import counted_text, settings_text
from vae_np.errors import InputError
from vae_np.likelihoods import Columns, Observation
from vae_np.posteriors import Family, Posterior, check_posterior, refine_settings
from vae_np.priors import Encoder, Prior
from vae_np.two_layers import UpperLayer

_ALIGNMENT = 64


@dataclass(frozen=True, repr=False)
class Architecture:
    """The sizes and kinds that fix every shape of a model.

    `hidden` are the widths of the encoder's hidden layers, from x to z; the decoder has the same in reverse, unless
    `decoder_hidden` names its own, from z to x. `sigma` is the σ of a `normal-fixed` likelihood; the other normal
    likelihoods learn theirs, starting there. With `inference` local there is no encoder: every datapoint has a mu and
    logvar of its own, outside the model. [D11] `posterior` is the family of q(z|x); a flow has `flow_steps` and, with
    networks of its own, `flow_hidden`, where None is the family's own number. The encoder's q is where `refine_steps`
    steps of `refine_rate` begin; training follows them back where `refine_gradient` is `through`. [D66] With
    `top_latent` there is a second stochastic layer of so many latents above z, and `top_hidden` are the widths from z
    to it, in reverse on the way down; None are those of `hidden`. [D58] With likelihood `columns` each column has a
    family of its own, in `columns`. [D70] `missing` says how cells without a value, NaN in x, reach the encoder: as
    `zero`, or so and with a `mask` that tells it which they are; with None there are no such cells. [D71] `prior` is
    p(z), with `components` where it is learned. [D80] A conditional model has `conditions` columns c, given to encoder
    and decoder beside x and z. [D83]
    """

    features: int = 784
    latent: int = 20
    hidden: tuple[int, ...] = (400,)
    activation: Activation = "relu"
    likelihood: Likelihood = "bernoulli"
    sigma: float = 1.0
    inference: Inference = "amortized"
    decoder_hidden: tuple[int, ...] | None = None
    posterior: PosteriorFamily = "diagonal"
    flow_steps: int | None = None
    flow_hidden: int | None = None
    refine_steps: int = 0
    refine_rate: float | None = None
    refine_gradient: RefineGradient | None = None
    top_latent: int | None = None
    top_hidden: tuple[int, ...] | None = None
    prior: PriorFamily = "standard"
    components: int | None = None
    conditions: int = 0
    columns: Columns | None = None
    missing: Missing | None = None

    def __post_init__(self) -> None:
        # One model has one description.
        if self.decoder_hidden == tuple(reversed(self.hidden)):
            object.__setattr__(self, "decoder_hidden", None)
        sizes = [("features", self.features), ("latent", self.latent), *(("hidden", width) for width in self.hidden)]
        sizes += [("decoder_hidden", width) for width in self.decoder_hidden or ()]
        sizes += [] if self.top_latent is None else [("top_latent", self.top_latent)]
        sizes += [("top_hidden", width) for width in self.top_hidden or ()]
        for name, value in sizes:
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name}: got {value!r}, expected a whole number > 0")
        for name, text, known in (
            ("activation", self.activation, sorted(layers.ACTIVATIONS)),
            ("likelihood", self.likelihood, (*LIKELIHOODS, *COMPOSED_LIKELIHOODS)),
            ("inference", self.inference, INFERENCES),
            ("posterior", self.posterior, POSTERIORS),
            ("prior", self.prior, PRIORS),
        ):
            if text not in known:
                raise InputError(f"{name}: got {text!r}, expected one of {', '.join(known)}")
        if self.missing is not None and self.missing not in MISSINGS:
            raise InputError(f"missing: got {self.missing!r}, expected one of {', '.join(MISSINGS)}")
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise InputError(f"sigma: got {self.sigma!r}, expected a finite number > 0")
        if self.posterior == "full" and self.latent == 1:
            raise InputError("posterior: got 'full' with latent 1, expected 'diagonal': one latent has no covariance")
        steps, hidden = posteriors.settings(self.posterior, self.flow_steps, self.flow_hidden)
        object.__setattr__(self, "flow_steps", steps)
        object.__setattr__(self, "flow_hidden", hidden)
        check_posterior(self.posterior, self.inference, self.refine_steps)
        rate, gradient = refine_settings(self.refine_steps, self.refine_rate, self.refine_gradient)
        object.__setattr__(self, "refine_rate", rate)
        object.__setattr__(self, "refine_gradient", gradient)
        two_layers.check_combination(self.top_latent, self.posterior, self.inference, self.refine_steps)
        object.__setattr__(self, "top_hidden", two_layers.settings(self.top_latent, self.top_hidden, self.hidden))
        if self.columns is not None:
            object.__setattr__(self, "columns", likelihoods.columns_of(self.columns))
        likelihoods.check_refinement(self.likelihood, self.missing, self.refine_gradient)
        if isinstance(self.conditions, bool) or not isinstance(self.conditions, int) or self.conditions < 0:
            raise InputError(f"conditions: got {self.conditions!r}, expected a whole number >= 0")
        priors.check_combination(
            self.prior,
            self.posterior,
            self.inference,
            given=self.conditions > 0,
            top_latent=self.top_latent,
            refine_steps=self.refine_steps,
            composed=self.observation is not None,
        )
        object.__setattr__(self, "components", priors.settings(self.prior, self.components))

    def __repr__(self) -> str:
        return settings_text(self, always=("features", "latent", "hidden"))

    @property
    def is_bernoulli(self) -> bool:
        """Whether the decoder's output is logits (otherwise it is the mean of a normal)."""
        return self.likelihood in ("bernoulli", "bernoulli-grey")

    @cached_property
    def observation(self) -> Observation | None:
        """How rows are read where the contract's operations do not do it by themselves; else None. [D70] [D71]"""
        return likelihoods.observation_of(self.likelihood, self.features, self.sigma, self.columns, self.missing)

    @property
    def is_composed(self) -> bool:
        """Whether p(x|z) is none of the contract's likelihoods, so that `observation` alone knows means and draws."""
        return self.likelihood in COMPOSED_LIKELIHOODS

    @property
    def inputs(self) -> int:
        """The encoder's inputs: the features, unless columns or a mask need more, and behind them conditions."""
        return self.conditions + (self.features if self.observation is None else self.observation.inputs)

    @property
    def outputs(self) -> int:
        """The decoder's outputs: the features, unless a family needs more."""
        return self.features if self.observation is None else self.observation.outputs

    @property
    def family(self) -> Family:
        """The family of q(z|x): its heads, its draw, and that draw's gradient."""
        kind = posteriors.FAMILIES[self.posterior]
        return kind(self.latent, self.flow_steps or 0, self.flow_hidden or 0, self.activation)

    @property
    def upper(self) -> UpperLayer | None:
        """The stochastic layer above z; None where the prior of z is N(0, I). [D58]"""
        if self.top_latent is None:
            return None
        return UpperLayer.of(self.latent, self.top_latent, self.top_hidden or (), self.activation)

    @property
    def noise_columns(self) -> int:
        """How many standard normals a draw of all latents takes: ε of z, and behind it that of the layer above."""
        return self.latent + (self.top_latent or 0)

    @property
    def form(self) -> str:
        """The ELBO's form that the model has by itself: sampled where one of the densities has no closed KL. [D21]"""
        return self.family.form if self.top_latent is None and self.prior == "standard" else "joint"

    @property
    def learned_prior(self) -> Prior | None:
        """The prior's tensors, density and draw; None where p(z) is N(0, I), or a layer above z makes it."""
        if self.prior == "standard":
            return None
        return priors.LEARNED[self.prior](self.latent, self.components or 0, self.features, self.is_bernoulli)

    @property
    def sizes(self) -> str:
        """The encoder's widths as people write them, such as 784-400-20, and on to x where the decoder's differ.

        Those from z to a second layer follow a slash.
        """
        decoder = () if self.decoder_hidden is None else (*self.decoder_hidden, self.features)
        lower = "-".join(map(str, (self.features, *self.hidden, self.latent, *decoder)))
        if self.top_latent is None:
            return lower
        return f"{lower}/{'-'.join(map(str, (*(self.top_hidden or ()), self.top_latent)))}"

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """The widths of the decoder's hidden layers, from z to x."""
        return tuple(reversed(self.hidden)) if self.decoder_hidden is None else self.decoder_hidden

    def hidden_layers(self, part: str) -> list[str]:
        """The names of the hidden layers of `encoder` or `decoder`, in the order in which they are computed."""
        widths = self.hidden if part == "encoder" else self.decoder_widths
        return [f"{part}.hidden.{index}" for index in range(len(widths))]

    @property
    def sigma_logvar(self) -> float:
        """log σ² of `sigma`: that of a fixed normal likelihood, and the starting value of a learned one."""
        return 2 * math.log(self.sigma)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in buffer order; weights are (in, out)."""
        shapes: dict[str, tuple[int, ...]] = {}

        def affine(name: str, inputs: int, outputs: int) -> None:
            shapes[f"{name}.weight"] = (inputs, outputs)
            shapes[f"{name}.bias"] = (outputs,)

        if self.inference == "amortized":
            widths = (self.inputs, *self.hidden)
            for index, (inputs, outputs) in enumerate(pairwise(widths)):
                affine(f"encoder.hidden.{index}", inputs, outputs)
            affine("encoder.mu", widths[-1], self.latent)
            affine("encoder.logvar", widths[-1], self.latent)
        widths = (self.latent + self.conditions, *self.decoder_widths)
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            affine(f"decoder.hidden.{index}", inputs, outputs)
        affine("decoder.out", widths[-1], self.outputs)
        shapes |= {name: shape for name, (shape, _) in self.likelihood_tensors().items()}
        if self.inference == "amortized":
            # Behind the decoder, so that all else starts the same whatever the family.
            for name, width in self.family.heads().items():
                affine(f"encoder.{name}", (self.inputs, *self.hidden)[-1], width)
            shapes |= self.family.shapes()
        if self.upper is not None:
            shapes |= self.upper.shapes()
        return shapes if self.learned_prior is None else shapes | self.learned_prior.shapes()

    def likelihood_tensors(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """What p(x|z) learns beside the decoder's outputs: shape and starting value by name."""
        if self.observation is not None:
            return self.observation.tensors()
        widths = {"normal": 1, "normal-diagonal": self.features}
        width = widths.get(self.likelihood)
        return {} if width is None else {"likelihood.logvar": ((width,), self.sigma_logvar)}

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data, for a checkpoint; `decoder_hidden` only where the decoder has widths of its own.

        So is the family of q only where it is not diagonal, and what else a model has only where it has it: earlier
        versions read a model without.
        """
        fields = {**asdict(self), "hidden": list(self.hidden)}
        if self.top_hidden is not None:
            fields["top_hidden"] = list(self.top_hidden)
        of_q = "posterior", "flow_steps", "flow_hidden", "refine_steps", "refine_rate", "refine_gradient"
        of_p = "top_latent", "top_hidden", "prior", "components", "conditions", "columns", "missing"
        for name in (*of_q, *of_p):
            if fields[name] in (None, "diagonal", "standard", 0):
                del fields[name]
        if "columns" in fields:
            fields["columns"] = [list(column) for column in fields["columns"]]
        own = fields.pop("decoder_hidden")
        return fields if own is None else {**fields, "decoder_hidden": list(own)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Architecture:
        """The architecture whose `as_dict` this is; raises InputError, TypeError or KeyError where it is none."""
        widths = {"hidden": fields["hidden"], **{n: fields.get(n) for n in ("decoder_hidden", "top_hidden")}}
        return cls(**{**fields, **{name: None if own is None else tuple(own) for name, own in widths.items()}})


class Parameters(Mapping[str, Array]):
    """Named views into one contiguous buffer; each tensor starts on a 64-byte boundary and the padding stays zero.

    Gradients and both Adam moments are held in buffers of the same layout, so an optimiser sees four flat arrays.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: Any = np.float32) -> None:
        self.shapes = dict(shapes)
        self.dtype = np.dtype(dtype)
        lane = _ALIGNMENT // self.dtype.itemsize
        self._offsets: dict[str, int] = {}
        end = 0
        for name, shape in self.shapes.items():
            self._offsets[name] = end
            end += -(-math.prod(shape) // lane) * lane
        self.flat = aligned_zeros(end, self.dtype)
        self._views = {
            name: self.flat[start : start + math.prod(self.shapes[name])].reshape(self.shapes[name])
            for name, start in self._offsets.items()
        }

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"<Parameters: {counted_text(len(self), 'tensor')}, {self.count} numbers, {self.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # If they were copied one by one, the views would no longer share the buffer.
        return _with_buffer, (self.shapes, self.dtype, self.flat)

    def offset(self, name: str) -> int:
        """Where a tensor begins in the flat buffer, in entries."""
        return self._offsets[name]

    @property
    def count(self) -> int:
        """The number of parameters, padding not counted."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def zeros_like(self) -> Parameters:
        """A buffer of the same layout, all zero."""
        return Parameters(self.shapes, self.dtype)

    def astype(self, dtype: Any) -> Parameters:
        """A copy in another precision (complex, for a complex-step check)."""
        other = Parameters(self.shapes, dtype)
        other.assign(self)
        return other

    def assign(self, values: Mapping[str, Array]) -> None:
        """Copy the tensors of the same names into this buffer."""
        for name, view in self._views.items():
            view[...] = values[name]


class Model(NamedTuple):
    """The three that code above the book passes around together: operations to compute with, architecture, parameters.

    The functions below take them first and in this order, so `encode_forward(*model, x)` hands them over.
    """

    ops: ModuleType
    arch: Architecture
    parameters: Parameters


def _with_buffer(shapes: Mapping[str, tuple[int, ...]], dtype: Any, flat: Array) -> Parameters:
    """Parameters that have been copied or unpickled."""
    parameters = Parameters(shapes, dtype)
    parameters.flat[...] = flat
    return parameters


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """A flat array (size,) of zeros that begins on a 64-byte boundary, where NumPy's own need not."""
    raw = np.zeros(size * dtype.itemsize + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)


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
    """The conditions (B, C) that stand behind the D columns of a conditional model's x (B, D + C); else None. [D83]"""
    return x[:, arch.features :] if arch.conditions else None


def encode_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], x: Array
) -> tuple[Posterior, Any]:
    """q(z|x): mu and logvar (B, K), from x (B, D); bytes go through the binary first layer. [D19] [D27]

    A family with a head of its own has a third array, which `arch.family` reads. [D53] [D55] [D56] A conditional
    model's x is (B, D + C). [D83]
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
    returns dx (B, D), and else None. [D82]
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
    """The encoder as a learned prior sees it. [D82]"""

    def backward(dmu: Array, dlogvar: Array, cache: Any, gradients: Parameters) -> Array:
        dx = encode_backward(ops, dmu, dlogvar, cache, gradients, input_gradient=True)
        assert dx is not None
        return dx

    return Encoder(partial(encode_forward, ops, arch, parameters), backward)


def decode_forward(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], z: Array, given: Array | None = None
) -> tuple[Array, Any]:
    """p(x|z): logits (Bernoulli), mean (normal) or what a family takes, (S·B, outputs), from z (S·B, K). [D3] [D27]

    A conditional model's p(x|z, c) needs c as `given` (B, C), for every draw of an example the same. [D83]
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
    """log p(x|z) (S·B,) in nats, from x (B, D) and the decoder's output (S·B, outputs). [D4] [D5] [D71]

    Of a conditional model's x (B, D + C) the D columns count. [D83]
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
    """Returns dout (S·B, outputs) from dloglik (S·B,), and writes the gradients of what p(x|z) learns. [D4] [D5] [D71]

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
