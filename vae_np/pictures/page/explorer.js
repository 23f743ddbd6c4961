// The latent explorer: a plane to drag in for two latents, sliders, and the way between two examples.

(() => {
  const root = document.getElementById("explorer");
  const COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581",
    "#92dadd"];
  const z = Array.from(decoder.mu[0]);
  const ends = [0, Math.min(1, decoder.mu.length - 1)];

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.append(...children);
    return element;
  }

  // How a row of data is shown: as an image, as a point over the data, or as bars.
  const painter = decoder.shape ? paintImage : decoder.points ? paintPoint : paintBars;

  function paintImage(canvas, x) {
    const [high, wide] = decoder.shape;
    [canvas.width, canvas.height] = [wide, high];
    const context = canvas.getContext("2d");
    const image = context.createImageData(wide, high);
    x.forEach((value, d) => {
      const grey = Math.round(255 * Math.max(0, Math.min(1, value)));
      image.data.set([grey, grey, grey, 255], 4 * d);
    });
    context.putImageData(image, 0, 0);
  }

  function paintPoint(canvas, x, isSmall) {
    [canvas.width, canvas.height] = [480, 480];
    const context = canvas.getContext("2d");
    const reach = 1.08 * Math.max(...decoder.points.map((p) => Math.max(Math.abs(p[0]), Math.abs(p[1]))));
    const dot = (p, radius, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(240 * (1 + p[0] / reach), 240 * (1 - p[1] / reach), radius, 0, 7);
      context.fill();
    };
    context.fillStyle = "white";
    context.fillRect(0, 0, 480, 480);
    decoder.points.forEach((p) => dot(p, isSmall ? 6 : 2, "#b6c2cf"));
    dot(x, isSmall ? 44 : 8, "#d55e00");
  }

  function paintBars(canvas, x) {
    [canvas.width, canvas.height] = [480, 240];
    const context = canvas.getContext("2d");
    const top = Math.max(1e-9, ...Array.from(x, Math.abs), ...decoder.examples.flatMap((row) => Array.from(row, Math.abs)));
    context.fillStyle = "white";
    context.fillRect(0, 0, 480, 240);
    context.fillStyle = "#0072b2";
    x.forEach((value, d) => context.fillRect((480 * d) / x.length, 120, Math.max(1, 430 / x.length), (-115 * value) / top));
  }

  const picture = make("canvas", { class: "decoded", "aria-label": "what z decodes to" });
  const show = () => {
    painter(picture, decoder.decode(z));
    sliders.forEach(([input, output, j]) => {
      input.value = z[j];
      output.textContent = z[j].toFixed(2);
    });
    drawPlane();
  };
  const move = (place) => {
    place.forEach((value, j) => (z[j] = value));
    show();
  };

  // A slider for each of the latents with most KL; a standard normal is within 3.5 of zero.
  const sliders = decoder.sliders.map((j) => {
    const input = make("input", { type: "range", min: -3.5, max: 3.5, step: 0.01, "data-latent": j });
    const output = make("output");
    input.addEventListener("input", () => {
      z[j] = Number(input.value);
      show();
    });
    return [input, output, j];
  });

  // The plane of two latents: examples as dots, z as a ring.
  const plane = make("canvas", { class: "plane", width: 560, height: 560, "aria-label": "the plane of z, to drag in" });
  const reach = decoder.latent === 2
    ? Math.max(2.5, 1.05 * Math.max(...decoder.places.map((p) => Math.max(Math.abs(p[0]), Math.abs(p[1]))))) : 1;
  const at = (v) => 280 * (1 + v / reach);

  function drawPlane() {
    if (decoder.latent !== 2) return;
    const context = plane.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, 560, 560);
    context.strokeStyle = "#c5ccd4";
    [1, 2].forEach((radius) => {
      context.beginPath();
      context.arc(280, 280, (280 * radius) / reach, 0, 7);
      context.stroke();
    });
    decoder.places.forEach((p, row) => {
      context.fillStyle = COLOURS[decoder.labels ? decoder.labels.codes[row] % 10 : 0];
      context.fillRect(at(p[0]) - 1.5, at(-p[1]) - 1.5, 3, 3);
    });
    context.strokeStyle = "#1f2933";
    context.lineWidth = 3;
    context.beginPath();
    context.arc(at(z[0]), at(-z[1]), 9, 0, 7);
    context.stroke();
    context.lineWidth = 1;
  }

  const dragged = (event) => {
    const box = plane.getBoundingClientRect();
    const inside = (share) => reach * Math.max(-1, Math.min(1, 2 * share - 1));
    move([inside((event.clientX - box.left) / box.width), -inside((event.clientY - box.top) / box.height)]);
  };
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    dragged(event);
  });
  plane.addEventListener("pointermove", (event) => plane.hasPointerCapture(event.pointerId) && dragged(event));

  // Examples: a click makes one the start of the way, and the last start its end.
  const between = make("input", { type: "range", min: 0, max: 1, step: 0.005, value: 0, id: "between" });
  const thumbs = decoder.examples.map((x, row) => {
    const canvas = make("canvas");
    const button = make("button", { type: "button", title: `test example ${row}` }, canvas);
    painter(canvas, x, true);
    button.addEventListener("click", () => {
      [ends[0], ends[1]] = [row, ends[0]];
      between.value = 0;
      mark();
      move(decoder.mu[row]);
    });
    return button;
  });
  const mark = () => thumbs.forEach((thumb, row) => {
    thumb.className = row === ends[0] ? "from" : row === ends[1] ? "to" : "";
  });
  between.addEventListener("input", () => {
    const t = Number(between.value);
    move(Array.from(z, (_, j) => (1 - t) * decoder.mu[ends[0]][j] + t * decoder.mu[ends[1]][j]));
  });

  const legend = decoder.labels && decoder.latent === 2 && decoder.labels.names.length <= 10
    ? make("p", { class: "legend" }, ...decoder.labels.names.map((name, code) => {
      const dot = make("span", { style: `color: ${COLOURS[code]}` }, "■");
      return make("span", {}, dot, ` ${name} `);
    })) : "";
  const parts = [make("div", { class: "pane" }, picture)];
  if (decoder.latent === 2) parts.unshift(make("div", { class: "pane" }, plane, legend));
  const rows = sliders.map(([input, output, j]) => make("label", {}, make("span", {}, `z${j}`), input, output));
  const more = decoder.latent > sliders.length
    ? ` The ${sliders.length} latents with most KL have a slider; the other ${decoder.latent - sliders.length} stay where the example has them.` : "";
  parts.push(make("div", { class: "pane sliders" }, ...rows));
  root.append(
    make("p", {}, (decoder.latent === 2 ? "Drag the ring, or move a slider" : "Move a slider")
      + ": the picture is E[x|z], computed here by the run's own decoder." + more),
    make("div", { class: "panes" }, ...parts),
    make("p", {}, "Test examples. Click one, then another, and walk the straight line from the new one (orange) back to "
      + "the one before (blue)."),
    make("div", { class: "thumbs" }, ...thumbs),
    make("label", { class: "between" }, make("span", {}, "from"), between, make("span", {}, "to")),
  );
  mark();
  show();
  window.report = { decode: (place) => Array.from(decoder.decode(place)), z, move };
})();
