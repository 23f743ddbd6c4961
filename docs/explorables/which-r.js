// Chapter 5: from which r may z be drawn, if log p(x, z) − log q*(z) is to be a bound? Claim 19. [D15]

import { bars, explorable, pixels, plot, span, svg } from "./kit.js";
import * as numbers from "./numbers.js";

const WIDEST = 2.2;

export function mount(root, models) {
  const decoder = new numbers.Decoder(models.pixels);
  const known = new Map();
  const solvedFor = (x) => {
    const key = String(x);
    if (!known.has(key)) {
      const found = numbers.posterior(decoder, x);
      const q = numbers.bestNormal(decoder, x, { mu: found.mean, sigma: found.sigma });
      known.set(key, { ...found, q });
    }
    return known.get(key);
  };

  function compute({ x, m, s }) {
    const { q, logProb } = solvedFor(x);
    const r = { mu: m, sigma: s };
    const value = numbers.arbitraryExpectation(decoder, x, r, q);
    return {
      value, excess: value - logProb, logProb,
      toQ: numbers.normalDivergence(r, q),
      toPosterior: numbers.divergence(decoder, x, r, logProb),
      qMu: q.mu, qSigma: q.sigma,
    };
  }

  function build(area, set) {
    const range = [-3, 3];
    const map = plot(area, {
      title: "Drag r = N(m, s²); orange: no bound", x: range, y: [0, WIDEST], xLabel: "mean m of r",
      yLabel: "standard deviation s of r", drag: (m, s) => set({ m, s: Math.max(0.03, s) }),
    });
    const stack = bars(area, {
      title: "What decides it: to which is r closer?", low: 0, high: 4, count: 2,
    });
    const row = document.createElement("div");
    area.append(row);
    const showPixels = pixels(row, set, 5);
    const fields = new Map();
    // Where r breaks the bound, cell by cell; once for each x.
    const field = (x) => {
      const key = String(x);
      if (!fields.has(key)) {
        const { q, logProb } = solvedFor(x);
        const cells = [];
        for (const m of span(-2.925, 2.925, 40)) {
          for (const s of span(WIDEST / 48, WIDEST * (47 / 48), 24)) {
            const value = numbers.arbitraryExpectation(decoder, x, { mu: m, sigma: s }, q, 12);
            if (value > logProb) cells.push([m, s]);
          }
        }
        fields.set(key, cells);
      }
      return fields.get(key);
    };
    return ({ x, m, s }, found) => {
      showPixels(x);
      map.clear();
      const [wide, high] = [(map.right - map.left) / 40, (map.bottom - map.top) / 24];
      map.add("g", { class: "broken" }, ...field(x).map(([cm, cs]) => svg("rect", {
        x: map.px(cm) - wide / 2, y: map.py(cs) - high / 2, width: wide + 0.5, height: high + 0.5 })));
      map.point(found.qMu, found.qSigma, "target", 6);
      map.point(m, s, "handle", 7);
      map.legend([["○ q*: always a bound", "target"], ["● r", "handle"]]);
      stack([
        ["KL(r‖q*): lifts the objective", [[0, found.toQ, "kl"]], found.toQ],
        ["KL(r‖p(z|x)): holds it down", [[0, found.toPosterior, "elbo"]], found.toPosterior],
      ]);
    };
  }

  explorable(root, {
    title: "Find an r whose excess over log p(x) is positive: there the objective is no bound. Then drag r onto q*.",
    start: { x: [1, 1, 0, 0, 1], m: 1.5, s: 0.5 },
    controls: { m: { label: "m", min: -3, max: 3 }, s: { label: "s", min: 0.03, max: WIDEST } },
    numbers: {
      value: "E_r[log p(x,z) − log q*(z)]", logProb: "log p(x)", excess: "excess over log p(x)",
      toQ: "KL(r‖q*)", toPosterior: "KL(r‖p(z|x))",
    },
    compute, build,
  });
}
