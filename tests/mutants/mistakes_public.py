"""Mistakes that public VAEs have made, where this package has the code to make them in."""

from __future__ import annotations

from . import checks_conduct as conduct
from . import checks_exact as exact
from . import checks_gradients as gradients
from . import checks_statistics as statistics
from .checks_exact import FORMS
from .plant import Edit, Mutant

MODEL, JOINT = gradients.model(), gradients.model(form="joint")
REPARAM = gradients.pair("reparam_kl")

MUTANTS = (
    Mutant(
        "noise scaled by exp(logvar), the backward pass consistent with it",
        (
            Edit("distributions:normal_sample", "np.exp(0.5 * logvar) * eps", "np.exp(logvar) * eps"),
            Edit("ops:reparam_kl_backward", "0.5 * np.exp(0.5 * logvar)", "np.exp(logvar)"),
        ),
        (statistics.z_has_the_moments_of_q, FORMS["samples_have_the_variance"], FORMS["forms_agree"]),
        REPARAM,
    ),
    Mutant(
        "noise scaled by exp(logvar) in the forward pass only",
        (Edit("distributions:normal_sample", "np.exp(0.5 * logvar) * eps", "np.exp(logvar) * eps"),),
        (REPARAM, FORMS["samples_have_the_variance"]),
        REPARAM,
    ),
    Mutant(
        "the backward pass draws a fresh ε",
        (
            Edit(
                "ops:reparam_kl_backward",
                "eps, logvar, kl_cache = cache",
                "eps, logvar, kl_cache = cache\n    eps = np.random.default_rng(0).standard_normal(eps.shape)",
            ),
        ),
        (REPARAM, MODEL),
        REPARAM,
    ),
    Mutant(
        "KL averaged over the latents, the backward pass consistent with it",
        (
            Edit("distributions:normal_kl_forward", ".sum(axis=-1)", ".mean(axis=-1)"),
            Edit("distributions:normal_kl_backward", "dkl[..., None]", "dkl[..., None] / mu.shape[-1]"),
        ),
        (exact.kl_of_several_latents_is_the_sum, statistics.sampled_kl_agrees_with_the_analytic_one),
        REPARAM,
    ),
    Mutant(
        "reconstruction averaged over the pixels, the backward pass consistent with it",
        (
            Edit("distributions:bernoulli_log_prob_forward", ".sum(axis=-1)", ".mean(axis=-1)"),
            Edit(
                "distributions:bernoulli_log_prob_backward",
                "(x - sigmoid(stacked))",
                "(x - sigmoid(stacked)) / x.shape[-1]",
            ),
        ),
        (FORMS["bernoulli_sums_to_one"],),
        gradients.pair("bernoulli_log_prob"),
    ),
    Mutant(
        "KL divided by the rows S·B, reconstruction by the batch",
        (Edit("elbo:posterior_elbo_backward", "np.full_like(kl, beta / batch)", "np.full_like(kl, beta / rows)"),),
        (MODEL,),
        MODEL,
    ),
    Mutant(
        "¼ where ½ is due in the gradient of the KL",
        (Edit("distributions:normal_kl_backward", "0.5 * np.expm1", "0.25 * np.expm1"),),
        (gradients.pair("normal_kl"), REPARAM),
        gradients.pair("normal_kl"),
    ),
    Mutant(
        "samples drawn with softplus(logits) as the probability",
        (Edit("distributions:bernoulli_sample", "sigmoid(logits)", "softplus(logits)"),),
        (statistics.samples_have_the_probabilities_of_their_logits, statistics.samples_of_the_model_follow_the_decoder),
    ),
    Mutant(
        "cross-entropy of grey values reported as a likelihood",
        (
            Edit(
                "data.binarization:check_values",
                'elif likelihood == "bernoulli" and binarize == "none":',
                "elif False:",
            ),
        ),
        (conduct.bernoulli_refuses_grey_values,),
    ),
    Mutant(
        "log p(x) estimated from more samples than asked for: the last chunk is always full",
        (
            Edit(
                "evaluation.importance:importance_log_likelihood",
                "np.arange(first, min(first + count, samples))",
                "np.arange(first, first + count)",
            ),
        ),
        (conduct.log_likelihood_draws_what_was_asked_for,),
    ),
    Mutant(
        "the batch summed inside the log-sum-exp",
        (Edit("ops:log_mean_exp_weights", "w.sum(axis=0)", "w.sum()"),),
        (FORMS["log_mean_exp_exactly"], conduct.log_likelihood_does_not_depend_on_batches_or_chunks),
        gradients.pair("log_mean_exp_weights"),
    ),
    Mutant(
        "log p(x) of the last batch only",
        (Edit("evaluation.held_out:_in_batches", "return importance.concatenate(parts)", "return parts[-1]"),),
        (conduct.every_example_is_evaluated_once,),
    ),
    Mutant(
        "importance weights of the last chunk only",
        (Edit("evaluation.importance:importance_log_likelihood", "np.concatenate(log_w)", "log_w[-1]"),),
        (conduct.log_likelihood_does_not_depend_on_batches_or_chunks,),
    ),
    Mutant(
        "softmax over the losses, so that the worst sample weighs most",
        (Edit("ops:log_mean_exp_weights", "w / total", "(1 / w) / (1 / w).sum(axis=0)"),),
        (gradients.pair("log_mean_exp_weights"), FORMS["log_mean_exp_exactly"]),
        gradients.pair("log_mean_exp_weights"),
    ),
    Mutant(
        "a clamp of logvar in the KL that its gradient does not have",
        (
            Edit(
                "distributions:normal_kl_forward",
                "np.expm1(logvar)",
                "np.expm1(np.where(logvar.real > 10, 10, logvar))",
            ),
        ),
        (gradients.KL_FAR_OUT,),
        gradients.pair("normal_kl"),
    ),
    Mutant(
        "1e-8 added inside the logarithm of the likelihood",
        (
            Edit(
                "distributions:bernoulli_log_prob_forward",
                "-(missed + np.log1p(np.exp(-magnitude)))",
                "np.log(np.exp(-missed - np.log1p(np.exp(-magnitude))) + 1e-8)",
            ),
        ),
        (FORMS["bernoulli_at_large_logits"], gradients.BERNOULLI_FAR_OUT),
        gradients.pair("bernoulli_log_prob"),
    ),
    Mutant(
        "a logvar that overflows, and a training that runs on with NaN",
        (Edit("training.trainer:Trainer.step", "if bad is not None:", "if False:"),),
        (conduct.what_is_not_finite_stops_the_training_by_name,),
    ),
    Mutant(
        "`difference > tolerance` in a comparison of two arrays, which lets NaN through",
        (Edit("verify.runner:_compared", "error <= tolerance", "not error > tolerance"),),
        (conduct.a_gradient_of_nan_fails,),
    ),
    Mutant(
        "`difference > tolerance` in the gradient checker, which lets NaN through",
        (
            Edit("gradcheck.judge:_compare", "bad = ~(gap <= row.atol +", "bad = (gap > row.atol +"),
            Edit("gradcheck.judge:_faults", "int((~np.isfinite(array)).sum())", "0"),
            Edit("gradcheck.judge:Evidence.shaped", "bool(np.isfinite(self.analytic).all())", "True"),
        ),
        (conduct.a_gradient_of_nan_fails,),
    ),
    Mutant(
        "an absolute tolerance in the gradient checker, which accepts all zeros",
        (Edit("gradcheck.judge:judge", "atol=tolerance.atol,", "atol=tolerance.atol or 1e-6,"),),
        (conduct.a_gradient_of_zeros_fails_however_small_the_right_one_is,),
    ),
    Mutant(
        "an absolute tolerance in a comparison of two arrays, which accepts all zeros",
        (Edit("verify.runner:_compared", "difference / size if size else (difference and math.inf)", "difference"),),
        (conduct.a_gradient_of_zeros_fails_however_small_the_right_one_is,),
    ),
)
