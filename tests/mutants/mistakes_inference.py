"""Mistakes in the exact answers, and in inference one datapoint at a time."""

from __future__ import annotations

from . import checks_inference as inference
from .plant import Check, Edit, Mutant


def _one(mistake: str, where: str, old: str, new: str, check: Check, gradient: Check | None = None) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), (check,), gradient)


_EXACT = (
    _one(
        "the prior left out of the posterior's precision",
        "exact.linear_gaussian:LinearGaussian.precision",
        "np.eye(self.latent) + self.pull",
        "self.pull",
        inference.joint_over_posterior_is_log_p_at_any_z,
    ),
    _one(
        "the noise nearly left out of the covariance of x",
        "exact.linear_gaussian:LinearGaussian.covariance",
        "+ self.psi",
        "+ 1e-3 * self.psi",
        inference.joint_over_posterior_is_log_p_at_any_z,
    ),
    _one(
        "the spread of z left out of the reconstruction",
        "exact.linear_gaussian:LinearGaussian.elbo",
        "expected - 0.5 * spread - kl",
        "expected - kl",
        inference.bound_at_the_posterior_is_log_p,
    ),
    _one(
        "the posterior's own variances for the best diagonal q's: the KL the other way round",
        "exact.linear_gaussian:LinearGaussian.best_diagonal",
        "return mean, 1 / diagonal,",
        "return mean, np.diag(self.posterior(x)[1]),",
        inference.bound_at_the_posterior_is_log_p,
    ),
    _one(
        "EM with the posterior's mean alone",
        "exact.linear_gaussian:em_step",
        "mean.T @ mean / len(x) + covariance",
        "mean.T @ mean / len(x)",
        inference.em_climbs_to_the_best_likelihood,
    ),
    _one(
        "the noise not taken off the leading eigenvalues",
        "exact.linear_gaussian:ppca",
        "np.maximum(values[:latent] - noise, 0)",
        "values[:latent]",
        inference.em_climbs_to_the_best_likelihood,
    ),
    _one(
        "x·mean once where the square has it twice",
        "exact.decoder:Decoder._normal_block",
        "- 2 * (a @ b.T)",
        "- (a @ b.T)",
        inference.every_pair_of_x_and_z_has_its_log_likelihood,
        inference.WEIGHTED,
    ),
    _one(
        "weights left out of what the decoder expects",
        "exact.decoder:Decoder.weighted_gradient",
        "mean_x - mass * sigmoid(out)",
        "mean_x - sigmoid(out)",
        inference.WEIGHTED,
        inference.WEIGHTED,
    ),
    _one(
        "a spacing of the trapezoid rule that is one node short",
        "exact.quadrature:trapezoid_grid",
        "2 * EDGE / (nodes - 1)",
        "2 * EDGE / nodes",
        inference.every_quadrature_gives_log_p_of_the_linear_model,
    ),
    _one(
        "the physicists' Hermite polynomials for the probabilists'",
        "exact.quadrature:gauss_hermite_rule",
        "hermite_e.hermegauss",
        "hermite.hermgauss",
        inference.every_quadrature_gives_log_p_of_the_linear_model,
    ),
    _one(
        "bits counted from the other end",
        "exact.enumeration:state_index",
        "np.arange(x.shape[1])[::-1]",
        "np.arange(x.shape[1])",
        inference.table_of_all_x_is_a_distribution,
    ),
    _one(
        "log p of the zeros left out of the independent Bernoullis",
        "exact.enumeration:independent_bernoulli_nll",
        "(1 - inside) * np.log1p(-inside)",
        "0 * inside",
        inference.table_of_all_x_is_a_distribution,
    ),
)

_INFERENCE = (
    Mutant(
        "log variance read as log σ in λ, backward pass and all",
        (
            Edit("exact.inference:Family.unpack", "scale = 0.5 if", "scale = 1.0 if"),
            Edit("exact.inference:Family.backward", "0.5 * diagonal", "diagonal"),
        ),
        (inference.bound_by_quadrature_is_the_closed_one,),
        inference.DIAGONAL,
    ),
    _one(
        "the ½ of ∂L_ii/∂v forgotten",
        "exact.inference:Family.backward",
        "0.5 * diagonal",
        "diagonal",
        inference.DIAGONAL,
        inference.DIAGONAL,
    ),
    _one(
        "∂L_ii/∂log L_ii = 1",
        "exact.inference:Family.backward",
        "np.diagonal(dchol, axis1=1, axis2=2) * np.diagonal(chol, axis1=1, axis2=2)",
        "np.diagonal(dchol, axis1=1, axis2=2)",
        inference.FULL,
        inference.FULL,
    ),
    _one(
        "log q added where it is due to be subtracted",
        "exact.candidate_objectives:single_point",
        "log_joint - full_normal",
        "log_joint + full_normal",
        inference.single_point_at_the_posterior_is_log_p,
    ),
    _one(
        "the pathwise gradient in v without its ½",
        "exact.candidate_objectives:pathwise_gradient",
        "0.5 * df",
        "df",
        inference.both_gradients_of_an_expectation_are_unbiased,
    ),
    _one(
        "the score of v without its −1",
        "exact.candidate_objectives:score_function_gradient",
        "(eps * eps - 1)",
        "(eps * eps)",
        inference.both_gradients_of_an_expectation_are_unbiased,
    ),
    _one(
        "one count of visits for all rows",
        "training.per_datapoint:LocalPosterior.update",
        "self.visits[rows] += 1",
        "self.visits += 1",
        inference.each_row_has_an_adam_of_its_own,
    ),
)

MUTANTS = (*_EXACT, *_INFERENCE)
