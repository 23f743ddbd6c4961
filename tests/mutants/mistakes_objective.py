"""Mistakes in the model, the ELBO, the optimisers and the estimate of log p(x)."""

from __future__ import annotations

from . import checks_conduct as conduct
from . import checks_exact as exact
from . import checks_gradients as gradients
from . import checks_statistics as statistics
from .checks_exact import FORMS
from .plant import Check, Edit, Mutant

MODEL, JOINT = gradients.model(), gradients.model(form="joint")
NORMAL, FIXED = gradients.model("normal"), gradients.model("normal-fixed")
ESTIMATE, KNOWN = exact.estimate_is_the_log_of_the_mean_weight, FORMS["importance_sampling_of_a_known_posterior"]
SPLIT = conduct.log_likelihood_does_not_depend_on_batches_or_chunks
ADAM, STEP = FORMS["adam_by_scalars"], conduct.a_step_is_adam_along_the_gradient_of_the_loss


def _one(mistake: str, where: str, old: str, new: str, check: Check, gradient: Check | None = None) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), (check,), gradient)


_MODEL = (
    _one(
        "the heads for mu and logvar exchanged",
        "model:encode_forward",
        "return (mu, logvar, *more),",
        "return (logvar, mu, *more),",
        MODEL,
        MODEL,
    ),
    _one(
        "logvar's way back into the encoder forgotten",
        "model:encode_backward",
        "dh_mu + dh_logvar",
        "dh_mu",
        MODEL,
        MODEL,
    ),
    _one(
        "gradients added to those of the step before",
        "model:_write",
        "value if add else value",
        "value",
        exact.a_second_backward_gives_the_same_gradient,
        MODEL,
    ),
    _one(
        "the learned σ has no gradient",
        "model:loglik_backward",
        'if gradients is not None and "likelihood.logvar" in gradients:',
        "if False:",
        NORMAL,
        NORMAL,
    ),
    _one(
        "log σ where log σ² is due, for a given σ",
        "architecture:Architecture.sigma_logvar",
        "2 * math.log(self.sigma)",
        "math.log(self.sigma)",
        KNOWN,
        FIXED,
    ),
    _one(
        "initial weights within ±1/in",
        "model:initialise",
        "1 / math.sqrt(inputs)",
        "1 / inputs",
        statistics.initial_weights_are_uniform_within_their_bound,
    ),
    _one(
        "initial weights never negative",
        "model:initialise",
        "(2 * u.astype(np.float64) - 1)",
        "u.astype(np.float64)",
        statistics.initial_weights_are_uniform_within_their_bound,
    ),
    _one(
        "the heads for mu and logvar start out the same",
        "model:initialise",
        "step=places[name]",
        "step=0",
        statistics.initial_weights_are_uniform_within_their_bound,
    ),
    _one(
        "the output's bias starts at the mean pixel, not at its logit",
        "model:start_at_mean",
        "np.log(clipped / (1 - clipped))",
        "clipped",
        exact.output_starts_at_the_logit_of_the_mean_pixel,
    ),
)

_ELBO = (
    Mutant(
        "the loss is +ELBO, backward pass and all",
        (
            Edit("elbo:Terms.loss", "-(self.reconstruction", "(self.reconstruction"),
            Edit("elbo:posterior_elbo_backward", "np.full_like(loglik, -1 / rows)", "np.full_like(loglik, 1 / rows)"),
            Edit("elbo:posterior_elbo_backward", "np.full_like(kl, beta / batch)", "np.full_like(kl, -beta / batch)"),
        ),
        (exact.loss_is_minus_the_mean_elbo, conduct.training_raises_the_elbo),
        MODEL,
    ),
    Mutant(
        "the loss is a sum over the batch, backward pass and all",
        (
            Edit("elbo:Terms.loss", ".mean()", ".sum()"),
            Edit("elbo:posterior_elbo_backward", "len(loglik), len(kl)", "len(loglik) // len(kl), 1"),
        ),
        (exact.loss_is_minus_the_mean_elbo,),
        MODEL,
    ),
    _one("beta left out of the loss", "elbo:Terms.loss", "beta * self.kl", "self.kl", MODEL, MODEL),
    _one(
        "reconstruction + KL",
        "elbo:Terms.elbo",
        "self.reconstruction - self.kl",
        "self.reconstruction + self.kl",
        exact.loss_is_minus_the_mean_elbo,
        MODEL,
    ),
    _one(
        "the decoder reads mu, not z",
        "elbo:posterior_elbo_forward",
        "arch, parameters, z, model.given_in(arch, x))",
        "arch, parameters, np.concatenate([mu] * (len(z) // len(mu))))",
        MODEL,
        MODEL,
    ),
    _one(
        "draws averaged across examples",
        "elbo:posterior_elbo_forward",
        "loglik.reshape(-1, len(x)).mean(axis=0)",
        "loglik.reshape(len(x), -1).mean(axis=1)",
        exact.terms_are_those_of_their_own_example,
        MODEL,
    ),
    _one(
        "1/S of the draws forgotten",
        "elbo:posterior_elbo_backward",
        "np.full_like(loglik, -1 / rows)",
        "np.full_like(loglik, -1 / batch)",
        MODEL,
        MODEL,
    ),
    _one(
        "ε² left out of log q(z|x), a constant to the gradient",
        "elbo:posterior_log_prob",
        "(stacked * stacked + logvar + LOG_2PI)",
        "(0 * stacked + logvar + LOG_2PI)",
        FORMS["joint_parts"],
        JOINT,
    ),
    _one(
        "log 2π once for K latents in the prior",
        "elbo:standard_normal_log_prob",
        "z.shape[-1] * LOG_2PI",
        "LOG_2PI",
        FORMS["joint_parts"],
        JOINT,
    ),
    _one(
        "logvar's own term divided by S as well",
        "elbo:posterior_elbo_backward",
        "0.5 * beta / batch",
        "0.5 * beta / rows",
        JOINT,
        JOINT,
    ),
    _one(
        "the prior's pull on z forgotten in the joint form",
        "elbo:prior_backward",
        "-dlog_prior[:, None] * cache.z",
        "0 * cache.z",
        JOINT,
        JOINT,
    ),
)

_LIKELIHOOD = (
    _one(
        "importance weights without the prior",
        "evaluation.importance:log_weights",
        "loglik + log_prior",
        "loglik",
        KNOWN,
    ),
    _one(
        "importance weights multiplied by q",
        "evaluation.importance:log_weights",
        "- posterior_log_prob(",
        "+ posterior_log_prob(",
        KNOWN,
    ),
    _one(
        "the mean of the log weights, which is the ELBO",
        "evaluation.importance:estimate_from_log_weights",
        "return Estimate(log_mean,",
        "return Estimate(log_w.mean(axis=0),",
        ESTIMATE,
    ),
    _one(
        "the standard error of the sum, not of the mean",
        "evaluation.importance:estimate_from_log_weights",
        "spread / (samples - 1)",
        "spread",
        ESTIMATE,
    ),
    _one(
        "the effective sample size as a share of S",
        "evaluation.importance:estimate_from_log_weights",
        "1 / sum_squares",
        "1 / sum_squares / samples",
        ESTIMATE,
    ),
    _one(
        "noise by the place in the batch, not by the row in the data",
        "evaluation.importance:importance_log_likelihood",
        "noise.every_sample(rows, ",
        "noise.every_sample(np.arange(len(rows)), ",
        SPLIT,
    ),
    _one(
        "sample numbers laid out example-major",
        "noise:every_sample",
        "np.repeat(samples, every.size)",
        "np.tile(samples, every.size)",
        conduct.log_likelihood_draws_what_was_asked_for,
    ),
    _one(
        "evaluation shares its noise with training",
        "evaluation.importance:importance_log_likelihood",
        "noise.EVAL_EPS",
        "noise.EPS",
        conduct.log_likelihood_draws_what_was_asked_for,
    ),
)

_OPTIMISERS = (
    _one("Adam without bias correction of m", "optim:adam_update", "lr / (1 - beta1**step)", "lr", ADAM),
    _one("β₁ for β₂ in v's bias correction", "optim:adam_update", "1 - beta2**step", "1 - beta1**step", ADAM),
    _one(
        "Adam's ε inside the square root",
        "optim:adam_update",
        "(np.sqrt(v) / root_correction + eps)",
        "np.sqrt(v / root_correction**2 + eps)",
        ADAM,
    ),
    _one(
        "Adam's ε before the bias correction",
        "optim:adam_update",
        "(np.sqrt(v) / root_correction + eps)",
        "((np.sqrt(v) + eps) / root_correction)",
        ADAM,
    ),
    _one("|g| for g² in the second moment", "optim:adam_update", "(g * g)", "abs(g)", ADAM),
    _one("Adam climbs", "optim:adam_update", "parameters[chunk] -= step_size", "parameters[chunk] += step_size", ADAM),
    _one(
        "the first moment is not kept",
        "optim:adam_update",
        "m *= beta1",
        "m = beta1 * m",
        ADAM,
    ),
    _one(
        "the last entry of each chunk is skipped",
        "optim:adam_update",
        "slice(start, start + _CHUNK)",
        "slice(start, start + _CHUNK - 1)",
        exact.adam_on_a_long_buffer_is_adam_entry_by_entry,
    ),
    _one(
        "Adagrad divides by the sum of squares, not by its root",
        "optim:adagrad_update",
        "np.sqrt(squares)",
        "squares",
        FORMS["adagrad_by_scalars"],
    ),
    _one(
        "Adagrad forgets the squares before",
        "optim:adagrad_update",
        "squares += gradient * gradient",
        "squares = gradient * gradient",
        FORMS["adagrad_by_scalars"],
    ),
    _one("the step count one too high", "step:apply_gradients", "step=state.step,", "step=state.step + 1,", STEP),
    _one("β₁ and β₂ exchanged", "step:apply_gradients", "beta1=optimiser.beta1", "beta1=optimiser.beta2", STEP),
    _one("the ε that was asked for is ignored", "step:apply_gradients", "eps=optimiser.eps,", "", STEP),
    _one(
        "the warm-up starts at its second step",
        "optim:linear_warmup",
        "final * step / steps",
        "final * (step + 1) / steps",
        conduct.warm_up_grows_over_its_epochs_to_the_final_beta,
    ),
)

MUTANTS = (*_MODEL, *_ELBO, *_LIKELIHOOD, *_OPTIMISERS)
