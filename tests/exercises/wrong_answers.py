"""Five wrong answers to each exercise, as students give them, and what each has to be told.

An answer is a change to the solution's text. `cause` is a part of what the grade has to say; it is empty where nothing
is asked for but that the answer fails. At least two of each five are not among the exercise's known mistakes, so that
the list that is graded by is not the list that it is tested with.
"""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    """A change to a solution, and a part of the cause that has to be named."""

    old: str
    new: str
    cause: str


TABLE: dict[str, tuple[Wrong, ...]] = {
    "D3": (
        Wrong("step * (w", "step / 2 * (w", "ln 2"),
        Wrong("log_joint = log_prior + loglik", "log_joint = loglik - log_prior", ""),
        Wrong("0.5 * (w[:, 0] + w[:, -1])", "(w[:, 0] + w[:, -1])", "they count half"),
        Wrong("log_joint = log_prior + loglik", "log_joint = 0 * log_prior + loglik", "the prior is missing"),
        Wrong(" - 0.5 * (w[:, 0] + w[:, -1])", "", "half the weight"),
    ),
    "D4": (
        Wrong("x - pi", "2 * (x - pi)", "2 times"),
        Wrong(".sum(axis=1)", ".sum()", "examples"),
        Wrong("np.maximum(logits, 0) + np.log1p(np.exp(-size))", "np.log(1 + np.exp(logits))", "at logits of ±10⁴"),
        Wrong("x - pi", "pi - x", "derivative of the loss"),
        Wrong(".sum(axis=1)", ".mean(axis=1)", "averaged"),
    ),
    "D5": (
        Wrong("loglik = -0.5 *", "loglik = 0.5 *", "sign"),
        Wrong("dlogvar = 0.5 * (", "dlogvar = (", "2 times"),
        Wrong("dmean = scaled", "dmean = residual", "exp(logvar)"),
        Wrong("logvar + np.log(2 * np.pi)).sum", "logvar).sum", "½ log 2π of each feature is missing"),
        Wrong("np.exp(-logvar)", "np.exp(-0.5 * logvar)", "divides by σ"),
    ),
    "D7": (
        Wrong("dlogits = -np.exp(log_p)", "dlogits = -log_p", ""),
        Wrong("return log_p[rows, labels], dlogits", "return -log_p[rows, labels], dlogits", "sign"),
        Wrong("logits - logits.max(axis=1, keepdims=True)", "logits", "at logits of ±10⁴"),
        Wrong("np.exp(shifted).sum(axis=1, keepdims=True)", "np.exp(shifted).sum()", "each row add up to one"),
        Wrong("return log_p[rows, labels]", "return np.exp(log_p[rows, labels])", "exponential"),
    ),
    "D10": (
        Wrong("gradient = (posterior", "gradient = -(posterior", "sign"),
        Wrong("return posterior, gradient", "return w, gradient", "a factor that is the same for all of the nodes"),
        Wrong(
            "(posterior[:, :, None] * slopes).sum(axis=1)",
            "(w[:, :, None] * slopes).sum(axis=1)",
            "the same for all of the parameters: a wrong norm",
        ),
        Wrong("w / w.sum(axis=1, keepdims=True)", "w / w.sum()", "each example has a posterior"),
        Wrong("(posterior[:, :, None] * slopes).sum(axis=1)", "slopes.mean(axis=1)", "averaged evenly"),
    ),
    "D11": (
        Wrong("1 / np.diag(precision)", "np.diag(precision)", "one over"),
        Wrong("gap = 0.5 * (", "gap = (", "2 times"),
        Wrong(
            "np.log(np.diag(precision)).sum() - np",
            "np.linalg.slogdet(precision)[1] - np.log(np.diag(precision)).sum() + 0 * np",
            "sign",
        ),
        Wrong("1 / np.diag(precision)", "np.diag(np.linalg.inv(precision))", "the other KL"),
        Wrong("np.eye(weight.shape[1]) + ", "", "the prior's share"),
    ),
    "D14": (
        Wrong("return log_q, score", "return log_q, -score", "sign"),
        Wrong(
            "0.5 * z.shape[1] * np.log(2 * np.pi)",
            "0.5 * np.log(2 * np.pi)",
            "½ log 2π for each of the K latents but one",
        ),
        Wrong(" - 0.5 * z.shape[1] * np.log(2 * np.pi)", "", "½ log 2π for each of the K latents"),
        Wrong("chol.transpose(0, 2, 1), y", "chol, y", "takes Lᵀ"),
        Wrong("- np.log(diagonal)", "- 2 * np.log(diagonal)", "enters with ½"),
    ),
    "D16": (
        Wrong("return new_weight", "return new_weight.T", "transposed"),
        Wrong("- (new_weight * cross).sum(axis=1)", "- 2 * (new_weight * cross).sum(axis=1)", ""),
        Wrong("sum(axis=1)).mean()", "sum(axis=1)).mean() / 2", "1/2 times"),
        Wrong(" / len(x) + covariance", " / len(x)", "covariance, which is missing"),
        Wrong("x - x.mean(axis=0)", "x", "data's mean"),
    ),
    "D17": (
        Wrong("dmu = dz", "dmu = dz * sigma", "exp(logvar / 2)"),
        Wrong("z = mu + sigma * eps", "z = mu - sigma * eps", "a term 2 times exp(logvar / 2) eps is missing"),
        Wrong("dlogvar = 0.5 * dz", "dlogvar = -0.5 * dz", "sign"),
        Wrong("np.exp(0.5 * logvar)", "np.exp(logvar)", "σ is exp(logvar / 2)"),
        Wrong("0.5 * dz * sigma * eps", "dz * sigma * eps", "the ½ comes down"),
    ),
    "D17-numba": (
        Wrong("* eps[b, k]", "* eps[b, 0]", "first column"),
        Wrong("kl[b] = 0.5 * total", "kl[b] = 0.5 * total / latent", "mean over the latents"),
        Wrong("total += mu[b, k] * mu[b, k] +", "total +=", "mu²"),
        Wrong("range(latent)", "range(latent - 1)", "the last latent"),
        Wrong("kl[b] = 0.5 * total", "kl[b] = total", "factor ½ is missing"),
    ),
    "D21": (
        Wrong("(loglik + log_p - log_q).mean(axis=0)", "(loglik + log_p - log_q).sum(axis=0)", "S times"),
        Wrong("analytic = loglik.mean(axis=0) - kl", "analytic = loglik.mean(axis=0) - 0.5 * kl", ""),
        Wrong("- 1 - logvar).sum", "- logvar).sum", "½ for each of the K latents"),
        Wrong("loglik + log_p - log_q", "loglik - log_q", "log p(z) is missing"),
        Wrong("loglik.mean(axis=0) - kl", "loglik.mean(axis=0) + kl", "the KL is subtracted"),
    ),
    "D22": (
        Wrong("dmu = mu", "dmu = 0.5 * mu", "1/2 times"),
        Wrong("0.5 * (mu * mu + np", "-0.5 * (mu * mu + np", "sign"),
        Wrong("0.5 * (mu * mu + np", "0.5 * (mu + np", ""),
        Wrong(".sum(axis=1)", ".mean(axis=1)", "summed over the latents"),
        Wrong("dlogvar = 0.5 * np.expm1(logvar)", "dlogvar = 0.5 * np.exp(logvar)", "-½ from the term -logvar"),
    ),
    "D23": (
        Wrong("np.tril(chol) - np.eye", "np.tril(chol) + np.eye", "on the diagonal"),
        Wrong("return value, mu, dchol", "return value, -mu, dchol", "sign"),
        Wrong("return value, mu, dchol", "return value, mu, dchol.transpose(0, 2, 1)", "a transpose"),
        Wrong("(chol * chol).sum(axis=(1, 2))", "(diagonal * diagonal).sum(axis=1)", "those off the diagonal"),
        Wrong("- mu.shape[1])", ")", "-K is missing"),
    ),
    "D24": (
        Wrong("- beta * kl).mean()", "- beta * kl).sum()", "1/B is missing"),
        Wrong("beta * kl).mean()", "beta * kl).mean() / loglik.shape[1]", "mean over the examples"),
        Wrong("reconstruction - beta * kl", "reconstruction - beta**2 * kl", ""),
        Wrong("-(reconstruction", "(reconstruction", "the loss is minus it"),
        Wrong("reconstruction - beta * kl", "beta * (reconstruction - kl)", "weighs the KL alone"),
    ),
    "D25": (
        Wrong("return dx, dweight, dbias", "return dx, -dweight, dbias", "sign"),
        Wrong("dy.sum(axis=0)", "dy", "the sum over the examples (axis 0) is missing"),
        Wrong("x.T @ dy", "dy.T @ x", "transposed"),
        Wrong("dy.sum(axis=0)", "dy.mean(axis=0)", "sum over them"),
        Wrong("dx = dy @ weight.T", "dx = dy @ weight.T / len(dy)", "1/"),
    ),
    "D26": (
        Wrong("dy * (1 - y_tanh * y_tanh)", "1 - y_tanh * y_tanh", "upstream"),
        Wrong("-dy * np.expm1", "dy * np.expm1", "sign"),
        Wrong("np.where(y_relu > 0, dy, 0)", "dy", "where the input is negative"),
        Wrong("1 - y_tanh * y_tanh", "1 - np.tanh(y_tanh) ** 2", "tanh is taken twice"),
        Wrong("np.where(y_relu > 0, dy, 0)", "dy * y_relu", "not y"),
    ),
    "D27": (
        Wrong("dh = dy @ weight2.T", "dh = -dy @ weight2.T", "sign"),
        Wrong("dbias2 = dy.sum(axis=0)", "dbias2 = dy.mean(axis=0)", "batch"),
        Wrong("dweight1 = x.T @ da", "dweight1 = (x.T @ da) / len(x)", "batch"),
        Wrong("da = dh * (1 - h * h)", "da = dh", "factor 1 - h² is missing"),
        Wrong("return da @ weight1.T", "return dh @ weight1.T", "factor 1 - h² is missing"),
    ),
    "D28": (
        Wrong("+= da[n]", "-= da[n]", "sign"),
        Wrong("range(len(x))", "range(1, len(x))", "row 0 (the first) is missing"),
        Wrong("+= da[n]", "+= 2 * da[n]", "2 times"),
        Wrong("x[n] == 1] +=", "x[n] == 1] =", "each one overwrites the last"),
        Wrong("x[n] == 1", "x[n] == 0", "pixels that are off"),
    ),
    "D29": (
        Wrong(
            "dz.sum(axis=0) + beta",
            "dz.mean(axis=0) + beta",
            "dz over the samples enters as a mean over the samples where a sum is due",
        ),
        Wrong("dz.sum(axis=0) + beta", "dz.sum(axis=0) - beta", "mu is missing"),
        Wrong("+ beta / batch * 0.5 *", "+ beta / batch *", "(1/2)/B times beta (exp(logvar) - 1) is too much"),
        Wrong("dz.sum(axis=0) + beta / batch * mu", "dz.sum(axis=0)", "beta/B mu is missing"),
        Wrong("(0.5 * dz * eps", "(dz * eps", "the ½ is missing"),
    ),
    "D30": (
        Wrong("pull.sum(axis=0)", "pull.mean(axis=0)", "1/"),
        Wrong("return dmu, dlogvar", "return -dmu, dlogvar", "sign"),
        Wrong("0.5 * beta / batch", "0.5 * beta", "constant"),
        Wrong("dz + beta / (samples * batch) * z", "dz", "log p(z) acts through z"),
        Wrong(" - 0.5 * beta / batch\n", "\n", "-½ logvar besides the path"),
    ),
    "D31": (
        Wrong("(1 - beta1) * gradient", "gradient", "a term beta1 gradient is too much"),
        Wrong("(1 - beta2) * gradient * gradient", "(1 - beta2) * gradient", ""),
        Wrong(
            "return parameters, first, second",
            "return parameters, corrected_first, second",
            "a number that multiplies it",
        ),
        Wrong("first / (1 - beta1**step)", "first", "first moment's bias correction"),
        Wrong("beta1**step", "beta1 ** (step - 1)", "counts from 1"),
    ),
    "D34": (
        Wrong("return bound, weights", "return -bound, weights", "sign"),
        Wrong("w / w.sum(axis=0)", "w / w.mean(axis=0)", "1/"),
        Wrong("return bound, weights", "return np.exp(bound), weights", "exponential"),
        Wrong("log_w.max(axis=0)", "0", "-1000"),
        Wrong("np.log(w.mean(axis=0))", "np.log(w.sum(axis=0))", "1/S of the mean is missing"),
    ),
    "D34-cuda": (
        Wrong(
            "top = fmax(top, shared[i]);\n    __syncthreads();",
            "top = fmax(top, shared[i]);",
            "__syncthreads() is missing",
        ),
        Wrong("shared[t] = top;\n    __syncthreads();", "shared[t] = top;", "__syncthreads() is missing"),
        Wrong("    if (t > 0) return;\n", "    if (t > 0) return;\n    __syncthreads();\n", "barrier"),
        Wrong("bound[b] = top + log(sum / samples)", "bound[b + 1] = top + log(sum / samples)", "outside of bound"),
        Wrong("sum / samples", "sum", "1/S of the mean is missing"),
    ),
    "D35": (
        Wrong("return 1 / squares, stderr", "return stderr, 1 / squares", "another order"),
        Wrong("/ (samples - 1))", "/ (samples - 1) / samples)", "1/√S of what it should be"),
        Wrong("return 1 / squares, stderr", "return 1 / squares, -stderr", "sign"),
        Wrong("return 1 / squares", "return 1 / squares / samples", "effective share"),
        Wrong(
            "np.sqrt((samples * squares - 1) / (samples - 1))",
            "(samples * squares - 1) / (samples - 1)",
            "root is missing",
        ),
    ),
    "D37": (
        Wrong(
            "(product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1)", "(product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k0)", ""
        ),
        Wrong("stack([c0, c1, c2, c3]", "stack([c3, c2, c1, c0]", "opposite order"),
        Wrong("stack([c0, c1, c2, c3]", "stack([c1, c2, c3, c0]", "off by one along axis 1"),
        Wrong("range(10)", "range(9)", "this makes nine"),
        Wrong(
            "        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32\n", "", "advance from round to round"
        ),
    ),
    "D38": (
        Wrong("+ 0.5) * 2.0**-32", "+ 0.0) * 2.0**-32", "without the ½"),
        Wrong("r = np.sqrt(-2 * np.log(u[:, 0::2]))", "r = np.sqrt(-2 * np.log(u[:, 1::2]))", ""),
        Wrong("return pairs.reshape(words.shape)", "return -pairs.reshape(words.shape)", "sign"),
        Wrong(
            "r * np.cos(angle), r * np.sin(angle)",
            "r * np.sin(angle), r * np.cos(angle)",
            "the first of a pair is the cosine",
        ),
        Wrong("-2 * np.log", "-np.log", "the 2 is missing"),
    ),
    "D42": (
        Wrong("return dmu, dlogvar", "return dmu / len(eps), dlogvar", "1/"),
        Wrong("return dmu, dlogvar", "return dlogvar, dmu", "order"),
        Wrong("(0.5 * dz * eps", "(dz * eps", ""),
        Wrong("log_w - log_w.max(axis=0)", "log_w.min(axis=0) - log_w", "worst sample"),
        Wrong("dloglik - z", "dloglik", "its pull, -z, is missing"),
    ),
    "D43": (
        Wrong("dz = -share", "dz = share", "sign"),
        Wrong("return dmu, dlogvar", "return dmu * log_w.shape[1], dlogvar", "1/B is missing"),
        Wrong("(0.5 * dz * eps", "(dz * eps", "2 times"),
        Wrong("dloglik - z + eps / sigma", "dloglik - z", "log q depends on z, too"),
        Wrong("+ eps / sigma", "- eps / sigma", "log w has -log q"),
    ),
    "D44": (
        Wrong("dz = -share", "dz = share", "sign"),
        Wrong("dmu = dz.sum(axis=0)", "dmu = dz.mean(axis=0)", "1/S"),
        Wrong("weights * weights / log", "np.sqrt(weights) / log", ""),
        Wrong("weights * weights / log", "weights / log", "the weights are squared here"),
        Wrong("dloglik - z + eps / sigma", "dloglik - z", "log q depends on z, too"),
    ),
    "D45": (
        Wrong("dmu = -(signal", "dmu = (signal", "sign"),
        Wrong("/ (samples * batch)", "/ samples", "1/B is missing"),
        Wrong("/ (samples * batch)", "/ batch", "1/S is missing"),
        Wrong("(loglik.sum(axis=0) - loglik) / (samples - 1)", "loglik.mean(axis=0)", "the sample itself in it"),
        Wrong("eps / np.exp(0.5 * logvar)", "eps", "the 1/σ is missing"),
    ),
    "D46": (
        Wrong("log_likelihood(z)\n", "np.exp(log_likelihood(z))\n", ""),
        Wrong("return z, log_w", "return z, -log_w", "sign"),
        Wrong("return z, log_w", "return z, np.exp(log_w)", "exponential"),
        Wrong("transition(z, next_beta)", "transition(z, beta)", "not the old one"),
        Wrong("(next_beta - beta)", "next_beta", "the difference of the temperatures"),
    ),
    "D47": (
        Wrong("return z, r", "return z, -r", "sign"),
        Wrong("return z, r", "return r, z", "another order"),
        Wrong("z = z + h * r", "z = z - h * r", ""),
        Wrong("size = h if index < steps - 1 else 0.5 * h", "size = h", "the last kick is half a step"),
        Wrong("size * (beta * gradient(z) - z)", "size * beta * gradient(z)", "the prior pulls"),
    ),
    "D50": (
        Wrong(
            "(np.diagonal(log_q) - log_mixture).mean()", "(np.diagonal(log_q) - log_mixture).sum()", "1/N is missing"
        ),
        Wrong("return information, kl - information", "return kl - information, information", "another order"),
        Wrong("logvar).sum(axis=1).mean()", "logvar).mean()", ""),
        Wrong("- top[:, None]).mean(axis=1)", "- top[:, None]).sum(axis=1)", "its 1/N is missing"),
        Wrong("return information, kl - information", "return information, kl", "this is the whole mean KL"),
    ),
}
