// Chapter 5: the pathwise and the score-function gradient of E z², draw by draw. [D17] [D18] Claim 21.

import { explorable, plot } from "./kit.js";
import * as numbers from "./numbers.js";

const MOST = 4000;

export function mount(root) {
  // Draws are the package's own noise, so the first n of them are the same in Python.
  const eps = numbers.normals(MOST, { stream: numbers.PRIOR });

  const draws = ({ mu, sigma, n, best }) => eps.slice(0, n).map((e) => {
    const z = mu + sigma * e;
    const baseline = best ? mu * mu + 3 * sigma * sigma : 0;
    return [2 * z, ((z * z - baseline) * e) / sigma];
  });

  const moments = (values) => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return [mean, values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length];
  };

  function compute(state) {
    const every = draws(state);
    const [path, score] = [0, 1].map((column) => moments(every.map((row) => row[column])));
    const [m2, s2] = [state.mu ** 2, state.sigma ** 2];
    return {
      truth: 2 * state.mu, pathMean: path[0], scoreMean: score[0], pathVariance: path[1], scoreVariance: score[1],
      pathTheory: 4 * s2, scoreTheory: state.best ? 8 * m2 + 6 * s2 : (m2 * m2) / s2 + 14 * m2 + 15 * s2,
    };
  }

  function build(area, set) {
    const [low, high, cells] = [-14, 22, 72];
    const panels = ["Pathwise: 2z", "Score function: z² ∂ log q"].map((title) => plot(area, {
      title, x: [low, high], y: [0, 1], xLabel: "one draw's estimate of the slope (drag: μ)", yLabel: "share of draws",
      drag: (at) => set({ mu: Math.max(-3, Math.min(3, at / 2)) }),
    }));
    return (state, found) => {
      const every = draws(state);
      panels.forEach((panel, column) => {
        const counts = new Array(cells).fill(0);
        every.forEach((row) => {
          const cell = Math.floor(((row[column] - low) / (high - low)) * cells);
          if (cell >= 0 && cell < cells) counts[cell] += 1 / every.length;
        });
        panel.rescale(0, Math.max(...counts, 0.02) * 1.25);
        panel.clear();
        const wide = (panel.right - panel.left) / cells;
        counts.forEach((share, cell) => panel.add("rect", {
          x: panel.left + cell * wide, y: panel.py(share), width: wide, height: panel.bottom - panel.py(share),
          class: column ? "kl" : "elbo" }));
        panel.add("line", { x1: panel.px(found.truth), x2: panel.px(found.truth), y1: panel.top, y2: panel.bottom,
          class: "truth" });
        panel.legend([[`slope 2μ = ${found.truth.toFixed(2)}`, ""],
          [`variance ${(column ? found.scoreVariance : found.pathVariance).toFixed(1)}`, column ? "kl" : "elbo"]]);
      });
    };
  }

  explorable(root, {
    title: "Let n grow: both heaps have their mean at the dashed line. How much wider is the second one, and what does "
      + "the best baseline save?",
    start: { mu: 1, sigma: 1, n: 200, best: false },
    controls: {
      best: { label: "baseline: ", choices: [{ label: "none", value: false }, { label: "the best", value: true }] },
      n: { label: "n draws", min: 2, max: MOST, log: true, digits: 0 },
      mu: { label: "μ", min: -3, max: 3 },
      sigma: { label: "σ", min: 0.2, max: 2 },
    },
    numbers: {
      truth: "the slope, 2μ", pathMean: "pathwise mean", scoreMean: "score mean", pathVariance: "pathwise variance",
      pathTheory: "in theory", scoreVariance: "score variance", scoreTheory: "in theory",
    },
    compute, build,
  });
}
