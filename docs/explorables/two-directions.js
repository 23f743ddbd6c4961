// Chapter 4: a tilted posterior, a diagonal q, and the two directions of the divergence. [D13] Claim 12.

import { bars, explorable, plot, span } from "./kit.js";

// The posterior's standard deviation along each axis.
const SCALE = 0.7;

// KL(N(0, a) ‖ N(0, b)) of two covariances [[a, c], [c, d]]: ½ (tr(b⁻¹ a) − 2 + log |b| − log |a|).
function divergence(a, b) {
  const det = ([p, r, s]) => p * s - r * r;
  const trace = (b[2] * a[0] - 2 * b[1] * a[1] + b[0] * a[2]) / det(b);
  return 0.5 * (trace - 2 + Math.log(det(b) / det(a)));
}

function compute({ rho, s1, s2 }) {
  const posterior = [SCALE ** 2, rho * SCALE ** 2, SCALE ** 2];
  const q = [s1 * s1, 0, s2 * s2];
  return {
    reverse: divergence(q, posterior),
    forward: divergence(posterior, q),
    // The variances of the best q in either direction: 1/Λⱼⱼ, and (Λ⁻¹)ⱼⱼ. Of these, what is left of each divergence.
    reverseSigma: SCALE * Math.sqrt(1 - rho * rho),
    forwardSigma: SCALE,
    least: -0.5 * Math.log(1 - rho * rho),
  };
}

export function mount(root) {
  function build(area, set) {
    const reach = [-1.9, 1.9];
    const plane = plot(area, {
      title: "Drag the corner of q", x: reach, y: reach, xLabel: "z₁", yLabel: "z₂", height: 366, square: true,
      drag: (a, b) => set({ s1: Math.max(0.08, Math.abs(a)), s2: Math.max(0.08, Math.abs(b)) }),
    });
    const stack = bars(area, { title: "Both divergences of this q", low: 0, high: 3, count: 2 });
    const turn = span(0, 2 * Math.PI, 121);
    return ({ rho, s1, s2 }, found) => {
      plane.clear();
      for (const radius of [0.6, 1.2, 1.8]) {
        plane.curve(turn.map((t) => [radius * SCALE * Math.cos(t),
          radius * SCALE * (rho * Math.cos(t) + Math.sqrt(1 - rho * rho) * Math.sin(t))]), "posterior", true);
      }
      const ellipse = (a, b, look) => plane.curve(turn.map((t) => [a * Math.cos(t), b * Math.sin(t)]), look);
      ellipse(found.reverseSigma, found.reverseSigma, "elbo-line");
      ellipse(found.forwardSigma, found.forwardSigma, "forward-line");
      ellipse(s1, s2, "q");
      plane.point(s1, s2, "handle", 7);
      plane.legend([["posterior", "posterior"], ["q, at one σ", "q"], ["least KL(q‖p)", "elbo"], ["least KL(p‖q)", "forward"]]);
      stack([
        ["KL(q‖p(z|x)), which the ELBO minimises", [[0, found.reverse, "elbo"]], found.reverse],
        ["KL(p(z|x)‖q)", [[0, found.forward, "forward"]], found.forward],
      ]);
    };
  }

  explorable(root, {
    title: "Tilt the posterior with ρ. Which circle does the smaller KL(q‖p) pull q to, and which the smaller KL(p‖q)?",
    start: { rho: 0.85, s1: 0.9, s2: 0.5 },
    controls: {
      rho: { label: "tilt ρ", min: -0.97, max: 0.97 },
      s1: { label: "σ₁ of q", min: 0.08, max: 1.9 },
      s2: { label: "σ₂ of q", min: 0.08, max: 1.9 },
    },
    numbers: {
      reverse: "KL(q‖p(z|x))", forward: "KL(p(z|x)‖q)", least: "the least of either",
      reverseSigma: "σ of the least KL(q‖p)", forwardSigma: "σ of the least KL(p‖q)",
    },
    compute, build,
  });
}
