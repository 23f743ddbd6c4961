// Fill each place that a chapter has for an explorable: <div class="explorable" data-explorable="NAME">.

const places = [...document.querySelectorAll(".explorable")];

if (places.length) {
  const models = await (await fetch(new URL("models.json", import.meta.url))).json();
  for (const place of places) {
    const { mount } = await import(`./${place.dataset.explorable}.js`);
    mount(place, models);
    place.dataset.ready = "";
  }
}
