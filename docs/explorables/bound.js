// Chapter 4: q is dragged over a posterior; the ELBO and the divergence always add up to log p(x). [D11] [D12]

import { bars, explorable, pixels, plot, span } from "./kit.js";
import * as numbers from "./numbers.js";

const FOLDED_X = [1.5];

export function mount(root, models) {
  const decoders = { pixels: new numbers.Decoder(models.pixels), folded: new numbers.Decoder(models.folded) };
  const known = new Map();
  // What does not depend on q is computed once for each x.
  const posteriorOf = ({ model, x }) => {
    const key = `${model} ${x}`;
    if (!known.has(key)) known.set(key, numbers.posterior(decoders[model], x));
    return known.get(key);
  };

  function compute(state) {
    const { model, x, mu, sigma } = state;
    const { logProb } = posteriorOf(state);
    const bound = numbers.elbo(decoders[model], x, { mu, sigma });
    const kl = numbers.divergence(decoders[model], x, { mu, sigma }, logProb);
    return { elbo: bound.elbo, kl, sum: bound.elbo + kl, logProb };
  }

  function build(area, set) {
    const [low, high] = [-4, 4];
    // A width for each height, and the height at which the handle of a width lies.
    const [least, top] = [0.08, 1.4];
    const widthAt = (y) => least + (top - least) * (y / top) ** 1.5;
    const heightOf = (sigma) => top * Math.min(1, Math.max(0, (sigma - least) / (top - least))) ** (1 / 1.5);
    const curves = plot(area, {
      title: "Drag q: sideways its mean, upwards its width", x: [low, high], y: [0, top],
      xLabel: "z", yLabel: "density", drag: (mu, y) => set({ mu, sigma: widthAt(y) }),
    });
    const row = document.createElement("div");
    const stack = bars(area, {
      title: "Two parts of one whole", low: -12, high: 0.5, count: 2,
    });
    area.append(row);
    const showPixels = pixels(row, set, 5);
    return (state, found) => {
      const here = posteriorOf(state);
      row.hidden = state.model === "folded";
      if (state.model === "pixels") showPixels(state.x);
      curves.clear();
      const z = span(low, high, 321);
      curves.curve(here.nodes.map((node, i) => [node, here.density[i]]).filter(([node]) => Math.abs(node) <= 4)
        .map(([node, p]) => [node, Math.min(p, 1.4)]), "posterior", true);
      curves.curve(z.map((v) => [v, Math.min(1.4, Math.exp(numbers.logNormal(v, state.mu, state.sigma)))]), "q");
      curves.point(state.mu, heightOf(state.sigma), "handle", 7);
      curves.legend([["posterior p(z|x)", "posterior"], ["q(z)", "q"], ["● drag me", "handle"]]);
      stack([
        ["ELBO, and KL(q‖p(z|x)) up to log p(x)",
          [[found.elbo, found.elbo + found.kl, "kl"], [-1e3, found.elbo, "elbo"]], found.sum],
        ["log p(x), from the posterior's own integral", [[-1e3, found.logProb, "evidence"]], found.logProb],
      ]);
    };
  }

  explorable(root, {
    title: "Drag the orange dot until the orange bar is as short as you can make it. Then choose “two peaks” below: from "
      + "where does a climb end on the left, on the right, or in between?",
    start: { model: "pixels", x: [1, 1, 0, 0, 1], mu: -1, sigma: 0.8 },
    controls: {
      model: {
        label: "posterior: ",
        choices: [
          { label: "five pixels", value: "pixels", state: { model: "pixels", x: [1, 1, 0, 0, 1] } },
          { label: "two peaks (x = |z| + noise)", value: "folded", state: { model: "folded", x: FOLDED_X } },
        ],
      },
      mu: { label: "μ", min: -4, max: 4 },
      sigma: { label: "σ", min: 0.08, max: 2, log: true },
    },
    numbers: { elbo: "ELBO", kl: "KL(q‖p(z|x))", sum: "their sum", logProb: "log p(x)" },
    compute, build,
  });
  climbing(root, decoders);
}

// A button that climbs from where q is, a step a frame, so that one sees at which maximum it ends.
function climbing(root, decoders) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "climb";
  button.textContent = "climb the ELBO from here";
  button.addEventListener("click", () => {
    const { model, x, mu, sigma } = root.explorable.state;
    const end = numbers.bestNormal(decoders[model], x, { mu, sigma });
    let step = 0;
    button.disabled = true;
    const move = () => {
      step += 1;
      const share = Math.min(1, step / 20);
      root.explorable.set({ mu: mu + share * (end.mu - mu), sigma: sigma * (end.sigma / sigma) ** share });
      if (share < 1) requestAnimationFrame(move);
      else button.disabled = false;
    };
    requestAnimationFrame(move);
  });
  root.querySelector(".controls").append(button);
}
