"""What describes a model: its sizes, its families, and the shapes of the parameters that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from vae_np import layers, likelihoods, posteriors, priors, two_layers
from vae_np.choices import (
    COMPOSED_LIKELIHOODS,
    INFERENCES,
    LIKELIHOODS,
    MISSINGS,
    POSTERIORS,
    PRIORS,
    Activation,
    Inference,
    Likelihood,
    Missing,
    PosteriorFamily,
    PriorFamily,
    RefineGradient,
)
from vae_np.display import settings_text
from vae_np.errors import InputError
from vae_np.likelihoods import Columns, Observation
from vae_np.posteriors import Family, check_posterior, refine_settings
from vae_np.priors import Prior
from vae_np.two_layers import UpperLayer


@dataclass(frozen=True, repr=False)
class Architecture:
    """The sizes and kinds that fix every shape of a model.

    `hidden` are the widths of the encoder's hidden layers, from x to z; the decoder has the same in reverse, unless
    `decoder_hidden` names its own, from z to x. `sigma` is the σ of a `normal-fixed` likelihood; the other normal
    likelihoods learn theirs, starting there. With `inference` local there is no encoder: every datapoint has a mu and
    logvar of its own, outside the model. [D11] `posterior` is the family of q(z|x); a flow has `flow_steps` and, with
    networks of its own, `flow_hidden`, where None is the family's own number. The encoder's q is where `refine_steps`
    steps of `refine_rate` begin; training follows them back where `refine_gradient` is `through`. [D63] With
    `top_latent` there is a second stochastic layer of so many latents above z, and `top_hidden` are the widths from z
    to it, in reverse on the way down; None are those of `hidden`. [D58] With likelihood `columns` each column has a
    family of its own, in `columns`. [D66] `missing` says how cells without a value, NaN in x, reach the encoder: as
    `zero`, or so and with a `mask` that tells it which they are; with None there are no such cells. [D67] `prior` is
    p(z), with `components` where it is learned. [D76] A conditional model has `conditions` columns c, given to encoder
    and decoder beside x and z. [D79]
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
        """How rows are read where the contract's operations do not do it by themselves; else None. [D66] [D67]"""
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
