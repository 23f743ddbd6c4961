// The mathematics of the explorables, in float64: a decoder with one latent, its integrals, and the package's noise.
//
// Each function computes what a function of vae_np computes, which its comment names; tests/browser/test_explorables.py
// holds the two beside each other. Integrals are trapezoid sums, which converge faster than any power of the spacing
// for smooth functions that vanish at both ends.

export const LOG_2PI = Math.log(2 * Math.PI);

const ACTIVATIONS = {
  tanh: { value: Math.tanh, slope: (h) => 1 - h * h },
  // Of softplus, the derivative from its value: 1 − exp(−h).
  softplus: { value: softplus, slope: (h) => -Math.expm1(-h) },
};

function softplus(a) {
  return Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
}

const sigmoid = (l) => 1 / (1 + Math.exp(-l));

export function logSumExp(terms) {
  const top = terms.reduce((a, b) => Math.max(a, b), -Infinity);
  return top + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - top), 0));
}

export function logNormal(z, mu = 0, sigma = 1) {
  const unit = (z - mu) / sigma;
  return -0.5 * (unit * unit + LOG_2PI) - Math.log(sigma);
}

// p(z) p(x|z) with one latent and one hidden layer: vae_np.exact.decoder.Decoder.
export class Decoder {
  constructor({ arch, parameters }) {
    this.activation = ACTIVATIONS[arch.activation];
    this.isBernoulli = arch.likelihood === "bernoulli";
    this.weight = parameters["decoder.hidden.0.weight"][0];
    this.bias = parameters["decoder.hidden.0.bias"];
    this.outWeight = parameters["decoder.out.weight"];
    this.outBias = parameters["decoder.out.bias"];
    this.logvar = parameters["likelihood.logvar"]?.[0] ?? 2 * Math.log(arch.sigma);
  }

  // Logits or means at z, and how fast each of them moves with z.
  outputAndSlope(z) {
    const out = [...this.outBias];
    const slope = out.map(() => 0);
    this.weight.forEach((weight, unit) => {
      const h = this.activation.value(weight * z + this.bias[unit]);
      const dh = this.activation.slope(h) * weight;
      this.outWeight[unit].forEach((w, d) => {
        out[d] += h * w;
        slope[d] += dh * w;
      });
    });
    return [out, slope];
  }

  output(z) {
    return this.outputAndSlope(z)[0];
  }

  // log p(x|z) in nats, and its derivative in z.
  logLikelihoodAndSlope(x, z) {
    const [out, moves] = this.outputAndSlope(z);
    const precision = Math.exp(-this.logvar);
    let value = 0;
    let slope = 0;
    out.forEach((o, d) => {
      if (this.isBernoulli) {
        value += x[d] * o - softplus(o);
        slope += (x[d] - sigmoid(o)) * moves[d];
      } else {
        value -= 0.5 * ((x[d] - o) ** 2 * precision + this.logvar + LOG_2PI);
        slope += (x[d] - o) * precision * moves[d];
      }
    });
    return [value, slope];
  }

  logJoint(x, z) {
    return this.logLikelihoodAndSlope(x, z)[0] + logNormal(z);
  }
}

// mu and logvar of q(z|x) for one latent and one hidden layer: vae_np.model.encode_forward.
export class Encoder {
  constructor({ arch, parameters }) {
    this.activation = ACTIVATIONS[arch.activation];
    this.parameters = parameters;
  }

  lambda(x) {
    const affine = (input, name) => {
      const weight = this.parameters[`${name}.weight`];
      return this.parameters[`${name}.bias`].map((b, j) => input.reduce((sum, v, i) => sum + v * weight[i][j], b));
    };
    const hidden = affine(x, "encoder.hidden.0").map(this.activation.value);
    return { mu: affine(hidden, "encoder.mu")[0], sigma: Math.exp(0.5 * affine(hidden, "encoder.logvar")[0]) };
  }
}

const EDGE = 9;
const SPACING = 0.01;

// p(z|x) on a grid, and log p(x): vae_np.exact.quadrature.posterior.
export function posterior(decoder, x) {
  const nodes = Array.from({ length: 2 * Math.round(EDGE / SPACING) + 1 }, (_, i) => i * SPACING - EDGE);
  const heights = nodes.map((z) => decoder.logJoint(x, z));
  const logProb = logSumExp(heights) + Math.log(SPACING);
  const density = heights.map((height) => Math.exp(height - logProb));
  const mean = SPACING * density.reduce((sum, p, i) => sum + p * nodes[i], 0);
  const variance = SPACING * density.reduce((sum, p, i) => sum + p * (nodes[i] - mean) ** 2, 0);
  return { nodes, density, logProb, mean, sigma: Math.sqrt(variance) };
}

const EPS = Array.from({ length: 601 }, (_, i) => (i - 300) * 0.03);
const WEIGHTS = EPS.map((eps) => 0.03 * Math.exp(logNormal(eps)));

// E_q f(z) of a normal q; with only every n-th node it is good enough to colour a map with.
export function expectation(q, f, every = 1) {
  let sum = 0;
  for (let i = 300 % every; i < EPS.length; i += every) sum += WEIGHTS[i] * f(q.mu + q.sigma * EPS[i]);
  return every * sum;
}

// KL(q ‖ r) of two normals.
export function normalDivergence(q, r = { mu: 0, sigma: 1 }) {
  const ratio = q.sigma / r.sigma;
  const moved = (q.mu - r.mu) / r.sigma;
  return 0.5 * (ratio * ratio + moved * moved - 1) - Math.log(ratio);
}

// The ELBO, its KL in closed form: vae_np.exact.inference.ELBO.
export function elbo(decoder, x, q) {
  const reconstruction = expectation(q, (z) => decoder.logLikelihoodAndSlope(x, z)[0]);
  const kl = normalDivergence(q);
  return { reconstruction, kl, elbo: reconstruction - kl };
}

// KL(q ‖ p(z|x)) by an integral of its own, not as a difference: vae_np.exact.inference.kl_to_posterior.
export function divergence(decoder, x, q, logProb) {
  return expectation(q, (z) => logNormal(z, q.mu, q.sigma) - decoder.logJoint(x, z) + logProb);
}

// E_r [log p(x, z) − log q(z)]: vae_np.exact.candidate_objectives.arbitrary_expectation.
export function arbitraryExpectation(decoder, x, r, q, every = 1) {
  return expectation(r, (z) => decoder.logJoint(x, z) - logNormal(z, q.mu, q.sigma), every);
}

// The normal that the bound is highest at, climbed to from `start` by Newton's method: vae_np.exact.inference.maximise.
export function bestNormal(decoder, x, start) {
  const slope = ([mu, rho]) => {
    const sigma = Math.exp(rho);
    let [dmu, drho] = [-mu, 1 - sigma * sigma];
    EPS.forEach((eps, i) => {
      const pull = WEIGHTS[i] * decoder.logLikelihoodAndSlope(x, mu + sigma * eps)[1];
      dmu += pull;
      drho += pull * sigma * eps;
    });
    return [dmu, drho];
  };
  let at = [start.mu, Math.log(start.sigma)];
  for (let step = 0; step < 60; step++) {
    const [a, b] = slope(at);
    const [up, right] = [slope([at[0], at[1] + 1e-5]), slope([at[0] + 1e-5, at[1]])];
    const [haa, hbb] = [(right[0] - a) / 1e-5, (up[1] - b) / 1e-5];
    const hab = 0.5 * (right[1] - b + up[0] - a) / 1e-5;
    const det = haa * hbb - hab * hab;
    // Where the bound does not curve downwards, along the slope instead.
    let move = haa < 0 && det > 0 ? [(hab * b - hbb * a) / det, (hab * a - haa * b) / det] : [0.1 * a, 0.1 * b];
    const reach = Math.max(Math.abs(move[0]), Math.abs(move[1]));
    move = move.map((m) => m * Math.min(1, 0.3 / reach));
    at = [at[0] + move[0], at[1] + move[1]];
    if (reach < 1e-10) break;
  }
  return { mu: at[0], sigma: Math.exp(at[1]) };
}

// The standard normal's quantile, by Newton's method on Φ, which is a Simpson sum: statistics.NormalDist().inv_cdf.
export function quantile(p) {
  let z = 0;
  for (let step = 0; step < 60; step++) {
    const n = 200;
    let area = 0;
    for (let i = 0; i <= n; i++) {
      area += (i === 0 || i === n ? 1 : i % 2 ? 4 : 2) * Math.exp(logNormal((z * i) / n));
    }
    const miss = 0.5 + (area * z) / (3 * n) - p;
    const move = miss / Math.exp(logNormal(z));
    z -= Math.max(-0.5, Math.min(0.5, move));
    if (Math.abs(move) < 1e-13) break;
  }
  return z;
}

// The package's noise: Philox4x32-10, a pure function of where a number is used. vae_np.noise.normal.

export const PRIOR = 6;
export const EVAL_EPS = 5;

function highProduct(a, b) {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = ah * bl + ((al * bl) >>> 16);
  return (ah * bh + Math.floor((middle + al * bh) / 65536)) >>> 0;
}

export function philox([c0, c1, c2, c3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = [highProduct(c0, 0xd2511f53), Math.imul(c0, 0xd2511f53) >>> 0];
    const [high1, low1] = [highProduct(c2, 0xcd9e8d57), Math.imul(c2, 0xcd9e8d57) >>> 0];
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

// One standard normal for each of `rows` 0, 1, …: column 0 of each row's block, rounded to float32 as in the package.
export function normals(rows, { seed = 0, stream, sample = 0 }) {
  return Array.from({ length: rows }, (_, row) => {
    const [first, second] = philox([0, row, 0, (stream + 256 * sample) >>> 0], [seed, 0]);
    const radius = Math.sqrt(-2 * Math.log((first + 0.5) * 2 ** -32));
    return Math.fround(radius * Math.cos(2 * Math.PI * (second + 0.5) * 2 ** -32));
  });
}
