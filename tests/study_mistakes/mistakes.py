"""The mistakes, from the definition of the model to the autoencoder beside the VAE."""

from __future__ import annotations

from mutants.plant import Edit

from .mistakes_priors import PRIORS
from .planting import Mistake, edit

# What moves every level by a constant. The rows that a claim of levels must lose are the point of these two.
EVIDENCE = Mistake(
    "every quadrature's log p(x) 5 nats too high",
    (
        Edit(
            "exact.quadrature:_fixed",
            "return GridPosterior(z, np.exp(terms - log_prob[:, None]), log_prob,",
            "return GridPosterior(z, np.exp(terms - log_prob[:, None]), log_prob + 5,",
        ),
        Edit(
            "exact.quadrature:_adaptive",
            "return GridPosterior(index * spacing, weights, log_prob,",
            "return GridPosterior(index * spacing, weights, log_prob + 5,",
        ),
    ),
    tuple(range(1, 32)),
)
LIKELIHOOD = Mistake(
    "the decoder's log p(x|z) 2 nats too high, for one pair and in the matrix",
    (
        Edit(
            "model:loglik_forward",
            "return ops.bernoulli_loglik_forward(x, out)",
            "return (lambda value, cache: (value + 2, cache))(*ops.bernoulli_loglik_forward(x, out))",
        ),
        Edit(
            "model:loglik_forward",
            "return ops.normal_loglik_forward(x, out, logvar)",
            "return (lambda value, cache: (value + 2, cache))(*ops.normal_loglik_forward(x, out, logvar))",
        ),
        Edit("exact.latent_model:LatentModel.loglik_matrix", "return result", "return result + 2"),
    ),
    tuple(range(1, 32)),
)

_MODEL = (
    Mistake(
        "softplus without its log1p: log p(x|z) of a pixel as if it were certain",
        edit(
            "exact.latent_model:softplus_sum",
            "total += np.log(factors[:, start : start + _FACTORS].prod(axis=1))",
            "pass",
        ),
        (1, 3, 4, 5, 6, 8, 10),
    ),
    Mistake(
        "softplus left out of log p(x|z) for one pair",
        edit("distributions:bernoulli_log_prob_forward", "(missed + np.log1p(np.exp(-magnitude)))", "missed"),
        (3, 6, 16, 26, 27),
    ),
    Mistake(
        "the decoder does not see z",
        edit("model:decode_forward", "layers.mlp_forward(ops, z, ", "layers.mlp_forward(ops, 0 * z, "),
        (4, 5, 6, 8, 9, 10, 12, 19, 29),
    ),
    Mistake(
        "one uniform for all pixels of a draw",
        edit("distributions:bernoulli_sample", "u < sigmoid(logits)", "u[:, :1] < sigmoid(logits)"),
        (5, 8),
    ),
    Mistake(
        "softplus(l) for the probability",
        edit("distributions:bernoulli_sample", "u < sigmoid(logits)", "u < np.logaddexp(0, logits)"),
        (5, 8),
    ),
    Mistake(
        "the sigmoid twice as steep",
        edit("layers:sigmoid", "def sigmoid(a: Array) -> Array:", "def sigmoid(a: Array) -> Array:\n    a = 2 * a"),
        (5,),
    ),
    Mistake(
        "log 2π left out of the normal density of a pair",
        edit("distributions:normal_log_prob_forward", "LOG_2PI + logvar", "logvar"),
        (7,),
    ),
    Mistake(
        "σ for σ² in the matrix of normal densities",
        edit("exact.decoder:Decoder._normal_block", "np.exp(-0.5 * logvar)", "np.exp(-0.25 * logvar)"),
        (6, 7),
    ),
    Mistake(
        "a learned σ without the ½ of its variance: gradient of the square without the count",
        edit(
            "exact.decoder:Decoder.weighted_gradient", "squares * precision - mass", "squares * precision - 0.5 * mass"
        ),
        (1, 7),
        fresh=True,
    ),
    Mistake(
        "weights left out of what the decoder expects",
        edit("exact.decoder:Decoder.weighted_gradient", "mean_x - mass * sigmoid(out)", "mean_x - sigmoid(out)"),
        (1, 3),
    ),
    Mistake(
        "down the gradient of log p(x) in place of up",
        edit("study.models:fit_exactly", "-gradient.flat", "gradient.flat"),
        (1,),
    ),
    Mistake(
        "the gradient of the last block of rows in place of the sum",
        edit("exact.quadrature:log_likelihood_gradient", "total.flat[...] +=", "total.flat[...] ="),
        (2,),
    ),
    Mistake(
        "the 1/B left out of the loss's gradient",
        (
            Edit("elbo:posterior_elbo_backward", "-1 / rows", "-1.0"),
            Edit("elbo:posterior_elbo_backward", "beta / batch)", "beta)"),
        ),
        (2, 27),
    ),
    Mistake(
        "one seen example of every state added to the table",
        edit("exact.enumeration:empirical", "np.log(counts / len(x))", "np.log((counts + 1) / (len(x) + len(counts)))"),
        (3,),
    ),
    Mistake(
        "a softmax that does not sum to one",
        edit(
            "distributions:log_softmax",
            "np.exp(shifted).sum(axis=-1, keepdims=True)",
            "0.99 * np.exp(shifted).sum(axis=-1, keepdims=True)",
        ),
        (3,),
    ),
    Mistake(
        "a table that is half as sure",
        edit("distributions:log_softmax", "shifted = logits -", "shifted = 0.5 * logits - 0.5 *"),
        (3,),
    ),
    Mistake(
        "log₂ for log in the table's score",
        edit("exact.enumeration:categorical_nll", "np.log(share)", "np.log2(share)"),
        (3,),
    ),
    Mistake(
        "independent pixels scored by their entropies' logarithms alone",
        edit("exact.enumeration:independent_bernoulli_nll", "+ (1 - inside) * np.log1p(-inside)", ""),
        (6,),
    ),
)

_QUADRATURE = (
    Mistake(
        "a spacing of the trapezoid rule that is one node short",
        edit("exact.quadrature:trapezoid_grid", "2 * EDGE / (nodes - 1)", "2 * EDGE / nodes"),
        (4, 5, 9, 16, 19),
    ),
    Mistake(
        "the physicists' Hermite polynomials for the probabilists'",
        edit(
            "exact.quadrature:gauss_hermite_rule",
            "np.polynomial.hermite_e.hermegauss",
            "np.polynomial.hermite.hermgauss",
        ),
        (4, 16, 23),
    ),
    Mistake(
        "Gauss-Hermite's weights without their sum",
        edit("exact.quadrature:gauss_hermite_rule", "weight / weight.sum()", "weight"),
        (4,),
    ),
    Mistake(
        "the lattice's spacing counted once in two dimensions",
        edit(
            "exact.quadrature:_adaptive",
            "log_prob = log_prob, _log_sum_exp(values) + latent * math.log(spacing)",
            "log_prob = log_prob, _log_sum_exp(values) + math.log(spacing)",
        ),
        (4, 23),
    ),
    Mistake(
        "posterior weights that are squared",
        edit("exact.quadrature:_fixed", "np.exp(terms - log_prob[:, None])", "np.exp(2 * (terms - log_prob[:, None]))"),
        (1, 12, 19),
    ),
)

_PRIOR = (
    Mistake(
        "the mean of the logarithms for the logarithm of the mean",
        edit("ops:log_mean_exp_weights", "top + np.log(total / len(log_w))", "log_w.mean(axis=0)"),
        (9, 30),
    ),
    Mistake(
        "the largest weight for their mean",
        edit("ops:log_mean_exp_weights", "top + np.log(total / len(log_w))", "top"),
        (9, 30),
    ),
    Mistake(
        "every x decoded for its own pixels only: the rest of the image dropped from log p(x|z)",
        edit(
            "exact.latent_model:bernoulli_matrix",
            "x @ logits.T - softplus_sum(logits)",
            "x[:, :4] @ logits[:, :4].T - softplus_sum(logits[:, :4])",
        ),
        (9,),
    ),
    Mistake(
        "the prior left out of the posterior's precision",
        edit("exact.linear_gaussian:LinearGaussian.precision", "np.eye(self.latent) + self.pull", "self.pull"),
        (9, 10, 11, 12, 13, 14),
    ),
    Mistake(
        "log 2π left out of a normal of several dimensions",
        edit("exact.linear_gaussian:_gaussian_log_prob", "+ len(chol) * LOG_2PI", ""),
        (10, 13),
    ),
)

_INFERENCE = (
    Mistake(
        "the KL to the prior left out of the bound, value and gradient",
        (
            Edit("exact.inference:ELBO._chunk", "reshape(len(eps), -1) - kl", "reshape(len(eps), -1)"),
            Edit(
                "exact.inference:ELBO._chunk",
                "full_normal_kl_backward(-weights, kl_cache)",
                "full_normal_kl_backward(0 * weights, kl_cache)",
            ),
        ),
        (11, 12, 13, 14, 15, 16, 18, 19, 20, 23, 24),
    ),
    Mistake(
        "half of the KL in the bound, value and gradient",
        (
            Edit("exact.inference:ELBO._chunk", "reshape(len(eps), -1) - kl", "reshape(len(eps), -1) - 0.5 * kl"),
            Edit(
                "exact.inference:ELBO._chunk",
                "full_normal_kl_backward(-weights, kl_cache)",
                "full_normal_kl_backward(-0.5 * weights, kl_cache)",
            ),
        ),
        (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22),
    ),
    Mistake(
        "the KL twice in the bound, value and gradient",
        (
            Edit("exact.inference:ELBO._chunk", "reshape(len(eps), -1) - kl", "reshape(len(eps), -1) - 2 * kl"),
            Edit(
                "exact.inference:ELBO._chunk",
                "full_normal_kl_backward(-weights, kl_cache)",
                "full_normal_kl_backward(-2 * weights, kl_cache)",
            ),
        ),
        (12, 17, 18, 20),
    ),
    Mistake(
        "the spread of z left out of the sample's path: dL without ε",
        edit(
            "distributions:full_normal_sample_backward",
            "np.tril(dz[..., :, None] * eps[..., None, :])",
            "0 * np.tril(dz[..., :, None] * eps[..., None, :])",
        ),
        (11, 12, 13, 14, 15, 20, 21),
    ),
    Mistake(
        "noise scaled by the variance",
        edit("distributions:full_normal_sample_forward", "(chol @ eps[..., None])", "(chol @ chol @ eps[..., None])"),
        (11, 12, 16, 19, 21),
    ),
    Mistake(
        "D(p‖q)'s gradient in the log-variance without its ½",
        edit(
            "distributions:normal_log_prob_backward",
            "0.5 * upstream * (residual * scaled - 1)",
            "0.5 * upstream * (residual * scaled - 2)",
        ),
        (12,),
    ),
    Mistake(
        "the posterior's moments without the square of the mean taken off",
        edit(
            "exact.quadrature:GridPosterior.covariance",
            "self.nodes - self.mean()[:, None]",
            "self.nodes - 0 * self.mean()[:, None]",
        ),
        (12,),
    ),
    Mistake(
        "the prior as the only start",
        edit(
            "exact.inference:spread_starts",
            "return [family.prior(count), *(family.diagonal(np.tile(place, (count, 1)), narrow) for place in places)]",
            "return [family.prior(count)]",
        ),
        (12,),
    ),
    Mistake(
        "the lowest bound of several starts kept",
        edit("exact.inference:maximise_best", "other.elbo > best.elbo", "other.elbo < best.elbo"),
        (12, 23),
    ),
    Mistake(
        "a solver that takes no step",
        edit("exact.inference:maximise", "range(iterations)", "range(0)"),
        (11, 13, 14, 17, 23, 24, 25),
    ),
    Mistake(
        "the entropy's log-determinant left out of the closed-form bound",
        edit("exact.inference:ClosedFormELBO.value_and_gradient", "+ full_normal_entropy(chol)", ""),
        (13,),
    ),
    Mistake(
        "a precision of the larger model's posterior without its cross terms",
        edit(
            "exact.linear_gaussian:LinearGaussian.elbo_gradient_full",
            "np.tril(self.precision @ chol)",
            "np.tril(np.diag(np.diag(self.precision)) @ chol)",
        ),
        (13,),
    ),
    Mistake(
        "a full covariance's off-diagonal left out",
        edit("exact.inference:Family.unpack", 'if self.kind == "full":', "if False:"),
        (13, 14, 17, 20, 22),
    ),
    Mistake(
        "the curved decoder's bound by three nodes",
        edit(
            "exact.quadrature:gauss_hermite_rule", "axis, weight = np", "nodes = min(nodes, 3)\n    axis, weight = np"
        ),
        (14, 20, 22, 23, 24),
    ),
    Mistake(
        "the divergence to the posterior with log p(x) added in place of subtracted",
        edit("exact.inference:kl_to_posterior", "[0] - log_prob[i]", "[0] + log_prob[i]"),
        (16, 24),
    ),
    Mistake(
        "the cell of the divergence's lattice without q's own scale",
        edit(
            "exact.inference:kl_to_posterior",
            "spacing**decoder.latent * np.diag(chol[i]).prod()",
            "spacing**decoder.latent",
        ),
        (16, 24),
    ),
)

_JOINT = (
    Mistake(
        "λ solved for once, and not again at a new θ",
        edit(
            "exact.nested_and_joint:nested_ascent",
            "solution = maximise(here, lam, tolerance=inner_tolerance)",
            "solution = maximise(here, lam, tolerance=inner_tolerance, iterations=0)",
        ),
        (17, 20),
    ),
    Mistake(
        "the joint plan re-solves every λ as well",
        edit(
            "exact.nested_and_joint:joint_ascent",
            "here = replace(bound, decoder=decoder.moved(theta))",
            "here = replace(bound, decoder=decoder.moved(theta))\n        maximise(here, lam, iterations=1)",
        ),
        (20,),
    ),
    Mistake(
        "∂L/∂θ without the prior's share: half of it",
        edit(
            "exact.inference:ELBO.parameter_gradient",
            "total.flat[...] += scratch.flat",
            "total.flat[...] += 0.5 * scratch.flat",
        ),
        (17, 20),
    ),
    Mistake(
        "EM with the posterior's mean alone",
        edit("exact.linear_gaussian:em_step", "mean.T @ mean / len(x) + covariance", "mean.T @ mean / len(x)"),
        (17,),
    ),
    Mistake(
        "EM's noise with the explained part added",
        edit("exact.linear_gaussian:em_step", "- (weight * cross).sum(axis=1)", "- 0.5 * (weight * cross).sum(axis=1)"),
        (17,),
    ),
    Mistake(
        "the discarded eigenvalues' sum for their mean",
        edit("exact.linear_gaussian:ppca_log_likelihood", "values[latent:].mean()", "values[latent:].sum()"),
        (17, 20, 22),
    ),
    Mistake(
        "log q*(z) left out of the single-z objective",
        edit(
            "exact.candidate_objectives:single_point",
            "return log_joint - full_normal_log_prob_forward(z, mu, chol)[0]",
            "return log_joint",
        ),
        (18, 19),
    ),
    Mistake(
        "log q*(z) with its sign turned",
        edit("exact.candidate_objectives:single_point", "return log_joint - full", "return log_joint + full"),
        (18, 19),
    ),
    Mistake(
        "the prior left out of the single-z objective",
        edit("exact.candidate_objectives:single_point", "+ standard_normal_log_prob(z)", ""),
        (18, 19),
    ),
    Mistake(
        "the divergence of two normals without its mean",
        edit("distributions:full_normal_kl_forward", "(mu * mu).sum(axis=-1)", "0 * (mu * mu).sum(axis=-1)"),
        (19, 26, 28),
    ),
)

_NOISE = (
    Mistake(
        "a fresh ε in the backward pass",
        edit("exact.candidate_objectives:pathwise_gradient", "0.5 * df * sigma * eps", "0.5 * df * sigma * eps[::-1]"),
        (21,),
    ),
    Mistake(
        "the score function's gradient with σ for 1/σ",
        edit(
            "exact.candidate_objectives:score_function_gradient",
            "centred * eps / sigma, 0.5",
            "centred * eps * sigma, 0.5",
        ),
        (21,),
    ),
    Mistake(
        "a score function's draw with another's ε",
        edit(
            "exact.candidate_objectives:score_function_gradient",
            "centred * eps / sigma, 0.5",
            "centred * eps[::-1] / sigma, 0.5",
        ),
        (21,),
    ),
    Mistake(
        "a path whose slope forgets the spread",
        edit("exact.candidate_objectives:pathwise_gradient", "return df, 0.5", "return 2 * df, 0.5"),
        (21,),
    ),
    Mistake(
        "the score function's (ε² − 1) without its 1",
        edit("exact.candidate_objectives:score_function_gradient", "(eps * eps - 1)", "(eps * eps)"),
        (21,),
    ),
    Mistake(
        "a baseline that is added",
        edit("exact.candidate_objectives:score_function_gradient", "(f - baseline)", "(f + baseline)"),
        (21,),
    ),
    Mistake(
        "the variances of theory with 15 s² for every baseline",
        edit(
            "exact.candidate_objectives:quadratic_variances",
            "8 * m2 + 10 * s2, 8 * m2 + 6 * s2",
            "8 * m2 + 15 * s2, 8 * m2 + 15 * s2",
        ),
        (21,),
    ),
)

_AMORTISATION = (
    Mistake(
        "the encoder's λ kept and q*'s bound taken for it",
        edit("exact.amortisation:split_gap", "amortisation = best - of_encoder", "amortisation = of_encoder - best"),
        (24,),
    ),
    Mistake(
        "λ* taken for the encoder's, and the other way round",
        edit(
            "exact.amortisation:split_gap",
            "return Gap(found.log_prob, found.error, approximation, amortisation, total, converged, solution)",
            "from dataclasses import replace\n    prior = replace(solution, lam=family.prior(len(x)))\n"
            "    return Gap(found.log_prob, found.error, approximation, amortisation, total, converged, prior)",
        ),
        (23,),
    ),
    Mistake(
        "θ moves up its loss",
        edit("step:apply_gradients", "state.gradients.flat", "-state.gradients.flat"),
        (22, 27),
    ),
    Mistake(
        "Adam on λ that looks at two draws a step",
        edit("training.per_datapoint:infer", "range(steps)", "range(2 * steps)"),
        (25,),
    ),
    Mistake(
        "steps on λ that go down the bound",
        edit("refinement:refine_forward", "mu - rate * np.exp(logvar) * dmu, logvar -",
             "mu + rate * np.exp(logvar) * dmu, logvar +"),
        (24,),
    ),
    Mistake(
        "steps on λ that are thrown away",
        edit("refinement:refine_forward", "return (mu, logvar), visits", "return q, visits"),
        (24,),
    ),
    Mistake(
        "an encoder that passes twice",
        edit(
            "model:encode_forward",
            "h, hidden_cache = layers",
            'layers.mlp_forward(ops, x, _hidden(arch, parameters, "encoder"), arch.activation)\n'
            "    h, hidden_cache = layers",
        ),
        (25,),
    ),
)

_FAMILIES = (
    Mistake(
        "a planar step whose log-determinant has the other sign",
        edit("posteriors.planar:Planar.draw_forward", "log_det + np.log1p", "log_det - np.log1p"),
        (32,),
    ),
    Mistake(
        "an autoregressive step without its log-determinant",
        edit(
            "posteriors.autoregressive:Autoregressive.draw_forward",
            "log_det + log_scale.sum",
            "log_det + 0 * log_scale.sum",
        ),
        (32,),
    ),
    Mistake(
        "a full covariance whose part below the diagonal is not used",
        edit(
            "posteriors.full:Full.draw_forward",
            "self.strictly_lower(below), noise",
            "0 * self.strictly_lower(below), noise",
        ),
        (32,),
    ),
    Mistake(
        "planar steps that do not move z",
        edit(
            "posteriors.planar:Planar.draw_forward",
            "at + t[..., None] * step.direction",
            "at + 0 * t[..., None] * step.direction",
        ),
        (32,),
    ),
    Mistake(
        "autoregressive steps that do not move z",
        edit("posteriors.autoregressive:Autoregressive.draw_forward", "z = scale * z + shift", "z = z + 0 * shift"),
        (32,),
    ),
    Mistake(
        "the divergence of a family without the determinant",
        edit("exact.families:Member.draw_by_complex_steps", "log_normal - log_det", "log_normal"),
        (32,),
    ),
    Mistake(
        "the divergence of a family from p(x, z)",
        edit("exact.families:divergence", "[0] - log_prob", "[0]"),
        (32,),
    ),
)

_OBJECTIVE = (
    Mistake(
        "noise scaled by exp(logvar)",
        edit("distributions:normal_sample", "np.exp(0.5 * logvar)", "np.exp(logvar)"),
        (18, 26, 27, 30),
    ),
    Mistake(
        "the sampled KL without log p(z)",
        edit(
            "elbo:sampled_kl",
            "posterior_log_prob(logvar, eps) - log_prior",
            "posterior_log_prob(logvar, eps)",
        ),
        (26,),
    ),
    Mistake(
        "log q(z|x) in ε without its log-variance",
        edit("elbo:posterior_log_prob", "stacked * stacked + logvar + LOG_2PI", "stacked * stacked + LOG_2PI"),
        (26, 30),
    ),
    Mistake(
        "the KL averaged over latents",
        edit("distributions:normal_kl_forward", ".sum(axis=-1), (mu, logvar)", ".mean(axis=-1), (mu, logvar)"),
        (26, 27, 28),
    ),
    Mistake(
        "the log-variance's sign turned in the KL",
        edit("distributions:normal_kl_forward", "np.expm1(logvar) - logvar", "np.expm1(logvar) + logvar"),
        (26, 27, 28),
    ),
    Mistake(
        "the loss with the ELBO's sign",
        edit("elbo:Terms.loss", "return -(self", "return (self"),
        (27,),
    ),
    Mistake(
        "down the ELBO: the gradient's sign",
        (
            Edit("elbo:posterior_elbo_backward", "-1 / rows", "1 / rows"),
            Edit("elbo:posterior_elbo_backward", "np.full_like(kl, beta / batch)", "np.full_like(kl, -beta / batch)"),
        ),
        (27,),
    ),
    Mistake(
        "a weight without q: p(x, z) alone",
        edit("evaluation.importance:log_weights", "- posterior_log_prob(logvar, lower)", ""),
        (30,),
    ),
    Mistake(
        "effective draws by the largest weight",
        edit(
            "evaluation.importance:estimate_from_log_weights",
            "1 / sum_squares, pareto",
            "1 / weights.max(axis=0), pareto",
        ),
        (30,),
    ),
    Mistake(
        "every proposal drawn from the prior",
        edit(
            "evaluation.importance:log_weights",
            "(z, _, log_det), _ = model.arch.family.draw_forward(",
            "mu, logvar = 0 * mu, 0 * logvar\n    (z, _, log_det), _ = model.arch.family.draw_forward(",
        ),
        (30,),
    ),
)

_PERSPECTIVES = (
    Mistake(
        "samples that start from the encoder's mean",
        edit(
            "vae.inference:Inference.sample",
            "out, _ = model.decode_forward(*self.model, z,",
            'z = z + self.parameters.get("encoder.mu.bias", 0)\n    out, _ = model.decode_forward(*self.model, z,',
        ),
        (29,),
    ),
    Mistake(
        "an encoder's weights read into the decoder",
        edit(
            "exact.decoder:Decoder.of",
            "own.assign(parameters)",
            'own.assign(parameters)\n    own["decoder.out.bias"][...] += 0.01 * ("encoder.mu.bias" not in parameters)',
        ),
        (29,),
    ),
    Mistake(
        "the decoder not frozen while its new encoder is trained",
        edit("exact.amortisation:refit_encoder", "gradient[...] = 0", "pass"),
        (29,),
    ),
    Mistake(
        "the old encoder's weights where fresh ones are due",
        edit(
            "exact.amortisation:refit_encoder",
            'if not name.startswith("encoder."):\n            view',
            "if True:\n            view",
        ),
        (29,),
    ),
    Mistake(
        "a new encoder that is trained on the KL alone",
        edit(
            "exact.amortisation:refit_encoder",
            "elbo_backward(ops, arch, cache, state.gradients)",
            "elbo_backward(ops, arch, cache, state.gradients, beta=1e3)",
        ),
        (29,),
    ),
    Mistake(
        "the models of rings exchanged",
        edit(
            "study.chapter12_perspectives:_rings",
            "vae, autoencoder, x = trained.rings_pair(seed)",
            "autoencoder, vae, x = trained.rings_pair(seed)",
        ),
        (31,),
        fresh=True,
    ),
    Mistake(
        "the autoencoder trained as the VAE is",
        edit("study.trained:fit", "for step in range(steps):", "plain = False\n    for step in range(steps):"),
        (31,),
        fresh=True,
    ),
)

_TWO_LAYERS = (
    Mistake(
        "log q(z₂|z₁) left out of the weight of two layers",
        edit(
            "two_layers.upper:UpperLayer.log_prior_forward",
            "0.5 * (eps * eps + logvar - top * top)",
            "0.5 * (-top * top)",
        ),
        (33,),
    ),
    Mistake(
        "the gap of z₂ taken at the mean of q(z₁|x)",
        edit("exact.layered_gaussian:LayeredGaussian.gap", "+ 0.5 * spread", ""),
        (33,),
    ),
    Mistake(
        "p(z₁|x) with the prior that z₁ has in one layer",
        edit("exact.layered_gaussian:LayeredGaussian.lower_posterior", "self.prior.covariance()", "np.eye(2)"),
        (33,),
    ),
    Mistake(
        "z₁ drawn with exp(logvar) as its deviation",
        edit("two_layers.upper:UpperLayer.draw_forward", "np.exp(0.5 * logvar) * lower", "np.exp(logvar) * lower"),
        (33,),
    ),
    Mistake(
        "the KL of two normals without its − K",
        edit("exact.layered_gaussian:_kl", "@ variances - len(variances)", "@ variances"),
        (33,),
    ),
)

_MISSING = (
    Mistake(
        "missing cells counted as zeros",
        edit(
            "likelihoods.observation:Observation.log_prob_forward",
            "np.where(absent, 0, log_prob)",
            "log_prob",
        ),
        (34,),
    ),
    Mistake(
        "holes filled in with equal weights",
        edit(
            "evaluation.imputation:_impute",
            "_, weights = ops.log_mean_exp_weights(log_w)",
            "weights = np.full_like(log_w, 1 / samples)",
        ),
        (34,),
    ),
    Mistake(
        "the spread of what fills a hole without Var[x|z]",
        edit("likelihoods.family:Family.features", "self.variance(out, tensors) + mean * mean", "mean * mean"),
        (34,),
    ),
    Mistake(
        "a gradient from cells that are missing",
        edit(
            "likelihoods.observation:Observation.log_prob_backward",
            "dout if absent is None else np.where(absent[..., None], 0, dout)",
            "group.family.log_prob_backward(upstream, of_family)[0]",
        ),
        (34,),
    ),
    Mistake(
        "log weights in which the prior is forgotten",
        edit("evaluation.importance:log_weights", "loglik + log_prior", "loglik"),
        (34,),
    ),
)

MISTAKES = (
    EVIDENCE,
    LIKELIHOOD,
    *_MODEL,
    *_QUADRATURE,
    *_PRIOR,
    *_INFERENCE,
    *_JOINT,
    *_NOISE,
    *_AMORTISATION,
    *_FAMILIES,
    *_OBJECTIVE,
    *_PERSPECTIVES,
    *_TWO_LAYERS,
    *_MISSING,
    *PRIORS,
)
