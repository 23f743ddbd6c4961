"""Mistakes in annealed importance sampling, its bounds, and what an evaluation keeps and reports."""

from __future__ import annotations

from . import checks_annealed as checks
from .plant import Check, Edit, Mutant

FORWARD, REVERSE = checks.annealed_weights_average_to_p_of_x, checks.reverse_weights_average_to_one_over_p_of_x
BACK, RUN = checks.a_trajectory_turned_round_comes_back, checks.every_chain_asked_for_is_run_with_noise_of_its_own
MIXTURE = checks.information_is_that_of_the_mixture


def _one(mistake: str, where: str, old: str, new: str, *caught_by: Check) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), caught_by)


MUTANTS = (
    _one(
        "chains weighed after they have moved",
        "evaluation.annealing:log_weights",
        "        log_w += abs(",
        "        state, _ = runs.move(state, float(betas[number + 1]), steps[0], number + 1, annealing.leapfrog)\n"
        "        log_w += abs(",
        FORWARD,
    ),
    _one(
        "every proposal accepted",
        "evaluation.annealing:transition",
        "accepted = threshold > change",
        "accepted = threshold > -1",
        FORWARD,
    ),
    _one(
        "proposals that raise the energy accepted, and those that lower it not",
        "evaluation.annealing:transition",
        "accepted = threshold > change",
        "accepted = threshold > -change",
        FORWARD,
    ),
    _one(
        "−2 log u for −log u in the decision",
        "evaluation.annealing:transition",
        "threshold = 0.5 * (",
        "threshold = (",
        FORWARD,
    ),
    _one(
        "the momentum left out of the energy",
        "evaluation.annealing:energy",
        "(target.potential(state.z) + kinetic)",
        "target.potential(state.z)",
        checks.energy_is_minus_the_log_density,
        FORWARD,
    ),
    _one(
        "β left out of the energy",
        "evaluation.annealing:energy",
        "- beta * state.loglik",
        "- state.loglik",
        checks.energy_is_minus_the_log_density,
        FORWARD,
        REVERSE,
    ),
    _one(
        "a whole kick where the trajectory begins",
        "evaluation.annealing:leapfrog",
        "momentum + 0.5 * step * (",
        "momentum + step * (",
        BACK,
        FORWARD,
    ),
    _one(
        "a whole kick where the trajectory ends",
        "evaluation.annealing:leapfrog",
        "else 0.5 * step)",
        "else step)",
        BACK,
        FORWARD,
    ),
    _one(
        "the likelihood of the proposal kept when it is rejected",
        "evaluation.annealing:transition",
        "np.where(accepted, end.loglik, state.loglik)",
        "end.loglik",
        FORWARD,
    ),
    _one(
        "a schedule that stops short of the posterior",
        "evaluation.annealing:Annealing.schedule",
        "(curve[-1] - curve[0])",
        "1.0",
        checks.a_schedule_ends_at_the_posterior,
        FORWARD,
    ),
    _one(
        "the reverse weights averaged, and not one over them",
        "evaluation.annealing:annealed_log_likelihood",
        "log_w if start is None else -log_w",
        "log_w",
        checks.the_upper_bound_averages_one_over_the_weights,
    ),
    _one(
        "the upper bound reported with its sign turned",
        "evaluation.annealing:annealed_log_likelihood",
        "-reverse.log_likelihood",
        "reverse.log_likelihood",
        checks.the_upper_bound_averages_one_over_the_weights,
    ),
    _one(
        "the last block of chains alone",
        "evaluation.annealing:annealed_log_likelihood",
        "np.concatenate(parts)",
        "parts[-1]",
        checks.annealing_does_not_depend_on_blocks,
    ),
    _one(
        "more chains than asked for: the last block is always full",
        "evaluation.annealing:_blocks",
        "min(first + size, chains)",
        "first + size",
        RUN,
        checks.annealing_does_not_depend_on_blocks,
    ),
    _one(
        "the pilot's noise used again by the chains that are weighed",
        "evaluation.annealing:_Chains.__init__",
        "3 * chains + role",
        "3 * chains",
        RUN,
    ),
    _one(
        "the same noise at every temperature",
        "evaluation.annealing:_Chains.normals",
        "step=step",
        "step=0",
        RUN,
    ),
    _one(
        "log N left out of the mixture's density",
        "evaluation.held_out:elbo_surgery",
        ".mean(axis=1)",
        ".sum(axis=1)",
        MIXTURE,
    ),
    _one(
        "1/σ² where ½ of it is due in the mixture",
        "evaluation.held_out:elbo_surgery",
        "-0.5 * precision",
        "-precision",
        MIXTURE,
    ),
    _one(
        "an interrupted evaluation begun anew behind what it had done",
        "evaluation.held_out:_in_batches",
        "0 if done is None else len(done.ess)",
        "0",
        checks.what_is_done_already_is_not_done_again,
    ),
    _one(
        "log p(x) reported for a cross-entropy on grey values",
        "evaluation.held_out:check_estimator",
        'arch.likelihood == "bernoulli-grey"',
        "False",
        checks.a_likelihood_is_refused_to_a_cross_entropy,
    ),
    _one(
        "collapsed weights not flagged",
        "evaluation.importance:Estimate.degenerate",
        "~(self.ess >= DEGENERATE_ESS)",
        "self.ess < 1",
        checks.weights_that_have_collapsed_are_marked,
    ),
)
