// Chapter 13: the bound of S samples rises to log p(x). [D41]

import { explorable, pixels, plot, span } from "./kit.js";
import * as numbers from "./numbers.js";

// The highest density that is drawn.
const TOP = 1;
const COPIES = 200;
const MOST = 128;

export function mount(root, models) {
  const decoder = new numbers.Decoder(models.pixels);
  // Row b has its S-th draw from sample S − 1 of the package's noise, so S draws are the first S of any more.
  const eps = Array.from({ length: MOST }, (_, k) => numbers.normals(COPIES, { stream: numbers.EVAL_EPS, sample: k }));
  const evidences = new Map();
  const evidence = (x) => {
    const key = String(x);
    if (!evidences.has(key)) evidences.set(key, numbers.posterior(decoder, x));
    return evidences.get(key);
  };

  const logWeights = (x, q, k) => eps[k].map((e) => {
    const z = q.mu + q.sigma * e;
    return decoder.logJoint(x, z) - numbers.logNormal(z, q.mu, q.sigma);
  });

  // The mean over COPIES of log (1/S) Σ w_k, for each of the ks.
  function boundsOf({ x, mu, sigma }, ks) {
    const weights = Array.from({ length: Math.max(...ks) }, (_, k) => logWeights(x, { mu, sigma }, k));
    return ks.map((k) => {
      let sum = 0;
      for (let b = 0; b < COPIES; b++) {
        sum += numbers.logSumExp(weights.slice(0, k).map((column) => column[b])) - Math.log(k);
      }
      return sum / COPIES;
    });
  }

  function compute(state) {
    const { logProb } = evidence(state.x);
    const [bound, one] = boundsOf(state, [state.k, 1]);
    const exact = numbers.elbo(decoder, state.x, state).elbo;
    return { bound, one, elbo: exact, logProb, gap: logProb - bound };
  }

  function build(area, set) {
    const curves = plot(area, {
      title: "Drag q: sideways μ, upwards σ", x: [-3.5, 3.5], y: [0, TOP], xLabel: "z", yLabel: "density",
      drag: (mu, y) => set({ mu, sigma: 0.08 + (1.52 * y) / TOP }),
    });
    const rising = plot(area, {
      title: "The bound of S samples", x: [0, Math.log2(MOST)], y: [-4, 0], xLabel: "log₂ S (drag: S)", yLabel: "nats",
      drag: (at) => set({ k: Math.max(1, Math.min(MOST, Math.round(2 ** at))) }),
    });
    const row = document.createElement("div");
    area.append(row);
    const showPixels = pixels(row, set, 5);
    const ks = span(0, Math.log2(MOST), 8).map((power) => Math.round(2 ** power));
    let [drawn, heights] = ["", []];
    return (state, found) => {
      const { x, mu, sigma, k } = state;
      showPixels(x);
      const key = String([x, mu, sigma]);
      if (key !== drawn) [drawn, heights] = [key, boundsOf(state, ks)];
      const here = evidence(x);
      curves.clear();
      curves.curve(here.nodes.map((z, i) => [z, Math.min(TOP, here.density[i])]).filter(([z]) => Math.abs(z) <= 3.5),
        "posterior", true);
      curves.curve(span(-3.5, 3.5, 281).map((z) => [z, Math.min(TOP, Math.exp(numbers.logNormal(z, mu, sigma)))]), "q");
      curves.legend([["posterior", "posterior"], ["q", "q"]]);
      const low = Math.min(found.elbo, ...heights);
      rising.rescale(low - 0.15 * (here.logProb - low) - 0.02, here.logProb + 0.15 * (here.logProb - low) + 0.02);
      rising.clear();
      const [left, right] = [0, Math.log2(MOST)];
      rising.curve([[left, here.logProb], [right, here.logProb]], "evidence-line");
      rising.curve([[left, found.elbo], [right, found.elbo]], "elbo-line dashed");
      rising.curve(ks.map((each, i) => [Math.log2(each), heights[i]]), "q");
      rising.point(Math.log2(k), found.bound, "handle", 6);
      rising.add("text", { x: rising.right, y: rising.py(here.logProb) - 5, class: "legend", "text-anchor": "end" },
        "log p(x)");
      rising.add("text", { x: rising.right, y: rising.py(found.elbo) + 14, class: "legend elbo", "text-anchor": "end" },
        "ELBO, S = 1");
    };
  }

  explorable(root, {
    title: "Raise S, and the bound rises to log p(x). Then make q worse: how many samples make up for it?",
    start: { x: [1, 1, 0, 0, 1], mu: 0, sigma: 1, k: 4 },
    controls: {
      k: { label: "S", min: 1, max: MOST, log: true, digits: 0 },
      mu: { label: "μ", min: -3.5, max: 3.5 },
      sigma: { label: "σ", min: 0.08, max: 1.6 },
    },
    numbers: {
      bound: "L_S, mean of 200", one: "L_1 of the same draws", elbo: "ELBO, exactly", logProb: "log p(x)",
      gap: "log p(x) − L_S",
    },
    compute, build,
  });
}
