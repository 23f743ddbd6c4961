// The decoder in the page: what vae_np.VAE.decode computes, from the weights that stand in the page.

const decoder = (() => {
  const data = JSON.parse(document.getElementById("decoder").textContent);

  function floats(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  const layers = data.layers.map((layer) => ({ ...layer, weight: floats(layer.weight), bias: floats(layer.bias) }));
  const [offset, scale] = [floats(data.offset), floats(data.scale)];
  const activations = {
    relu: (a) => Math.max(a, 0),
    tanh: Math.tanh,
    softplus: (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))),
  };

  // E[x|z], (D,) from z (K,): probabilities, or means on the data's own scale.
  function decode(z) {
    let values = z;
    layers.forEach(({ inputs, outputs, weight, bias }, index) => {
      const next = Float64Array.from(bias);
      for (let i = 0; i < inputs; i++) {
        const value = values[i];
        // Most of a ReLU's units are off.
        if (value === 0) continue;
        for (let j = 0; j < outputs; j++) next[j] += value * weight[i * outputs + j];
      }
      values = index < layers.length - 1 ? next.map(activations[data.activation]) : next;
    });
    return data.bernoulli ? values.map((l) => 1 / (1 + Math.exp(-l))) : values.map((v, d) => offset[d] + scale[d] * v);
  }

  const rows = (text, width) => {
    const flat = floats(text);
    return Array.from({ length: flat.length / width }, (_, row) => flat.subarray(row * width, (row + 1) * width));
  };
  return {
    ...data,
    decode,
    examples: rows(data.examples, data.features),
    mu: rows(data.mu, data.latent),
    places: rows(data.places, data.latent),
    points: data.points === null ? null : rows(data.points, 2),
  };
})();
