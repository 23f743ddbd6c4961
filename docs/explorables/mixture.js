// Chapter 2: simple distributions, mixed over z, become a complicated one. [D3] [D5]

import { explorable, plot, span, svg } from "./kit.js";
import * as numbers from "./numbers.js";

const MOST = 200;

export function mount(root, models) {
  const decoder = new numbers.Decoder(models.rings);
  const points = models.rings.points;
  const sigma = Math.exp(0.5 * decoder.logvar);
  const centres = new Map();
  // The means of n normals that are equally likely: z at the prior's quantiles, so that each has 1/n of it.
  const centresOf = (n) => {
    if (!centres.has(n)) {
      centres.set(n, span(0.5 / n, 1 - 0.5 / n, n).map((p) => decoder.output(numbers.quantile(p))));
    }
    return centres.get(n);
  };
  const logDensity = (n, x) => numbers.logSumExp(centresOf(n).map((c) =>
    numbers.logNormal(x[0], c[0], sigma) + numbers.logNormal(x[1], c[1], sigma))) - Math.log(n);

  function compute({ n, x1, x2 }) {
    const mean = points.reduce((sum, x) => sum + logDensity(n, x), 0) / points.length;
    return { density: Math.exp(logDensity(n, [x1, x2])), mean };
  }

  function build(area, set) {
    const reach = [-2.6, 2.6];
    const plane = (title, drag) => plot(area, {
      title, x: reach, y: reach, xLabel: "x₁", yLabel: "x₂", height: 366, square: true, drag });
    const parts = plane("The normals p(x|z), at two σ, over the data");
    const whole = plane("Their mixture: drag to read p(x)", (x1, x2) => set({ x1, x2 }));
    let drawn = 0;
    const shades = svg("g");
    return ({ n, x1, x2 }, found) => {
      if (n !== drawn) {
        parts.clear();
        points.forEach((x) => parts.point(x[0], x[1], "datum", 1.5));
        const radius = parts.px(2 * sigma) - parts.px(0);
        centresOf(n).forEach((c) => parts.point(c[0], c[1], "component", radius));
        const cells = 52;
        const side = (whole.right - whole.left) / cells;
        const places = span(reach[0] + 2.6 / cells, reach[1] - 2.6 / cells, cells);
        shades.replaceChildren();
        places.forEach((a) => places.forEach((b) => {
          const share = Math.min(1, Math.exp(logDensity(n, [a, b])) / 0.4);
          if (share < 0.01) return;
          shades.append(svg("rect", { x: whole.px(a) - side / 2, y: whole.py(b) - side / 2, width: side + 0.3,
            height: side + 0.3, class: "shade", opacity: share.toFixed(3) }));
        }));
        drawn = n;
      }
      whole.clear();
      whole.add("g", {}, shades);
      whole.point(x1, x2, "handle", 6);
      whole.legend([[`p(x) = ${found.density.toFixed(4)}`, ""]]);
    };
  }

  explorable(root, {
    title: "Raise n. One normal cannot be a ring; how many does it take until the gaps close?",
    start: { n: 8, x1: 1.0, x2: 0.0 },
    controls: {
      n: { label: "n normals", min: 1, max: MOST, log: true, digits: 0 },
      x1: { label: "x₁", min: -2.6, max: 2.6 }, x2: { label: "x₂", min: -2.6, max: 2.6 },
    },
    numbers: { density: "p(x) at the mark", mean: "mean log p of 400 data" },
    compute, build,
  });
}
