"""What a trained model is worth on held-out data: the ELBO and its parts, log p(x), KL per latent, active units.

Log p(x) has three estimators: importance sampling from q(z|x) (`is`), annealed importance sampling (`ais`), and the
latter from both sides on data that were simulated from the model (`bdmc`).

The processes of a `communicator` share the batches, each of which one of them computes whole, and all get all results:
they have the bits that one process alone would give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from types import ModuleType

import numpy as np

from vae_np import data, memory, noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributed import ALONE, Communicator, share
from vae_np.distributions import LOG_2PI, normal_kl_forward, normal_sample
from vae_np.elbo import Terms, posterior_elbo_forward, posterior_log_prob
from vae_np.errors import InputError, NonFiniteError
from vae_np.evaluation import annealing, importance, sampled_kl
from vae_np.evaluation.annealing import AnnealedEstimate, Annealing, BidirectionalEstimate
from vae_np.evaluation.importance import AnyEstimate, Estimate
from vae_np.model import Model, encode_forward
from vae_np.posteriors import Posterior
from vae_np.refinement import refine_forward
from vae_np.training import per_datapoint

ESTIMATORS = ("is", "ais", "bdmc")
ACTIVE_UNIT_VARIANCE = 0.01
# Steps of `per_datapoint.infer` where there is no encoder; a held-out example starts at the prior.
HELD_OUT_STEPS = 50
# Draws of z from a flow's q(z|x), and of the z below a second layer: the mean and variance there are no closed form.
MOMENT_DRAWS = 100
_BATCH = 500
# Examples whose log p(x) is estimated at once, and log weights that are held at once: 80 MB in float64.
_LIKELIHOOD_BATCH = 100
_LOG_WEIGHTS = 10_000_000
# The mutual information compares every example with every other: at most this many examples, and this many rows at
# once.
_MIXTURE = 10_000
_MIXTURE_ROWS = 256


@dataclass(frozen=True, repr=False)
class Examples:
    """Rows of a data set as a model sees them at evaluation: as they are, or grey pixels drawn once from EVAL_BINARIZE.

    `rows` (N, D) as stored, `first` the place of the first one in its data set, `values` and `mode` as in
    `vae_np.data.prepare`. A conditional model's examples have their encoded conditions as `given` (N, C). [D79] A batch
    is prepared when it is asked for, so a memory-mapped file is never held whole.
    """

    rows: Array
    values: data.Values
    mode: str
    seed: int
    first: int = 0
    given: Array | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        rows = f"{len(self)} rows of {self.rows.shape[1]}"
        return f"<Examples: {rows}, {self.values}, binarize {self.mode}, seed {self.seed}>"

    def batch(self, part: slice) -> tuple[Array, Array]:
        """x (B, D), or (B, D + C) with conditions, and the places (B,) of its rows in their data set."""
        data.check_length(self.rows, "data")
        places = self.first + np.arange(len(self.rows))[part]
        x = data.prepare(
            self.rows[part],
            self.values,
            self.mode,
            seed=self.seed,
            stream=noise.EVAL_BINARIZE,
            step=0,
            rows=places,
        )
        return data.beside(x, None if self.given is None else self.given[places - self.first]), places


def posterior(model: Model, x: Array, places: Array, *, seed: int) -> Posterior:
    """mu and logvar of q for x (B, D), (B, K) each: the encoder's, refined where the model does that, or optimised
    where there is no encoder. [D11] [D19] [D63]

    What else describes q in the model's family follows them. [D53]
    """
    if model.arch.inference == "amortized":
        q = encode_forward(*model, x)[0]
        return _refined(model, x, q, places, seed=seed) if model.arch.refine_steps else q
    found = per_datapoint.infer(model, x, places, steps=HELD_OUT_STEPS, seed=seed)
    return found.mu, found.logvar


def _refined(model: Model, x: Array, q: Posterior, places: Array, *, seed: int) -> Posterior:
    """q after the model's steps, each with an ε of its own: from EVAL_EPS, whose step 0 is the bound's. [D63]"""
    eps = [
        model.ops.philox_normal(
            places, model.arch.latent, seed=seed, stream=noise.EVAL_EPS, step=1 + step, dtype=model.parameters.dtype
        )
        for step in range(model.arch.refine_steps)
    ]
    mu, logvar = q
    return refine_forward(*model, x, (mu, logvar), np.concatenate(eps))[0]


def _of_all(
    communicator: Communicator, examples: Examples, compute: Callable[[slice], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """`compute` of every batch, each by the process whose share it is in; its arrays for all examples."""
    starts = range(0, len(examples), _BATCH)
    mine = share(len(starts), communicator.rank, communicator.size)
    own = [compute(slice(starts[number], starts[number] + _BATCH)) for number in mine]
    said = communicator.gather_arrays([array for of_batch in own for array in of_batch])
    found = [array for arrays in said for array in arrays]
    count = len(found) // len(starts)
    return tuple(np.concatenate(found[which::count]) for which in range(count))


def _noise(model: Model, places: Array, samples: int, seed: int) -> Array:
    """ε (S·B, K) from EVAL_EPS for the examples at these places, sample-major, on the model's backend."""
    every, sample = noise.every_sample(places, np.arange(samples))
    return model.ops.philox_normal(
        every,
        model.arch.noise_columns,
        seed=seed,
        stream=noise.EVAL_EPS,
        step=0,
        sample=sample,
        dtype=model.parameters.dtype,
    )


def elbo_terms(
    model: Model, examples: Examples, *, seed: int, z_samples: int = 1, communicator: Communicator = ALONE
) -> Terms:
    """The ELBO's terms of every example, (N,) each in nats, with `z_samples` draws of ε from EVAL_EPS. [D21]

    A KL that is sampled has its error, for which a single draw is compared with the next one. [D81]
    """
    rows = z_samples * min(len(examples), _BATCH)
    memory.check("z_samples", z_samples, rows * model.arch.features * model.parameters.dtype.itemsize)

    def terms(part: slice) -> tuple[Array, ...]:
        x, places = examples.batch(part)
        eps = _noise(model, places, z_samples, seed)
        mu, logvar, *more = posterior(model, x, places, seed=seed)
        found, _ = posterior_elbo_forward(*model, x, mu, logvar, eps, more=tuple(more))
        # What the model sees may be standardised; a log-density of the data differs from one of that by what its cells
        # were divided by. [D51]
        of_data = shifted(found.reconstruction, examples.values.log_det_of(x))
        if model.arch.form == "analytic":
            return of_data, found.kl
        eps = eps if z_samples > 1 else _noise(model, places, 2, seed)
        return of_data, found.kl, sampled_kl.stderr(model, (mu, logvar, *more), eps, z_samples)

    reconstruction, kl, *errors = _of_all(communicator, examples, terms)
    return Terms(reconstruction, kl, kl_stderr=errors[0] if errors else None)


def shifted(log_prob: Array, by: float | Array) -> Array:
    """Log-densities (B,) with nats added to all, or to each its own, in their own precision."""
    return (log_prob + by).astype(log_prob.dtype, copy=False)


def validation(
    examples: Examples, *, seed: int, z_samples: int = 1, communicator: Communicator = ALONE
) -> Callable[[Model], Terms]:
    """`elbo_terms` of these examples as a function of the model, which a `Trainer` calls between epochs."""
    return partial(elbo_terms, examples=examples, seed=seed, z_samples=z_samples, communicator=communicator)


def posterior_moments(
    model: Model, examples: Examples, *, seed: int = 0, communicator: Communicator = ALONE
) -> tuple[Array, Array]:
    """Mean and log-variance of each z_j under q(z|x) for every example, (N, K) each. [D19]

    They are in closed form for the normals, and those of MOMENT_DRAWS draws for a flow; `seed` matters for draws, and
    where there is no encoder.
    """

    def moments(part: slice) -> tuple[Array, Array]:
        x, places = examples.batch(part)
        q = posterior(model, x, places, seed=seed)
        return model.arch.family.moments(q) or _drawn_moments(model, q, places, seed=seed)

    mu, logvar = _of_all(communicator, examples, moments)
    return mu, logvar


def _drawn_moments(model: Model, q: Posterior, places: Array, *, seed: int) -> tuple[Array, Array]:
    """Mean and log-variance of MOMENT_DRAWS draws of z from each q, (B, K) each."""
    eps = _noise(model, places, MOMENT_DRAWS, seed)
    draw, _ = model.arch.family.draw_forward(model.ops, model.parameters, q, eps)
    z = draw.z.reshape(MOMENT_DRAWS, len(places), -1)
    return z.mean(axis=0), np.log(z.var(axis=0, ddof=1))


def layers_kl_and_means(
    model: Model, examples: Examples, *, seed: int, communicator: Communicator = ALONE
) -> tuple[Array, Array]:
    """Of a model with two stochastic layers, the KL's share of each latent and its mean, (N, K₁ + K₂) each. [D61]

    A share of z₁ is log q(z₁ⱼ|x) − log p(z₁ⱼ|z₂) at one draw of both, one of z₂ the KL of q(z₂ⱼ|z₁) to N(0, 1) at that
    z₁; in expectation they add up to the KL. The mean of z₂ is over MOMENT_DRAWS draws of z₁.
    """
    upper, ops, parameters = model.arch.upper, model.ops, model.parameters
    assert upper is not None

    def of_batch(part: slice) -> tuple[Array, Array]:
        x, places = examples.batch(part)
        mu, logvar = posterior(model, x, places, seed=seed)
        eps = _noise(model, places, MOMENT_DRAWS, seed).reshape(MOMENT_DRAWS, len(x), -1)
        lower, above = np.split(eps, [model.arch.latent], axis=-1)
        z = normal_sample(mu, logvar, lower)
        (top_mu, top_logvar), _ = upper.inference.forward(ops, parameters, z.reshape(-1, model.arch.latent))
        top_mean = top_mu.reshape(MOMENT_DRAWS, len(x), -1).mean(axis=0)
        top_mu, top_logvar = top_mu[: len(x)], top_logvar[: len(x)]
        (mean, spread), _ = upper.generation.forward(ops, parameters, normal_sample(top_mu, top_logvar, above[0]))
        residual = z[0] - mean
        below = 0.5 * (spread + residual * residual * np.exp(-spread) - logvar - lower[0] * lower[0])
        kl, _ = normal_kl_forward(top_mu[..., None], top_logvar[..., None])
        return np.hstack([below, kl]), np.hstack([mu, top_mean])

    kl, mean = _of_all(communicator, examples, of_batch)
    return kl, mean


def check_estimator(arch: Architecture) -> None:
    """Raise InputError for a model that has no likelihood, and so no log p(x) that could be estimated."""
    if arch.likelihood == "bernoulli-grey":
        raise InputError(
            "estimator: likelihood 'bernoulli-grey' is a cross-entropy on grey values and no likelihood, so there is "
            "no log p(x) to estimate; train with likelihood 'bernoulli' or 'normal' for one"
        )


def _in_batches(
    examples: Examples,
    size: int,
    estimate: Callable[[Array, Array], AnyEstimate],
    on_batch: Callable[[AnyEstimate], None] | None,
    done: AnyEstimate | None,
    communicator: Communicator,
    kind: type[AnyEstimate],
) -> AnyEstimate:
    """`estimate`, of some `kind`, of x (B, D) and places (B,), a batch of `size` at a time, after those in `done`.

    In one round each process of the communicator takes a batch, so that what is done are always the first examples. The
    estimates are log-densities of the data, also where the model sees them standardised. [D51]
    """
    parts = [] if done is None else [done]
    starts = range(0 if done is None else len(done.ess), len(examples), size)
    for first in range(0, len(starts), communicator.size):
        own: list[Array] = []
        for start in starts[first + communicator.rank : first + communicator.rank + 1]:
            x, places = examples.batch(slice(start, start + size))
            of_data = estimate(x, places).shifted(examples.values.log_det_of(x))
            own = [getattr(of_data, field.name) for field in fields(kind)]
        parts += [kind(*arrays) for arrays in communicator.gather_arrays(own) if arrays]
        if on_batch is not None:
            on_batch(importance.concatenate(parts))
    return importance.concatenate(parts)


def log_likelihood(
    model: Model,
    examples: Examples,
    *,
    samples: int,
    seed: int,
    on_batch: Callable[[Estimate], None] | None = None,
    done: Estimate | None = None,
    fused: Callable[..., Array] | None = None,
    communicator: Communicator = ALONE,
) -> Estimate:
    """`importance.importance_log_likelihood` of every example. [D34]

    `on_batch` is given the estimates so far after every batch; if they come back as `done`, they are not computed
    again. `fused` is the backend's `fused_log_weights`, where it has some for the architecture.
    """
    check_estimator(model.arch)

    def estimate(x: Array, places: Array) -> Estimate:
        if fused is not None:
            log_w = fused(*model, x, places, samples=samples, seed=seed)
            return importance.estimate_from_log_weights(model.ops, log_w)
        q = posterior(model, x, places, seed=seed)
        return importance.importance_log_likelihood(model, x, places, samples=samples, seed=seed, posterior=q)

    size = max(1, min(_LIKELIHOOD_BATCH, _LOG_WEIGHTS // max(samples, 1)))
    return _in_batches(examples, size, estimate, on_batch, done, communicator, Estimate)


def annealed_log_likelihood(
    model: Model,
    examples: Examples,
    how: Annealing,
    *,
    seed: int,
    posterior: Array | None = None,
    on_batch: Callable[[AnnealedEstimate], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
    done: AnnealedEstimate | None = None,
    communicator: Communicator = ALONE,
) -> AnnealedEstimate:
    """`annealing.annealed_log_likelihood` of every example; `posterior` (N, K) are exact samples of p(z|x). [D46] [D49]

    `on_batch` and `done` are as in `log_likelihood`; `on_progress` is told how many examples are done, with fractions.
    """
    check_estimator(model.arch)
    memory.check("chains", how.chains, how.chains * model.arch.features * model.parameters.dtype.itemsize)

    def estimate(x: Array, places: Array) -> AnnealedEstimate:
        first = int(places[0]) - examples.first

        def report(share: float) -> None:
            if on_progress is not None:
                on_progress(first + share * len(x))

        z = None if posterior is None else posterior[first : first + len(x)]
        return annealing.annealed_log_likelihood(model, x, places, how, seed=seed, posterior=z, on_progress=report)

    kind = AnnealedEstimate if posterior is None else BidirectionalEstimate
    return _in_batches(examples, how.batch, estimate, on_batch, done, communicator, kind)


@dataclass(frozen=True)
class Surgery:
    """The KL taken apart, (N,) each in nats: `mutual_information`, log q(z|x_n) / q(z), and `marginal_kl`, the rest.

    Their means are I_q(i; z), at most `ceiling` = log N, and KL(q(z) ‖ p(z)) of q(z) = mean_i q(z|x_i). [D50]
    """

    mutual_information: Array
    marginal_kl: Array

    @property
    def ceiling(self) -> float:
        """log N: the number of an example cannot carry more information than that."""
        return float(np.log(len(self.mutual_information)))


def elbo_surgery(ops: ModuleType, mu: Array, logvar: Array, *, seed: int, first: int = 0) -> Surgery:
    """How much of the mean KL tells examples apart, and how much is q(z)'s distance from the prior. [D50]

    mu, logvar (N, K) of q(z|x), of the rows from `first` on; one z per example, by the ε of the ELBO's first draw. Of
    more than 10,000 examples only the first 10,000 are used, since every example is compared with every other. (Hoffman
    & Johnson 2016)
    """
    mu, logvar = mu[:_MIXTURE].astype(np.float64), logvar[:_MIXTURE].astype(np.float64)
    places = first + np.arange(len(mu))
    eps = ops.philox_normal(
        places, mu.shape[1], seed=seed, stream=noise.EVAL_EPS, step=0, sample=0, dtype=np.float64
    )
    z = mu + np.exp(0.5 * logvar) * eps
    # log q(z_n|x_m) is linear in (z², z) for every m: one matrix product for all pairs.
    precision = np.exp(-logvar)
    weights = np.hstack([-0.5 * precision, mu * precision]).T
    offsets = -0.5 * (mu * mu * precision + logvar + LOG_2PI).sum(axis=1)
    log_q = np.empty(len(mu))
    for start in range(0, len(mu), _MIXTURE_ROWS):
        part = slice(start, start + _MIXTURE_ROWS)
        pairs = np.hstack([z[part] * z[part], z[part]]) @ weights + offsets
        top = pairs.max(axis=1)
        pairs -= top[:, None]
        log_q[part] = top + np.log(np.exp(pairs, out=pairs).mean(axis=1))
    information = posterior_log_prob(logvar, eps) - log_q
    kl, _ = normal_kl_forward(mu, logvar)
    return Surgery(information, kl - information)


def kl_per_dimension(mu: Array, logvar: Array) -> Array:
    """The mean KL of each latent, (K,) in nats, from mu and logvar (N, K). [D22]"""
    kl, _ = normal_kl_forward(mu[..., None], logvar[..., None])
    return kl.mean(axis=0, dtype=np.float64)


def active_units(mu: Array) -> Array:
    """Which latents carry information: Var_x(E_q z_j) > 0.01, (K,) bool. (Burda et al. 2015) [D36]"""
    return mu.var(axis=0, dtype=np.float64) > ACTIVE_UNIT_VARIANCE


def mean_and_stderr(values: Array, name: str = "value") -> dict[str, float]:
    """The mean over examples and its standard error, the standard deviation over √N.

    Raises NonFiniteError, with the example, where a value is not finite: there is then neither a mean nor a standard
    error.
    """
    wide = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(wide))
    if len(bad):
        raise NonFiniteError(
            f"{name}: {len(bad)} of {len(wide)} examples have no finite value, the first is example {bad[0]} with "
            f"{wide[bad[0]]}; the weights, or the data, are too large"
        )
    spread = wide.std(ddof=1) if len(wide) > 1 else 0.0
    return {"mean": float(wide.mean()), "stderr": float(spread / np.sqrt(len(wide)))}
