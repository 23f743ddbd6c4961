"""Mistakes in the distributions."""

from __future__ import annotations

from . import checks_exact as exact
from . import checks_gradients as gradients
from . import checks_statistics as statistics
from .checks_exact import FORMS
from .plant import Edit, Mutant

BERNOULLI, NORMAL = gradients.pair("bernoulli_log_prob"), gradients.pair("normal_log_prob, sigma per dimension")
FULL, FULL_KL = gradients.pair("full_normal_log_prob"), gradients.pair("full_normal_kl")
FULL_SAMPLE, CATEGORICAL = gradients.pair("full_normal_sample"), gradients.pair("categorical_log_prob")


def _at(function: str, old: str, new: str) -> Edit:
    return Edit(f"distributions:{function}", old, new)


MUTANTS = (
    Mutant(
        "σ(l) − x for x − σ(l)",
        (_at("bernoulli_log_prob_backward", "x - sigmoid(stacked)", "sigmoid(stacked) - x"),),
        (BERNOULLI,),
        BERNOULLI,
    ),
    Mutant(
        "log(1 + exp l) written out, which overflows",
        (
            _at(
                "bernoulli_log_prob_forward",
                "-(missed + np.log1p(np.exp(-magnitude)))",
                "(x * stacked - np.log(1 + np.exp(stacked)))",
            ),
        ),
        (FORMS["bernoulli_at_large_logits"],),
        BERNOULLI,
    ),
    Mutant(
        "rows of several draws read example-major",
        (
            _at(
                "bernoulli_log_prob_forward",
                "logits.reshape(-1, *x.shape)",
                "logits.reshape(len(x), -1, x.shape[1]).swapaxes(0, 1)",
            ),
        ),
        (exact.rows_of_several_draws_are_sample_major,),
        BERNOULLI,
    ),
    Mutant(
        "the entropy's sign at the second term",
        (_at("bernoulli_entropy", "softplus(logits) - logits", "softplus(logits) + logits"),),
        (exact.entropy_is_minus_the_mean_log_density,),
    ),
    Mutant(
        "KL between Bernoullis taken under the other one",
        (_at("bernoulli_kl", "sigmoid(logits) * (", "sigmoid(other) * ("),),
        (exact.kl_is_the_enumerated_one,),
    ),
    Mutant(
        "log 2π left out of the normal's density",
        (_at("normal_log_prob_forward", "LOG_2PI + logvar", "logvar"),),
        (FORMS["normal_integrates_to_one"],),
        NORMAL,
    ),
    Mutant(
        "logvar read as log σ, backward pass and all",
        (
            _at(
                "normal_log_prob_forward",
                "LOG_2PI + logvar + residual * residual * np.exp(-logvar)",
                "LOG_2PI + 2 * logvar + residual * residual * np.exp(-2 * logvar)",
            ),
            _at("normal_log_prob_backward", "residual * np.exp(-logvar)", "residual * np.exp(-2 * logvar)"),
            _at("normal_log_prob_backward", "0.5 * upstream", "upstream"),
        ),
        (FORMS["normal_integrates_to_one"],),
        NORMAL,
    ),
    Mutant(
        "the −1 of ½(r²/σ² − 1) forgotten",
        (_at("normal_log_prob_backward", "(residual * scaled - 1)", "residual * scaled"),),
        (NORMAL,),
        NORMAL,
    ),
    Mutant(
        "the sign of dx",
        (_at("normal_log_prob_backward", "return -dmean.sum(axis=0)", "return dmean.sum(axis=0)"),),
        (NORMAL,),
        NORMAL,
    ),
    Mutant(
        "the gradient of a shared σ averaged over what it is shared by",
        (_at("_unbroadcast", "gradient.sum(", "gradient.mean("),),
        (gradients.pair("normal_log_prob, one sigma"),),
        gradients.pair("normal_log_prob, one sigma"),
    ),
    Mutant(
        "½ log 2π without the ½ that comes from E ε²",
        (_at("normal_entropy", "(1 + LOG_2PI + logvar)", "(LOG_2PI + logvar)"),),
        (exact.entropy_is_minus_the_mean_log_density,),
    ),
    Mutant(
        "the KL charges for logvar twice, backward pass and all",
        (
            _at("normal_kl_forward", "(np.expm1(logvar) - logvar)", "(np.expm1(logvar) - 2 * logvar)"),
            _at("normal_kl_backward", "(0.5 * np.expm1(logvar))", "(0.5 * np.expm1(logvar) - 0.5)"),
        ),
        (FORMS["kl_by_quadrature"],),
        gradients.pair("normal_kl"),
    ),
    Mutant(
        "Lᵀε for Lε, backward pass and all",
        (
            _at(
                "full_normal_sample_forward", "(chol @ eps[..., None])", "(np.swapaxes(chol, -1, -2) @ eps[..., None])"
            ),
            _at(
                "full_normal_sample_backward",
                "dz[..., :, None] * eps[..., None, :]",
                "eps[..., :, None] * dz[..., None, :]",
            ),
        ),
        (statistics.samples_of_a_full_normal_have_its_covariance,),
        FULL_SAMPLE,
    ),
    Mutant(
        "log |Σ| for log |L| in the full KL, backward pass and all",
        (
            _at("full_normal_kl_forward", "- log_det, (mu, chol)", "- 2 * log_det, (mu, chol)"),
            _at("full_normal_kl_backward", "_diagonal_matrix(1 /", "_diagonal_matrix(2 /"),
        ),
        (FORMS["full_kl_of_a_rotation"],),
        FULL_KL,
    ),
    Mutant(
        "a gradient above the diagonal of L",
        (_at("full_normal_log_prob_backward", "np.tril(score[", "(score["),),
        (FULL,),
        FULL,
    ),
    Mutant(
        "log 2π once for K dimensions",
        (_at("full_normal_log_prob_forward", "z.shape[-1] * LOG_2PI", "LOG_2PI"),),
        (exact.log_density_of_a_full_normal_is_the_diagonal_one,),
        FULL,
    ),
    Mutant(
        "the sign of log |L| in the full normal's entropy",
        (_at("full_normal_entropy", "+ np.log(_diagonal(chol))", "- np.log(_diagonal(chol))"),),
        (exact.entropy_is_minus_the_mean_log_density,),
    ),
    Mutant(
        "the largest logit not subtracted, which overflows",
        (_at("log_softmax", "logits - logits.real.max(axis=-1, keepdims=True)", "logits"),),
        (exact.classes_have_probabilities_at_any_logits,),
        CATEGORICAL,
    ),
    Mutant(
        "one-hot − log p for one-hot − p",
        (_at("categorical_log_prob_backward", "(one_hot - np.exp(log_p))", "(one_hot - log_p)"),),
        (CATEGORICAL,),
        CATEGORICAL,
    ),
    Mutant(
        "the class after the one that was drawn",
        (_at("categorical_sample", "cumulative[:, :-1]", "cumulative - np.exp(log_softmax(logits))"),),
        (statistics.samples_have_the_probabilities_of_their_logits,),
    ),
    Mutant(
        "an entropy in bits",
        (_at("categorical_entropy", "(np.exp(log_p) * log_p)", "(np.exp(log_p) * log_p / np.log(2))"),),
        (exact.entropy_is_minus_the_mean_log_density,),
    ),
    Mutant(
        "KL between categoricals taken under the other one",
        (_at("categorical_kl", "(np.exp(log_p) * (", "(np.exp(log_softmax(other)) * ("),),
        (exact.kl_is_the_enumerated_one,),
    ),
)
