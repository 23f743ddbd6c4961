"""What holds for every input: any shape, layout, precision and size of the numbers, drawn by hypothesis.

The draws are the same in every run (`derandomize`). Budget: about 5 s.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numeric import Problem, as_read_only, error
from scipy import special, stats
from strategies import LAYOUTS, SMOOTH, examples, problems, reals, stacks

from vae_np import config, layers, model, noise, ops
from vae_np import distributions as dist
from vae_np._types import Array
from vae_np.choices import COMPOSED_LIKELIHOODS
from vae_np.config import Config
from vae_np.elbo import FORMS, elbo_backward, elbo_forward
from vae_np.evaluation.importance import estimate_from_log_weights, importance_log_likelihood
from vae_np.model import Model
from vae_np.optim import STAGES, staged_epochs
from vae_np.parameters import Parameters
from vae_np.posteriors import FAMILIES_OF
from vae_np.vae import VAE


@contextmanager
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def gradients_of(p: Problem, form: str, beta: float = 1.0) -> Parameters:
    _, cache = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form=form)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, gradients, beta=beta)
    return gradients


def rows_of(p: Problem, rows: Any) -> Problem:
    """The same model on some of the examples, each with its own noise."""
    eps = p.eps.reshape(-1, *p.x.shape[:1], p.arch.latent)[:, rows]
    return Problem(p.arch, p.parameters, p.x[rows], eps.reshape(-1, p.arch.latent))


def close(result: Array, reference: Array, tolerance: float = 1e-12) -> bool:
    """Equal to within `tolerance` of the largest magnitude; both may be zero."""
    return bool(np.abs(result - reference).max(initial=0) <= tolerance * np.abs(reference).max(initial=1e-300))


# --- Any model --------------------------------------------------------------------------------------------------


@given(problems(activations=SMOOTH), st.sampled_from(FORMS), st.floats(0, 4))
@examples(80)
def test_the_gradient_of_any_smooth_model_is_its_complex_step(p: Problem, form: str, beta: float) -> None:
    """Along one random direction through all parameters at once."""
    draw = np.random.default_rng(0)
    direction = {name: draw.standard_normal(value.shape) for name, value in p.parameters.items()}
    stepped = {name: value + 1e-30j * direction[name] for name, value in p.parameters.items()}
    numeric = elbo_forward(ops, p.arch, stepped, p.x, p.eps, form=form)[0].loss(beta).imag / 1e-30
    gradients = gradients_of(p, form, beta)
    parts = [gradient * direction[name] for name, gradient in gradients.items()]
    size = sum(np.abs(part).sum() for part in parts)
    assert abs(sum(part.sum() for part in parts) - numeric) <= 1e-12 * size


@given(problems(), st.sampled_from(FORMS), LAYOUTS, LAYOUTS)
@examples(40)
def test_layout_and_permission_of_the_inputs_do_not_matter(p: Problem, form: str, of_x: Any, of_eps: Any) -> None:
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form=form)
    x, eps = of_x(p.x), of_eps(p.eps)
    before = x.copy(), eps.copy()
    found, cache = elbo_forward(ops, p.arch, as_read_only(p.parameters), x, eps, form=form)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, gradients)
    assert close(found.elbo, terms.elbo)
    assert close(gradients.flat, gradients_of(p, form).flat)
    assert np.array_equal(x, before[0])
    assert np.array_equal(eps, before[1])


@given(problems(least=2), st.sampled_from(FORMS), st.randoms(use_true_random=False))
@examples(40)
def test_a_permuted_batch_gives_permuted_terms_and_the_same_gradient(p: Problem, form: str, random: Any) -> None:
    order = list(range(len(p.x)))
    random.shuffle(order)
    q = rows_of(p, order)
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form=form)
    permuted, _ = elbo_forward(ops, p.arch, p.parameters, q.x, q.eps, form=form)
    assert close(permuted.reconstruction, terms.reconstruction[order])
    assert close(permuted.kl, terms.kl[order])
    assert close(gradients_of(q, form).flat, gradients_of(p, form).flat)


@given(problems(least=2), st.sampled_from(FORMS), st.data())
@examples(40)
def test_a_split_batch_gives_the_same_terms_and_gradients_that_add_up(p: Problem, form: str, data: Any) -> None:
    """The loss is a mean, so each part's gradient counts with its share of the examples."""
    cut = data.draw(st.integers(1, len(p.x) - 1))
    parts = rows_of(p, slice(None, cut)), rows_of(p, slice(cut, None))
    whole, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form=form)
    split = [elbo_forward(ops, q.arch, q.parameters, q.x, q.eps, form=form)[0].elbo for q in parts]
    assert close(np.concatenate(split), whole.elbo)
    shares = [len(q.x) / len(p.x) * gradients_of(q, form).flat for q in parts]
    assert close(sum(shares), gradients_of(p, form).flat)


@given(problems(), st.sampled_from(FORMS), st.floats(-3, 30))
@examples(40)
def test_loss_and_gradient_are_linear_in_beta(p: Problem, form: str, beta: float) -> None:
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form=form)
    size = abs(terms.loss(0)) + abs(beta) * abs(terms.loss(1))
    assert abs(terms.loss(beta) - (terms.loss(0) + beta * (terms.loss(1) - terms.loss(0)))) <= 1e-13 * size
    zero, one, at_beta = (gradients_of(p, form, b).flat for b in (0.0, 1.0, beta))
    scale = np.abs(zero).max() + abs(beta) * np.abs(one).max()
    assert np.abs(at_beta - (zero + beta * (one - zero))).max() <= 1e-12 * scale


@given(problems(activations=SMOOTH, likelihoods=("bernoulli", "normal", "normal-diagonal"), latent=1))
@examples(40)
def test_the_elbo_is_below_log_p_of_x(p: Problem) -> None:
    """E_q and p(x) = ∫ p(z) p(x|z) dz both by the trapezoid rule over the one latent; the gap is the KL to p(z|x)."""
    (mu, logvar), _ = model.encode_forward(ops, p.arch, p.parameters, p.x)
    terms, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    t = np.linspace(-9, 9, 1201)
    prior = np.linspace(-12, 12, 2401)

    def log_likelihood(row: int, z: Array) -> Array:
        out, _ = model.decode_forward(ops, p.arch, p.parameters, z[:, None])
        return model.loglik_forward(ops, p.arch, p.parameters, np.tile(p.x[row], (len(z), 1)), out)[0]

    for row in range(len(p.x)):
        sigma = np.exp(0.5 * logvar[row, 0])
        z = mu[row, 0] + sigma * t
        q = stats.norm.pdf(t) * (t[1] - t[0])
        elbo = q @ log_likelihood(row, z) - terms.kl[row]
        log_p = special.logsumexp(log_likelihood(row, prior) + stats.norm.logpdf(prior)) + np.log(prior[1] - prior[0])
        log_posterior = log_likelihood(row, z) + stats.norm.logpdf(z) - log_p
        gap = q @ (stats.norm.logpdf(t) - np.log(sigma) - log_posterior)
        tiny = 1e-9 * max(1, abs(log_p), abs(elbo))
        assert elbo <= log_p + tiny
        assert abs(log_p - elbo - gap) <= tiny


# --- Distributions ----------------------------------------------------------------------------------------------


@given(stacks(3e38, 3e38) | stacks(0, 1e-6))
@examples(150)
def test_kl_to_the_prior_is_never_negative_and_never_nan(pair: tuple[Array, Array]) -> None:
    """For any finite mu and logvar; too large for the precision, it is infinite."""
    with np.errstate(over="ignore"):
        kl, _ = dist.normal_kl_forward(*pair)
    assert (kl >= 0).all()


@given(stacks(1e3, 80))
@examples(60)
def test_kl_to_the_prior_is_zero_at_the_prior_alone(pair: tuple[Array, Array]) -> None:
    mu, logvar = pair
    with no_warnings():
        kl, _ = dist.normal_kl_forward(mu, logvar)
    eps = np.finfo(mu.dtype).eps
    at_prior = (np.abs(mu) < eps).all(axis=1) & (np.abs(logvar) < eps).all(axis=1)
    away = (np.abs(mu) > 1e-3).any(axis=1) | (np.abs(logvar) > 1e-2).any(axis=1)
    assert (kl[at_prior] < eps).all()
    assert (kl[away] > 0).all()


@given(stacks(20, 20))
@examples(60)
def test_other_kls_are_never_negative_and_zero_between_equals(pair: tuple[Array, Array]) -> None:
    """But for rounding, which a difference of logarithms cannot escape."""
    logits, other = pair
    tiny = 40 * logits.shape[1] * np.finfo(logits.dtype).eps
    for kl in (dist.bernoulli_kl, dist.categorical_kl):
        assert (kl(logits, other) >= -tiny).all()
        assert np.abs(kl(logits, logits)).max() <= tiny
    for entropy in (dist.bernoulli_entropy, dist.categorical_entropy):
        assert (entropy(logits) >= -tiny).all()
    assert (dist.bernoulli_entropy(logits) <= logits.shape[1] * np.log(2) + tiny).all()
    assert (dist.categorical_entropy(logits) <= np.log(logits.shape[1]) + tiny).all()


@given(st.integers(1, 5), st.data())
@examples(60)
def test_full_covariance_kl_is_never_negative(size: int, data: Any) -> None:
    mu = data.draw(hnp.arrays("float64", (2, size), elements=reals(20)))
    lower = data.draw(hnp.arrays("float64", (2, size, size), elements=reals(5)))
    diagonal = data.draw(hnp.arrays("float64", (2, size), elements=st.floats(1e-3, 20)))
    chol = np.tril(lower, -1) + diagonal[..., None] * np.eye(size)
    kl, _ = dist.full_normal_kl_forward(mu, chol)
    assert (kl >= -1e-12 * ((chol**2).sum(axis=(1, 2)) + (mu**2).sum(axis=1))).all()
    at_prior, _ = dist.full_normal_kl_forward(np.zeros((1, size)), np.eye(size)[None])
    assert at_prior == 0
    log_q, _ = dist.full_normal_log_prob_forward(mu, mu, chol)
    off_centre, _ = dist.full_normal_log_prob_forward(mu + 1, mu, chol)
    assert (off_centre < log_q).all()


@given(stacks(1e30), st.integers(0, 99))
@examples(80)
def test_log_probabilities_of_discrete_x_are_never_positive(stack: tuple[Array], seed: int) -> None:
    """For any finite logits, without a warning; and exactly so, since each term is."""
    (logits,) = stack
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 2, logits.shape).astype(np.uint8)
    labels = draw.integers(0, logits.shape[1], len(logits))
    with no_warnings():
        bernoulli, cache = dist.bernoulli_log_prob_forward(x, logits)
        dlogits = dist.bernoulli_log_prob_backward(np.ones_like(bernoulli), cache)
        categorical, cache = dist.categorical_log_prob_forward(labels, logits)
        dclasses = dist.categorical_log_prob_backward(np.ones_like(categorical), cache)
    for log_prob in (bernoulli, categorical):
        assert log_prob.dtype == logits.dtype
        assert np.isfinite(log_prob).all()
        assert (log_prob <= 0).all()
    for gradient in (dlogits, dclasses):
        assert gradient.dtype == logits.dtype
        assert (np.abs(gradient) <= 1).all()
    assert np.abs(dclasses.sum(axis=1)).max() <= 8 * np.finfo(logits.dtype).eps


@given(stacks(1e30), st.floats(0, 1, exclude_max=True, width=32))
@examples(60)
def test_samples_are_in_range_and_never_of_probability_zero(stack: tuple[Array], u: float) -> None:
    (logits,) = stack
    uniforms = np.full(logits.shape, u, dtype=np.float32)
    x = dist.bernoulli_sample(logits, uniforms)
    assert x.dtype == np.uint8
    assert (x <= 1).all()
    assert (x <= dist.bernoulli_sample(logits + 1, uniforms)).all()
    p = np.where(x == 1, layers.sigmoid(logits), layers.sigmoid(-logits))
    assert (p > 0).all()
    labels = dist.categorical_sample(logits, uniforms[:, 0])
    assert ((labels >= 0) & (labels < logits.shape[1])).all()
    probability = np.exp(dist.log_softmax(logits))[np.arange(len(labels)), labels]
    assert ((probability > 0) | (labels == logits.shape[1] - 1)).all()


# --- Functions of one array -------------------------------------------------------------------------------------


@given(hnp.arrays(st.sampled_from(("float32", "float64")), 7, elements=st.floats(width=32, allow_nan=False)))
@examples(80)
def test_activations_at_any_number_and_at_infinity(a: Array) -> None:
    eps = np.finfo(a.dtype).eps
    with no_warnings():
        sigma, soft = layers.sigmoid(a), layers.softplus(a)
        outputs = {name: forward(a)[0] for name, (forward, _) in layers.ACTIVATIONS.items()}
    assert all(output.dtype == a.dtype for output in outputs.values())
    assert ((sigma >= 0) & (sigma <= 1)).all()
    assert np.abs(sigma + layers.sigmoid(-a) - 1).max() <= eps
    assert (soft >= np.maximum(a, 0)).all()
    finite = np.isfinite(a)
    assert (soft[finite] <= (np.maximum(a[finite], 0) + np.log(2)) * (1 + eps)).all()
    assert np.array_equal(outputs["relu"], np.maximum(a, 0))
    assert (np.abs(outputs["tanh"]) <= 1).all()
    for name, (forward, backward) in layers.ACTIVATIONS.items():
        slope = backward(np.ones_like(a), forward(a)[1])
        assert ((slope >= 0) & (slope <= 1)).all(), name


@given(stacks(300), reals(300))
@examples(60)
def test_log_mean_exp_and_its_weights(stack: tuple[Array], shift: float) -> None:
    """The mean of log w ≤ log mean w ≤ the largest log w, weights that sum to one, an ESS from 1 to S."""
    (log_w,) = stack
    samples, eps = len(log_w), np.finfo(log_w.dtype).eps
    tiny = 8 * eps * (1 + np.abs(log_w).max())
    log_mean, weights = ops.log_mean_exp_weights(log_w)
    assert (log_mean >= log_w.mean(axis=0) - tiny).all()
    assert (log_mean <= log_w.max(axis=0) + tiny).all()
    assert (weights >= 0).all()
    assert np.abs(weights.sum(axis=0) - 1).max() <= 8 * eps
    shifted, _ = ops.log_mean_exp_weights(log_w + log_w.dtype.type(shift))
    assert np.abs(shifted - log_mean - log_w.dtype.type(shift)).max() <= 2 * tiny + 8 * eps * abs(shift)
    estimate = estimate_from_log_weights(ops, log_w)
    assert ((estimate.ess >= 1 - 8 * eps) & (estimate.ess <= samples * (1 + 8 * eps))).all()
    assert np.isnan(estimate.stderr).all() if samples == 1 else (estimate.stderr >= 0).all()
    again = estimate_from_log_weights(ops, log_w[::-1])
    assert np.abs(again.log_likelihood - estimate.log_likelihood).max() <= tiny


@given(hnp.arrays("float64", st.integers(1, 40), elements=reals(1e3)), st.floats(1e-5, 10), st.integers(0, 40))
@examples(60)
def test_adam_moves_each_number_by_itself_and_first_by_the_learning_rate(g: Array, lr: float, cut: int) -> None:
    def step(*gradients: Array, flip: float = 1.0) -> Array:
        moved = []
        for gradient in gradients:
            theta, first, second = (np.zeros_like(gradient) for _ in range(3))
            ops.adam_update(theta, flip * gradient, first, second, step=1, lr=lr, eps=1e-12)
            moved.append(theta)
        return np.concatenate(moved)

    whole = step(g)
    assert np.array_equal(whole, step(g[:cut], g[cut:]))
    assert np.array_equal(whole, -step(g, flip=-1.0))
    clear = np.abs(g) > 1e-3
    assert np.abs(whole[clear] + lr * np.sign(g[clear])).max(initial=0) <= 1e-8 * lr
    assert (np.abs(whole) <= lr * (1 + 1e-12)).all()


# --- Noise ------------------------------------------------------------------------------------------------------


ADDRESSES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**64 - 1),
        "stream": st.integers(noise.INIT, noise.AIS),
        "step": st.integers(0, 2**32 - 1),
    }
)
ROWS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9)


@given(ADDRESSES, ROWS, st.integers(0, 13), st.sampled_from(("words", "uniform", "normal")), st.data())
@examples(60)
def test_noise_depends_on_its_address_alone(
    address: dict[str, int], rows: list[int], columns: int, name: str, data: Any
) -> None:
    """Not on the other rows, their order, the split into batches, the samples beside it or the number of columns."""
    draw = getattr(noise, name)
    samples = data.draw(st.lists(st.integers(0, 2**24 - 1), min_size=len(rows), max_size=len(rows)))
    whole = draw(rows, columns, sample=np.array(samples), **address)
    wider = draw(rows, columns + 5, sample=np.array(samples), **address)
    assert np.array_equal(wider[:, :columns], whole)
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    picked = draw([rows[i] for i in places], columns, sample=np.array([samples[i] for i in places]), **address)
    assert np.array_equal(picked, whole[places])
    for i in places:
        assert np.array_equal(draw([rows[i]], columns, sample=samples[i], **address), whole[[i]])


@given(ADDRESSES, st.integers(1, 6), st.integers(1, 6), st.integers(1, 7), st.data())
@examples(40)
def test_samples_of_an_example_do_not_depend_on_how_many_are_asked_for(
    address: dict[str, int], batch: int, count: int, columns: int, data: Any
) -> None:
    def samples(rows: Array, numbers: Array) -> Array:
        every, sample = noise.every_sample(rows, numbers)
        return noise.normal(every, columns, sample=sample, **address).reshape(len(numbers), len(rows), columns)

    rows = np.array(data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=batch, max_size=batch)))
    whole = samples(rows, np.arange(count))
    cut = data.draw(st.integers(0, count - 1))
    assert np.array_equal(samples(rows, np.arange(cut, count)), whole[cut:])
    one = data.draw(st.integers(0, batch - 1))
    assert np.array_equal(samples(rows[[one]], np.arange(count))[:, 0], whole[:, one])


@given(ADDRESSES, hnp.arrays("uint8", hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)), st.data())
@examples(40)
def test_binarised_rows_do_not_depend_on_the_batch(address: dict[str, int], grey: Array, data: Any) -> None:
    rows = np.arange(len(grey)) + data.draw(st.integers(0, 2**31))
    whole = ops.philox_bernoulli(grey, rows=rows, **address)
    assert set(np.unique(whole)) <= {0, 1}
    assert not whole[grey == 0].any()
    assert whole[grey == 255].all()
    cut = data.draw(st.integers(0, len(grey) - 1))
    assert np.array_equal(ops.philox_bernoulli(grey[cut:], rows=rows[cut:], **address), whole[cut:])
    layout = data.draw(LAYOUTS)
    assert np.array_equal(ops.philox_bernoulli(layout(grey), rows=rows, **address), whole)


@given(problems(least=2), st.integers(1, 9), st.integers(1, 40), st.data())
@examples(30)
def test_the_likelihood_estimate_does_not_depend_on_batches_or_chunks(
    p: Problem, samples: int, chunk_rows: int, data: Any
) -> None:
    def estimate(part: Any, **chunks: int) -> Array:
        rows = np.arange(100, 100 + len(p.x))[part]
        model = Model(ops, p.arch, p.parameters)
        found = importance_log_likelihood(model, p.x[part], rows, samples=samples, seed=4, **chunks)
        return found.log_likelihood

    whole = estimate(slice(None))
    cut = data.draw(st.integers(1, len(p.x) - 1))
    assert close(np.concatenate([estimate(slice(None, cut)), estimate(slice(cut, None))]), whole)
    assert close(estimate(slice(None), chunk_rows=chunk_rows), whole)
    order = data.draw(st.permutations(range(len(p.x))))
    assert close(estimate(order), whole[order])


# --- Round trips ------------------------------------------------------------------------------------------------


SHAPES = st.dictionaries(
    st.text("abcdefgh.", min_size=1), hnp.array_shapes(max_dims=2, max_side=20).map(tuple), min_size=1, max_size=6
)


@given(SHAPES, st.integers(0, 99))
@examples(40)
def test_parameters_round_trip(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    parameters = Parameters(shapes)
    parameters.assign(values)
    assert list(parameters) == list(shapes)
    assert parameters.count == sum(value.size for value in values.values())
    for name, view in parameters.items():
        assert np.array_equal(view, values[name])
        assert np.shares_memory(view, parameters.flat)
        assert view.ctypes.data % 64 == 0
    assert np.count_nonzero(parameters.flat) == sum(np.count_nonzero(value) for value in values.values())
    wide = parameters.astype(np.float64)
    assert np.array_equal(wide.astype(np.float32).flat, parameters.flat)
    assert not parameters.zeros_like().flat.any()
    copy = parameters.zeros_like()
    copy.flat[...] = parameters.flat
    assert all(np.array_equal(copy[name], values[name]) for name in shapes)


COLUMN_FAMILIES = (*COMPOSED_LIKELIHOODS[:-1], "normal", {"family": "categorical", "levels": ["none", "some", "all"]})


def setting(option: config.Option) -> st.SearchStrategy[Any]:
    """Any value that a field of the configuration accepts."""
    kind = option.kind
    if isinstance(kind, config.Choice):
        values: st.SearchStrategy[Any] = st.sampled_from(kind.choices)
    elif isinstance(kind, config.Integer):
        values = st.integers(kind.at_least, (kind.below or 2**kind.bits) - 1)
    elif isinstance(kind, config.Real):
        least = kind.above if kind.at_least is None else kind.at_least
        values = st.floats(least, kind.below, exclude_min=kind.at_least is None, exclude_max=kind.below is not None)
        values = values.filter(np.isfinite)
    elif isinstance(kind, config.Sizes):
        length = {"min_size": kind.count or 0, "max_size": kind.count or 4}
        values = st.lists(st.integers(1, 9999), **length).map(tuple)
    elif isinstance(kind, config.Flag):
        values = st.booleans()
    elif isinstance(kind, config.ColumnFamilies):
        values = st.dictionaries(st.text("abc", min_size=1), st.sampled_from(COLUMN_FAMILIES), min_size=1, max_size=4)
    else:
        assert isinstance(kind, config.Text)
        values = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(str.strip)
    return st.none() | values if option.default is None else values


@given(st.fixed_dictionaries({}, optional={option.name: setting(option) for option in config.options()}))
@examples(100)
def test_config_round_trip_through_toml(tmp_path: Path, settings_: dict[str, Any]) -> None:
    # What two fields allow only together is refused, and tested as such elsewhere.
    if settings_.get("objective") == "score":
        settings_["samples"] = max(2, settings_.get("samples", 2))
    if settings_.get("inference") == "local":
        settings_ |= {"objective": "elbo", "samples": 1, "posterior": "diagonal", "gradient_blocks": 1}
    if settings_.get("top_latent") is None:
        settings_["top_hidden"] = None
    else:
        settings_ |= {"posterior": "diagonal", "inference": "amortized"}
        settings_["objective"] = "elbo" if settings_.get("objective", "elbo") == "elbo" else "iwae"
    posterior = settings_.get("posterior", "diagonal")
    if posterior not in FAMILIES_OF[settings_.get("objective", "elbo")]:
        settings_["objective"] = "iwae"
    if settings_.get("columns") is not None:
        settings_["likelihood"] = "columns"
    elif settings_.get("likelihood") == "columns":
        settings_["likelihood"] = "normal"
    composed = settings_.get("likelihood") in COMPOSED_LIKELIHOODS or settings_.get("missing") is not None
    one_layer = settings_.get("top_latent") is None
    if not one_layer:
        settings_ |= {"prior": "standard", "given": None}
    plain = posterior == "diagonal" and settings_.get("prior", "standard") == "standard" and one_layer
    refined = plain and settings_.get("inference", "amortized") == "amortized" and settings_.get("given") is None
    if not refined or settings_.get("objective", "elbo") != "elbo":
        settings_["refine_steps"] = 0
    if not settings_.get("refine_steps", 0):
        settings_ |= {"refine_rate": None, "refine_gradient": None}
    elif composed:
        settings_["refine_gradient"] = "stopped"
    if settings_.get("prior", "standard") == "standard":
        settings_["components"] = None
    elif settings_.get("objective", "elbo") not in ("elbo", "iwae"):
        settings_["objective"] = "elbo"
    unfit = settings_.get("inference") == "local" or posterior != "diagonal" or settings_.get("given") is not None
    if settings_.get("prior") == "vamp" and (unfit or composed):
        settings_["prior"] = "mixture"
    if posterior not in ("planar", "iaf"):
        settings_["flow_steps"] = None
    if posterior != "iaf":
        settings_["flow_hidden"] = None
    blocks = settings_.get("gradient_blocks", 1)
    settings_["batch_size"] = blocks * max(1, settings_.get("batch_size", 128) // blocks)
    if settings_.get("precision", "full") != "full":
        settings_["dtype"] = "float32"
    if settings_.get("schedule", "constant") != "constant":
        settings_["epochs"] = min(staged_epochs(STAGES), settings_.get("epochs", 1))
    if settings_.get("standardize"):
        measured = {"likelihood": "normal"} if settings_.get("columns") is None else {}
        settings_ |= {"values": "real", **measured}
    if settings_.get("standardize") or settings_.get("values") not in (None, "unit"):
        settings_["scale"] = None
    made = Config(**settings_)
    path = tmp_path / "config.toml"
    path.write_text(made.to_toml(), encoding="utf-8", newline="")
    assert config.load_toml(path) == made
    assert Config.from_mapping(made.to_mapping()) == made


# --- The model as one object ------------------------------------------------------------------------------------


@given(hnp.arrays("uint8", st.tuples(st.integers(1, 4), st.just(6))), LAYOUTS, st.integers(1, 3))
@examples(25)
def test_the_model_takes_images_of_any_layout(x: Array, layout: Any, z_samples: int) -> None:
    vae = VAE(6, hidden=(5,), latent=2, backend="numpy", dtype="float64", values="byte")
    expected = vae.elbo(x, z_samples=z_samples)
    for images in (layout(x), x.reshape(-1, 2, 3), layout(x.reshape(-1, 3, 2))):
        found = vae.elbo(images, z_samples=z_samples)
        assert close(found.elbo, expected.elbo)
    assert expected.elbo.shape == (len(x),)
    assert error(vae.encode(layout(x))[0], vae.encode(x)[0]) < 1e-12
