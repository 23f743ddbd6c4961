"""Answers that are right and are written another way than the solution: a grade that refused them would be wrong."""

RIGHT: dict[str, str] = {
    "D3": """
def log_evidence(log_prior, loglik, step):
    weights = np.full(len(log_prior), step)
    weights[0] = weights[-1] = step / 2
    return np.logaddexp.reduce(log_prior + loglik + np.log(weights), axis=1)
""",
    "D4": """
def bernoulli(x, logits):
    loglik = -np.logaddexp(0, np.where(x == 1, -logits, logits)).sum(axis=-1)
    return [loglik, x - 0.5 * (1 + np.tanh(logits / 2))]
""",
    "D5": """
def normal(x, mean, logvar):
    sigma = np.exp(logvar / 2)
    t = (x - mean) / sigma
    return -np.sum(0.5 * t**2 + np.log(sigma) + 0.5 * np.log(2 * np.pi), axis=1), t / sigma, (t**2 - 1) / 2
""",
    "D11": """
def best_diagonal(d, weight, noise):
    k = weight.shape[1]
    posterior = np.linalg.inv(np.identity(k) + weight.T.dot(weight) / noise)
    precision = np.linalg.inv(posterior)
    variances = np.array([1 / precision[j, j] for j in range(k)])
    gap = 0.5 * (np.log(np.linalg.det(posterior)) - np.log(variances).sum())
    return d.dot(weight).dot(posterior) / noise, variances, gap
""",
    "D17": """
def reparameterise(mean, log_variance, noise, upstream):
    return mean + noise * np.sqrt(np.exp(log_variance)), upstream, upstream * noise * np.sqrt(np.exp(log_variance)) / 2
""",
    "D22": """
def kl(mu, logvar):
    total = np.zeros(len(mu))
    for k in range(mu.shape[1]):
        total += (mu[:, k] ** 2 + np.exp(logvar[:, k]) - 1 - logvar[:, k]) / 2
    return total, 1.0 * mu, (np.exp(logvar) - 1) / 2
""",
    "D25": """
affine_backward = lambda dy, x, weight: (np.einsum("no,io->ni", dy, weight), np.einsum("ni,no->io", x, dy), sum(dy))
""",
    "D26": """
def activations_backward(dy, relu, tanh, softplus):
    return dy * (relu > 0), dy - dy * tanh**2, dy * (1 - np.exp(-softplus))
""",
    "D28": """
def binary_backward(da, x):
    return np.array([da[x[:, i] > 0].sum(axis=0) for i in range(x.shape[1])])
""",
    "D31": """
def adam(w, g, m, v, t, lr, b1, b2, eps):
    m, v = m + (1 - b1) * (g - m), v + (1 - b2) * (g**2 - v)
    return w - lr / (1 - b1**t) * m / (np.sqrt(v) / np.sqrt(1 - b2**t) + eps), m, v
""",
    "D34": """
def log_mean_exp(log_w):
    total = np.logaddexp.reduce(log_w, axis=0)
    return total - np.log(len(log_w)), np.exp(log_w - total)
""",
    "D45": """
def score_backward(loglik, eps, logvar):
    samples, batch = loglik.shape
    dmu, dlogvar = np.zeros_like(logvar), np.zeros_like(logvar)
    for s in range(samples):
        baseline = np.delete(loglik, s, axis=0).mean(axis=0)
        weight = (loglik[s] - baseline)[:, None] / samples / batch
        dmu -= weight * eps[s] * np.exp(-logvar / 2)
        dlogvar -= weight * (eps[s] ** 2 - 1) / 2
    return dmu, dlogvar
""",
    "D50": """
def surgery(mu, logvar, z):
    sigma = np.exp(logvar / 2)
    n = len(mu)
    log_q = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            log_q[i, j] = (-0.5 * ((z[i] - mu[j]) / sigma[j]) ** 2 - np.log(sigma[j])).sum()
    information = np.mean(np.diag(log_q) - np.logaddexp.reduce(log_q, axis=1) + np.log(n))
    return information, np.mean(((mu**2 + sigma**2 - 1) / 2 - np.log(sigma)).sum(axis=1)) - information
""",
}
