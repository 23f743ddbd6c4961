// What every explorable is made of: a frame with sliders and numbers, a plot to drag in, and bars.
//
// An explorable is a function (root, models) that calls `explorable`. Its state is a plain object; `compute` makes
// numbers of a state and touches no page, `draw` shows both.

const SVG = "http://www.w3.org/2000/svg";

function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

export function show(value, digits = 3) {
  // A minus sign as wide as a plus, and no minus before zero.
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

// Fill `root`, and give it `root.explorable`: its state, its numbers, and `set`, which moves sliders too.
//
//   title     what is to be seen, and what to do first
//   controls  {name: {label, min, max, step, log}}: a slider each; `choices` instead of a range makes buttons
//   numbers   {name: label}: what `compute` returns and the page shows
//   start     the first state
//   build     (area, set) → draw(state, numbers): makes the plots in `area`
export function explorable(root, { title, controls, numbers, start, compute, build }) {
  const shown = {};
  const inputs = {};
  const list = html("dl", { class: "numbers" });
  Object.entries(numbers).forEach(([name, label]) => {
    shown[name] = html("dd", { "data-name": name });
    list.append(html("div", {}, html("dt", {}, label), shown[name]));
  });
  const area = html("div", { class: "plots" });
  const sliders = html("div", { class: "controls" });
  root.replaceChildren(html("p", { class: "task" }, title), area, sliders, list);

  const self = { state: { ...start }, numbers: {}, compute, set };
  Object.entries(controls).forEach(([name, control]) => sliders.append(slider(name, control)));
  const draw = build(area, set);
  root.explorable = self;
  set({});

  function set(change) {
    Object.assign(self.state, change);
    Object.entries(controls).forEach(([name, control]) => inputs[name](self.state[name], control));
    self.numbers = compute(self.state);
    Object.entries(shown).forEach(([name, element]) => {
      element.textContent = show(self.numbers[name]);
      element.dataset.value = self.numbers[name];
    });
    draw(self.state, self.numbers);
  }

  function slider(name, { label, min, max, step = (max - min) / 400, log = false, digits = 2, choices }) {
    if (choices) {
      const buttons = choices.map((choice) => {
        const button = html("button", { type: "button" }, choice.label);
        button.addEventListener("click", () => set(choice.state ?? { [name]: choice.value }));
        return [choice.value, button];
      });
      inputs[name] = (value) =>
        buttons.forEach(([choice, button]) => button.setAttribute("aria-pressed", choice === value));
      return html("div", { class: "choices", role: "group", "aria-label": label }, label, ...buttons.map((b) => b[1]));
    }
    const [to, from] = log ? [Math.log, Math.exp] : [(v) => v, (v) => v];
    const range = { type: "range", min: to(min), max: to(max), step: log ? "any" : step, "data-name": name };
    const input = html("input", range);
    const output = html("output");
    input.addEventListener("input", () => set({ [name]: digits ? from(+input.value) : Math.round(from(+input.value)) }));
    inputs[name] = (value) => {
      input.value = to(value);
      output.textContent = show(value, digits);
    };
    return html("label", {}, html("span", {}, label), input, output);
  }
}

// Pixels to click on: `x` is an array of 0 and 1.
export function pixels(area, set, count) {
  const boxes = Array.from({ length: count }, (_, d) => html("button", { type: "button", class: "pixel" }));
  let now = [];
  boxes.forEach((box, d) => box.addEventListener("click", () => set({ x: now.map((v, i) => (i === d ? 1 - v : v)) })));
  area.append(html("div", { class: "pixels", role: "group" }, "x = ", ...boxes));
  return (x) => {
    now = x;
    boxes.forEach((box, d) => {
      box.setAttribute("aria-pressed", x[d] === 1);
      box.setAttribute("aria-label", `pixel ${d + 1} is ${x[d]}`);
    });
  };
}

const WIDTH = 360;
const LEFT = 42;
const BOTTOM = 34;
const TOP = 22;

// Axes with a title: `x` and `y` are ranges; `y` may be changed later by `rescale`. `drag` hears of data coordinates.
export function plot(area, { title, x, y, xLabel, yLabel = "", height = 240, drag, bare = false, square = false }) {
  const [left, right, bottom] = [LEFT, WIDTH - 8, height - BOTTOM];
  const frame = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": title });
  const [grid, marks] = [svg("g", { class: "grid" }), svg("g")];
  frame.append(svg("text", { class: "title", x: left, y: 13 }, title), grid, marks);
  frame.append(svg("text", { class: "label", x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  frame.append(svg("text", { class: "label", x: 11, y: (TOP + bottom) / 2, "text-anchor": "middle",
    transform: `rotate(-90 11 ${(TOP + bottom) / 2})` }, yLabel));
  area.append(html("div", { class: square ? "plot square" : "plot" }, frame));
  let range = y;
  const px = (v) => left + ((v - x[0]) / (x[1] - x[0])) * (right - left);
  const py = (v) => bottom - ((v - range[0]) / (range[1] - range[0])) * (bottom - TOP);

  if (drag) {
    frame.classList.add("draggable");
    const tell = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(frame.getScreenCTM().inverse());
      const clamp = (v, [low, high]) => Math.max(low, Math.min(high, v));
      const at = [x[0] + ((point.x - left) / (right - left)) * (x[1] - x[0]),
        range[0] + ((bottom - point.y) / (bottom - TOP)) * (range[1] - range[0])];
      drag(clamp(at[0], x), clamp(at[1], range));
    };
    frame.addEventListener("pointerdown", (event) => {
      frame.setPointerCapture(event.pointerId);
      tell(event);
    });
    frame.addEventListener("pointermove", (event) => frame.hasPointerCapture(event.pointerId) && tell(event));
  }

  const self = {
    px, py, left, right, top: TOP, bottom,
    rescale(low, high) {
      range = [low, high];
      const ticks = (a, b) => {
        const size = 10 ** Math.floor(Math.log10((b - a) / 3));
        const step = [5, 2, 1].map((n) => n * size).find((s) => (b - a) / s >= 3) ?? size;
        return Array.from({ length: Math.floor(b / step) - Math.ceil(a / step) + 1 }, (_, i) =>
          (Math.ceil(a / step) + i) * step);
      };
      const digits = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      const [across, up] = [ticks(...x), bare ? [] : ticks(...range)];
      grid.replaceChildren(
        ...across.map((v) => svg("line", { x1: px(v), x2: px(v), y1: TOP, y2: bottom })),
        ...up.map((v) => svg("line", { x1: left, x2: right, y1: py(v), y2: py(v) })),
        ...across.map((v) => svg("text", { x: px(v), y: bottom + 14, "text-anchor": "middle" },
          show(v, digits(across[1] - across[0])))),
        ...up.map((v) => svg("text", { x: left - 5, y: py(v) + 4, "text-anchor": "end" }, show(v, digits(up[1] - up[0])))),
      );
    },
    clear: () => marks.replaceChildren(),
    add: (tag, attributes, ...children) => marks.append(svg(tag, attributes, ...children)),
    curve(points, look, filled = false) {
      const path = points.map(([a, b]) => `${px(a).toFixed(2)},${py(b).toFixed(2)}`).join("L");
      const close = filled ? `L${px(points.at(-1)[0])},${bottom}L${px(points[0][0])},${bottom}Z` : "";
      marks.append(svg("path", { d: `M${path}${close}`, class: look }));
    },
    point: (a, b, look, r = 4) => marks.append(svg("circle", { cx: px(a), cy: py(b), r, class: look })),
    // Lines of text below each other, each in the colour of what it names.
    legend: (lines, at = right) => lines.forEach(([text, look], row) => marks.append(
      svg("text", { x: at, y: TOP + 12 + 14 * row, class: `legend ${look}`, "text-anchor": at === right ? "end" : "start" },
        text))),
  };
  self.rescale(...range);
  return self;
}

// Bars on one scale of nats, `count` of them. They are drawn from [[label, [[from, to, look], …], number], …].
export function bars(area, { title, low, high, count }) {
  const height = 58 + 40 * count;
  const self = plot(area, { title, x: [low, high], y: [0, count], xLabel: "nats", height, bare: true });
  return (rows) => {
    self.clear();
    rows.forEach(([label, pieces, number], row) => {
      const y = self.top + 40 * row;
      self.add("text", { x: self.left, y: y + 12, class: "legend" }, label);
      self.add("text", { x: self.right, y: y + 12, class: "legend number", "text-anchor": "end" }, show(number));
      const inside = (v) => Math.max(self.left, Math.min(self.right, self.px(v)));
      pieces.forEach(([from, to, look]) => {
        const ends = [inside(from), inside(to)].sort((a, b) => a - b);
        self.add("rect", { x: ends[0], y: y + 17, width: ends[1] - ends[0], height: 16, class: look });
      });
    });
  };
}

export const span = (low, high, count) =>
  Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
