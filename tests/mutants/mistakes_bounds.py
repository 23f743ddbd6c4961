"""Mistakes in the objectives of several samples, and in the stages of a learning rate."""

from __future__ import annotations

from . import checks_bounds as bounds
from .checks_exact import FORMS
from .plant import Check, Edit, Mutant

IWAE, STL, DREG, SCORE = (bounds.gradient(name) for name in ("iwae", "stl", "dreg", "score"))
BOUND, VANISH = FORMS["bound_of_several_samples"], FORMS["paths_vanish_at_the_posterior"]
DREG_MEAN = FORMS["dreg_has_the_mean_of_the_bounds_gradient"]
SCORE_MEAN = FORMS["the_score_function_has_the_mean_of_the_elbos_gradient"]
DRAWS, RATES = bounds.a_step_draws_as_many_samples_as_were_asked_for, bounds.stages_have_the_printed_rates
_WEIGHTS = "weights.reshape(-1), beta)"


def _one(mistake: str, where: str, old: str, new: str, *checks: Check, gradient: Check | None = None) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), checks, gradient)


_BOUNDS = (
    _one(
        "importance weights not detached: differentiated once more",
        "objectives:objective_backward",
        "share = weights / batch",
        "share = weights * (1 + np.log(weights) - np.tile("
        "(weights * np.log(weights)).reshape(-1, batch).sum(axis=0), len(weights) // batch)) / batch",
        IWAE,
        DREG_MEAN,
        gradient=IWAE,
    ),
    _one(
        "samples weighed by a softmax over their losses",
        "objectives:objective_forward",
        _WEIGHTS,
        "(1 / weights / (1 / weights).sum(axis=0)).reshape(-1), beta)",
        IWAE,
        gradient=IWAE,
    ),
    _one(
        "weights normalised over the whole batch",
        "objectives:objective_forward",
        _WEIGHTS,
        "(weights.reshape(-1) / weights.sum()), beta)",
        IWAE,
        gradient=IWAE,
    ),
    _one(
        "log-weights laid out example-major",
        "objectives:objective_forward",
        ".reshape(-1, len(x)))",
        ".reshape(len(x), -1).T)",
        BOUND,
        gradient=IWAE,
    ),
    _one(
        "the mean of the log-weights for the bound",
        "objectives:objective_forward",
        "bound=bound)",
        "bound=(passed.loglik + log_ratio).reshape(-1, len(x)).mean(axis=0))",
        BOUND,
        gradient=IWAE,
    ),
    _one(
        "the bound too large by log K",
        "objectives:objective_forward",
        "bound=bound)",
        "bound=bound + np.log(samples))",
        BOUND,
        gradient=IWAE,
    ),
    _one(
        "beta left out of the weights",
        "objectives:objective_forward",
        "beta * log_ratio",
        "log_ratio",
        IWAE,
        gradient=IWAE,
    ),
    _one(
        "the bound reported as the ELBO",
        "objectives:objective_forward",
        "replace(terms, bound=bound)",
        "replace(terms, reconstruction=bound + terms.kl, bound=bound)",
        bounds.what_is_called_elbo_has_neither_weights_nor_beta,
        gradient=IWAE,
    ),
    _one(
        "log q's own way to logvar forgotten in the bound",
        "objectives:objective_backward",
        "0.5 * beta / batch",
        "0",
        IWAE,
        DREG_MEAN,
        gradient=IWAE,
    ),
    _one(
        "the path's log q with the sign of log p",
        "objectives:objective_backward",
        "passed.z + arch.family.slope_of_log_q",
        "passed.z - arch.family.slope_of_log_q",
        STL,
        VANISH,
        gradient=STL,
    ),
    _one(
        "ε for ε/σ along the path",
        "posteriors.family:over_sigma",
        "* np.exp(-0.5 * logvar)",
        "* np.exp(0 * logvar)",
        STL,
        VANISH,
        SCORE_MEAN,
        gradient=STL,
    ),
    _one(
        "DReG's second weight forgotten, which makes it STL",
        "objectives:objective_backward",
        'if objective == "dreg":',
        "if False:",
        DREG,
        DREG_MEAN,
        gradient=DREG,
    ),
    _one(
        "DReG's squared weights for the decoder, too",
        "objectives:objective_backward",
        "share = weights / batch",
        'share = weights * (weights if objective == "dreg" else 1) / batch',
        DREG,
        DREG_MEAN,
        gradient=DREG,
    ),
    _one(
        "DReG's squared weights whatever beta",
        "objectives:objective_backward",
        "(1 - beta + beta * weights)",
        "weights",
        DREG,
        DREG_MEAN,
        gradient=DREG,
    ),
    _one(
        "a baseline that has seen its own sample",
        "objectives:_score_backward",
        "(len(loglik) - 1) * batch",
        "len(loglik) * batch",
        SCORE,
        SCORE_MEAN,
        gradient=SCORE,
    ),
    _one(
        "the score function descends",
        "objectives:_score_backward",
        "dmu = dmu - ",
        "dmu = dmu + ",
        SCORE,
        SCORE_MEAN,
        gradient=SCORE,
    ),
)

_STEPS = (
    Mutant(
        "a training step draws one sample more than was asked for",
        (Edit("step:gradient_step", "np.arange(samples *", "np.arange(1 + samples *"),),
        (DRAWS,),
    ),
    _one(
        "all samples of an example have the same noise",
        "step:gradient_step",
        "np.arange(samples *",
        "0 * np.arange(samples *",
        DRAWS,
    ),
    _one(
        "samples asked for and one drawn",
        "training.trainer:Trainer._composed_step",
        '"samples": self.config.samples',
        '"samples": 1',
        bounds.a_run_climbs_what_it_was_asked_to,
    ),
    _one(
        "the ELBO climbed whatever was asked for",
        "training.trainer:Trainer._composed_step",
        '"objective": self.config.objective',
        '"objective": "elbo"',
        bounds.a_run_climbs_what_it_was_asked_to,
    ),
    _one("stages that fall in eighths, not in sevenths", "optim:staged_lr", "(STAGES - 1)", "STAGES", RATES),
    _one("rates not rounded to a decimal", "optim:staged_lr", "(STAGES - 1)), 1)", "(STAGES - 1)), 9)", RATES),
    _one("a stage begins an epoch late", "optim:stage_of", "epoch >= staged", "epoch > staged", RATES),
)

MUTANTS = (*_BOUNDS, *_STEPS)
