"""Mistakes in the noise, the data, the training loop, evaluation and sampling: none of them has a derivative."""

from __future__ import annotations

from . import checks_conduct as conduct
from . import checks_statistics as statistics
from .checks_exact import FORMS
from .plant import Check, Edit, Mutant

NORMAL, ADDRESS = (
    statistics.noise_is_standard_normal_and_uncorrelated,
    conduct.each_word_of_the_address_changes_the_noise,
)
ORDER, STEP = (
    conduct.an_epoch_visits_every_row_once_in_its_own_order,
    conduct.a_step_draws_the_noise_of_its_rows_and_its_number,
)
ONCE, AGAIN = conduct.every_example_is_evaluated_once, conduct.evaluation_repeats_itself
SCALED = conduct.densities_of_standardised_data_are_those_of_the_data
DYNAMIC, GREY = conduct.dynamic_pixels_are_drawn_anew_and_fixed_ones_are_not, conduct.grey_bytes_become_values_up_to_one


def _one(mistake: str, where: str, old: str, new: str, check: Check) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), (check,))


_NOISE = (
    _one("nine rounds of Philox", "noise:philox", "range(ROUNDS)", "range(ROUNDS - 1)", FORMS["philox_vectors"]),
    _one(
        "Philox's multipliers exchanged",
        "noise:philox",
        "c0 * m0, c2 * m1",
        "c0 * m1, c2 * m0",
        FORMS["philox_vectors"],
    ),
    _one("the upper half of the seed ignored", "noise:words", "seed // 2**32", "0", ADDRESS),
    _one(
        "the step left out of the address",
        "noise:words",
        "row[part, None], step, c3",
        "row[part, None], 0, c3",
        ADDRESS,
    ),
    _one(
        "the sample's number left out of the address",
        "noise:words",
        "np.uint32(256) * samples + np.uint32(stream)",
        "0 * samples + np.uint32(stream)",
        ADDRESS,
    ),
    _one(
        "streams and samples that collide",
        "noise:words",
        "np.uint32(256) * samples + np.uint32(stream)",
        "samples + np.uint32(stream)",
        conduct.streams_and_samples_never_share_a_block,
    ),
    _one(
        "uniforms that can reach 1",
        "noise:uniform",
        "np.float32(2.0**-24)",
        "np.float32(1 / (2**24 - 1))",
        conduct.uniforms_are_the_upper_bits_of_a_word,
    ),
    _one("√(−ln u) for √(−2 ln u)", "noise:normal", "-2.0 * _log_unit", "-1.0 * _log_unit", NORMAL),
    _one("the same word for radius and angle", "noise:normal", "drawn[:, 1::2]", "drawn[:, 0::2]", NORMAL),
    _one("the cosine twice", "noise:normal", "radius * sin", "radius * cos", NORMAL),
    _one(
        "u ≤ p for u < p: a black pixel can turn white",
        "noise:bernoulli",
        "drawn < probability",
        "drawn <= probability",
        conduct.black_pixels_stay_black,
    ),
    _one(
        "grey / 256: a white pixel can turn black",
        "noise:grey_probability",
        "np.float32(255)",
        "np.float32(256)",
        statistics.pixels_have_the_probability_of_their_grey,
    ),
    _one(
        "rows drawn with replacement",
        "noise:order",
        'np.argsort(drawn, kind="stable")',
        "(drawn % rows_count)",
        ORDER,
    ),
    _one("the same order in every epoch", "noise:order", "step=epoch", "step=0", ORDER),
)

_DATA = (
    _one(
        "dynamic binarisation that never changes",
        "data.binarization:prepare",
        "stream=stream, step=step",
        "stream=stream, step=0",
        DYNAMIC,
    ),
    _one(
        "fixed binarisation drawn anew at every step",
        "data.binarization:prepare",
        'mode == "fixed" and',
        "False and",
        DYNAMIC,
    ),
    _one(
        "fixed pixels of the test set those of the training set",
        "data.binarization:prepare",
        "and stream == noise.BINARIZE",
        "",
        DYNAMIC,
    ),
    _one("grey bytes not divided by 255", "data.values:Values.to_model", "grey / np.float32(self.scale)", "grey", GREY),
    _one(
        "Σ log σ of standardised columns added, not subtracted",
        "data.values:Values.log_det_jacobian",
        "-float(",
        "float(",
        SCALED,
    ),
    _one(
        "the ELBO of standardised data for that of the data",
        "evaluation.held_out:elbo_terms",
        "shifted(found.reconstruction, examples.values.log_det_of(x))",
        "found.reconstruction",
        SCALED,
    ),
    _one(
        "log p(x) of standardised data for that of the data",
        "evaluation.held_out:_in_batches",
        "estimate(x, places).shifted(examples.values.log_det_of(x))",
        "estimate(x, places)",
        SCALED,
    ),
    _one(
        "columns divided by their variance",
        "data.values:Standardisation.of",
        "np.sqrt(squares / count)",
        "squares / count",
        SCALED,
    ),
    _one(
        "samples taken back by the mean alone",
        "data.values:Values.from_model",
        "x * self.standardisation.sigma + ",
        "x + ",
        SCALED,
    ),
    _one("a threshold that grey ½ does not reach", "data.binarization:prepare", ">= 0.5", "> 0.5", GREY),
    _one(
        "validation rows trained on",
        "data.dataset:split_validation",
        "return rows - validation, validation",
        "return rows, validation",
        conduct.validation_rows_are_not_trained_on,
    ),
)

_TRAINING = (
    _one("the same ε at every step", "step:gradient_step", "step=state.step", "step=0", STEP),
    _one(
        "ε by the place in the batch, not by the row in the data",
        "step:gradient_step",
        "noise.every_sample(rows, ",
        "noise.every_sample(np.arange(len(rows)), ",
        STEP,
    ),
    _one(
        "one order for all epochs of a run",
        "training.host_loop:run",
        "if order is None or batch == 0:",
        "if order is None:",
        conduct.an_epochs_batches_share_no_row,
    ),
    _one(
        "batches that overlap",
        "training.host_loop:run",
        "order[batch * size : (batch + 1) * size]",
        "order[batch : batch + size]",
        conduct.an_epochs_batches_share_no_row,
    ),
    _one(
        "warm-up counted in steps, not in epochs",
        "training.trainer:Trainer.beta",
        "self.config.beta_warmup * self.steps_per_epoch",
        "self.config.beta_warmup",
        conduct.warm_up_grows_over_its_epochs_to_the_final_beta,
    ),
    _one(
        "metrics that show the last step for the mean",
        "training.trainer:Running.means",
        "self.kl / self.steps",
        "self.kl",
        conduct.metrics_are_means_over_the_steps,
    ),
    _one(
        "a gradient that is not finite under a finite loss",
        "step:first_non_finite",
        "(terms.loss(), gradients @ gradients, state.parameters.flat.sum())",
        "(terms.loss(),)",
        conduct.a_bad_gradient_is_named_under_a_finite_loss,
    ),
)

_EVALUATION = (
    _one(
        "the incomplete last batch left out of the ELBO",
        "evaluation.held_out:_of_all",
        "range(0, len(examples), _BATCH)",
        "range(0, len(examples) - len(examples) % _BATCH, _BATCH)",
        ONCE,
    ),
    _one(
        "every draw of an example the same",
        "evaluation.held_out:_noise",
        "np.arange(samples)",
        "0 * np.arange(samples)",
        ONCE,
    ),
    _one("test noise from the training stream", "evaluation.held_out:_noise", "noise.EVAL_EPS", "noise.EPS", ONCE),
    _one(
        "rows numbered from the start of each part",
        "evaluation.held_out:Examples.batch",
        "self.first + np.arange",
        "np.arange",
        AGAIN,
    ),
    _one(
        "test pixels those of the training stream",
        "evaluation.held_out:Examples.batch",
        "noise.EVAL_BINARIZE",
        "noise.BINARIZE",
        AGAIN,
    ),
    _one(
        "the KL per latent summed over the examples",
        "evaluation.held_out:kl_per_dimension",
        "kl.mean(",
        "kl.sum(",
        conduct.kl_per_latent_adds_up_to_the_kl,
    ),
    _one(
        "active units by the standard deviation",
        "evaluation.held_out:active_units",
        "mu.var(",
        "mu.std(",
        conduct.active_units_vary_by_more_than_a_hundredth,
    ),
    _one(
        "the spread of the values for the error of their mean",
        "evaluation.held_out:mean_and_stderr",
        "spread / np.sqrt(len(wide))",
        "spread",
        conduct.mean_comes_with_the_error_of_the_mean,
    ),
)

_SAMPLING = (
    _one(
        "probabilities handed out as samples",
        "vae.inference:Inference.sample",
        "bernoulli_sample(out, noise.uniform(rows, self.arch.features, **address))",
        "sigmoid(out)",
        statistics.samples_of_the_model_follow_the_decoder,
    ),
    _one(
        "logits handed out as probabilities",
        "vae.inference:Inference.decode",
        "sigmoid(out) if self.arch.is_bernoulli else self.values.from_model(out)",
        "out",
        statistics.samples_of_the_model_follow_the_decoder,
    ),
    _one(
        "x given z drawn with the noise that drew z",
        "vae.inference:Inference.sample",
        '"sample": 1',
        '"sample": 0',
        statistics.samples_of_a_normal_likelihood_have_its_sigma,
    ),
    _one(
        "σ² as the standard deviation of what is sampled",
        "vae.inference:Inference._logvar",
        "self.arch.sigma_logvar",
        "2 * self.arch.sigma_logvar",
        statistics.samples_of_a_normal_likelihood_have_its_sigma,
    ),
)

MUTANTS = (*_NOISE, *_DATA, *_TRAINING, *_EVALUATION, *_SAMPLING)
