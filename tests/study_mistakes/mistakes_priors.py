"""The mistakes that turn the rows of claim 35: learned priors and conditions."""

from __future__ import annotations

from .planting import Mistake, edit

CLAIM = 35

PRIORS = (
    Mistake(
        "log 2π left out of a mixture's components",
        edit("priors.components:log_prob_forward", "logvars + LOG_2PI", "logvars"),
        (CLAIM,),
    ),
    Mistake(
        "a mean over a mixture's components",
        edit("priors.components:log_prob_forward", " + np.log(len(means))", ""),
        (CLAIM,),
    ),
    Mistake(
        "a mixture's weights that don't add up to one",
        edit(
            "priors.mixture:Mixture.components_forward",
            'log_softmax(parameters["prior.logits"])',
            'parameters["prior.logits"]',
        ),
        (CLAIM,),
    ),
    Mistake(
        "a VampPrior of normals with variance one",
        edit(
            "priors.vamp:Vamp.components_forward",
            "Components(log_weights, means, logvars)",
            "Components(log_weights, means, 0 * logvars)",
        ),
        (CLAIM,),
    ),
    Mistake(
        "a VampPrior of wide normals around 0",
        edit(
            "priors.vamp:Vamp.components_forward",
            "Components(log_weights, means, logvars)",
            "Components(log_weights, 0 * means, 0 * logvars + 3)",
        ),
        (CLAIM,),
    ),
    Mistake(
        "weights of importance sampling with N(0, I) in place of the mixture",
        edit(
            "evaluation.importance:log_weights",
            "log_prior, _ = prior_forward(*model, z, upper)",
            "log_prior = -0.5 * (z * z + np.log(2 * np.pi)).sum(axis=1)",
        ),
        (CLAIM,),
    ),
    Mistake(
        "a decoder that doesn't see the condition",
        edit("model:decode_forward", "np.tile(given, ", "np.tile(0 * given, "),
        (CLAIM,),
    ),
    Mistake(
        "a KL ten times too large in training, mixture or not",
        edit("elbo:elbo_backward", "beta=beta)", "beta=10 * beta)"),
        (CLAIM,),
    ),
    Mistake(
        "a mixture's means that climb the wrong way",
        edit(
            "priors.mixture:Mixture.components_backward",
            '["prior.means"][...] = of.means',
            '["prior.means"][...] = -of.means',
        ),
        (CLAIM,),
    ),
)
