// Chapter 6: the gap of one x, split into what the family cannot do and what the encoder does not find. [D20]

import { bars, explorable, pixels, plot, span } from "./kit.js";
import * as numbers from "./numbers.js";

// The highest density that is drawn.
const TOP = 1;

export function mount(root, models) {
  const [decoder, encoder] = [new numbers.Decoder(models.pixels), new numbers.Encoder(models.pixels)];
  const known = new Map();
  const solvedFor = (x) => {
    const key = String(x);
    if (!known.has(key)) {
      const found = numbers.posterior(decoder, x);
      const best = numbers.bestNormal(decoder, x, { mu: found.mean, sigma: found.sigma });
      known.set(key, { ...found, best, highest: numbers.elbo(decoder, x, best).elbo, encoded: encoder.lambda(x) });
    }
    return known.get(key);
  };

  function compute({ x, mu, sigma }) {
    const { logProb, highest, encoded } = solvedFor(x);
    const bound = numbers.elbo(decoder, x, { mu, sigma }).elbo;
    return {
      logProb, bound, highest,
      approximation: logProb - highest, amortisation: highest - bound,
      ofEncoder: highest - numbers.elbo(decoder, x, encoded).elbo,
    };
  }

  function build(area, set) {
    const range = [-3.5, 3.5];
    const [low, high] = [0.08, 1.6];
    const curves = plot(area, {
      title: "Drag q: sideways μ, upwards σ", x: range, y: [0, TOP], xLabel: "z", yLabel: "density",
      drag: (mu, y) => set({ mu, sigma: low + ((high - low) * y) / TOP }),
    });
    const stack = bars(area, {
      title: "Nats that this q gives away", low: 0, high: 1, count: 3,
    });
    const row = document.createElement("div");
    area.append(row);
    let shown = "";
    const showPixels = pixels(row, set, 5);
    return ({ x, mu, sigma }, found) => {
      const here = solvedFor(x);
      showPixels(x);
      // Another x, and q is where its encoder puts it.
      if (shown !== String(x)) {
        const first = shown === "";
        shown = String(x);
        if (!first) return set(here.encoded);
      }
      curves.clear();
      curves.curve(here.nodes.map((z, i) => [z, Math.min(TOP, here.density[i])]).filter(([z]) => Math.abs(z) <= 3.5),
        "posterior", true);
      const density = (q, look) => curves.curve(span(...range, 281).map((z) =>
        [z, Math.min(TOP, Math.exp(numbers.logNormal(z, q.mu, q.sigma)))]), look);
      density(here.encoded, "encoder-line");
      density(here.best, "elbo-line");
      density({ mu, sigma }, "q");
      curves.legend([["posterior", "posterior"], ["q", "q"], ["the encoder's", "forward"], ["q*, the best", "elbo"]]);
      stack([
        ["the family's: log p(x) − L(q*)", [[0, found.approximation, "elbo"]], found.approximation],
        ["the encoder's: L(q*) − L(q_φ)", [[0, found.ofEncoder, "forward"]], found.ofEncoder],
        ["this q's: L(q*) − L(q)",
          [[0, found.approximation, "elbo"], [found.approximation, found.approximation + found.amortisation, "kl"]],
          found.amortisation],
      ]);
    };
  }

  explorable(root, {
    title: "Click pixels to choose x. The encoder gives every x its q in one pass; how much do you gain by dragging?",
    start: { x: [1, 1, 0, 0, 1], ...encoder.lambda([1, 1, 0, 0, 1]) },
    controls: { mu: { label: "μ", min: -3.5, max: 3.5 }, sigma: { label: "σ", min: 0.08, max: 1.6 } },
    numbers: {
      logProb: "log p(x)", highest: "L(q*), the family's best", bound: "L(q)",
      approximation: "approximation gap", amortisation: "this q's own gap", ofEncoder: "the encoder's own gap",
    },
    compute, build,
  });
}
