"""Encoder and decoder of different widths, through every door; their fused steps are in tests/parity and tests/gpu.

Budget: about 5 s, and 3 s more where PyTorch is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good

from vae_np import VAE, checkpoint, data
from vae_np.architecture import Architecture
from vae_np.config import Config, load_toml, parse_field
from vae_np.errors import ConfigError, InputError
from vae_np.exact import Decoder, quadrature
from vae_np.model import decode_forward, initialise
from vae_np.objectives import objective_backward, objective_forward

ARCH = Architecture(6, 2, (5, 3), "tanh", decoder_hidden=(4, 7, 8))
X = data.bars(4, 60, 0)[0]


@pytest.fixture(scope="module")
def vae() -> VAE:
    model = VAE(16, hidden=(9,), decoder_hidden=(5, 7), latent=2, activation="tanh", dtype="float64", backend="numpy")
    model.fit(X, epochs=2, batch_size=20)
    return model


def test_shapes_and_names_follow_the_widths() -> None:
    shapes = ARCH.shapes()
    assert [shapes[f"encoder.hidden.{i}.weight"] for i in range(2)] == [(6, 5), (5, 3)]
    assert [shapes[f"decoder.hidden.{i}.weight"] for i in range(3)] == [(2, 4), (4, 7), (7, 8)]
    assert (shapes["encoder.mu.weight"], shapes["decoder.out.weight"]) == ((3, 2), (8, 6))
    assert ARCH.sizes == "6-5-3-2-4-7-8-6"
    assert ARCH.hidden_layers("decoder") == [f"decoder.hidden.{i}" for i in range(3)]


def test_the_short_form_is_the_symmetric_case() -> None:
    short = Architecture(6, 2, (5, 3))
    assert Architecture(6, 2, (5, 3), decoder_hidden=(3, 5)) == short
    assert short.decoder_widths == (3, 5)
    assert short.sizes == "6-5-3-2"
    assert "decoder_hidden" not in short.as_dict()
    assert Architecture.from_dict(short.as_dict()) == short
    assert Architecture.from_dict(ARCH.as_dict()) == ARCH
    # What stood in checkpoints before decoders had widths of their own.
    assert Architecture.from_dict({"features": 6, "latent": 2, "hidden": [5, 3]}) == short
    linear = Architecture(6, 2, (5,), decoder_hidden=())
    assert linear.shapes()["decoder.out.weight"] == (2, 6)
    assert Config(hidden=(5, 3), decoder_hidden=(3, 5)) == Config(hidden=(5, 3))


@pytest.mark.parametrize("objective", ["elbo", "dreg"])
def test_gradients_are_those_of_finite_differences(objective: Any, rng: np.random.Generator) -> None:
    from vae_np import ops

    parameters = initialise(ARCH, seed=1, dtype=np.float64)
    x, eps = rng.integers(0, 2, (3, 6)).astype(np.uint8), rng.normal(size=(3 if objective == "elbo" else 6, 2))
    gradients = parameters.zeros_like()
    _, cache = objective_forward(ops, ARCH, parameters, x, eps, objective=objective)
    objective_backward(ops, ARCH, cache, gradients)
    names = [name for name in parameters if objective == "elbo" or name.startswith("decoder")]
    for name in names:
        view, step = parameters[name], 1e-6
        for place in [(0,) * view.ndim, tuple(size - 1 for size in view.shape)]:
            held, values = view[place], []
            for moved in (held + step, held - step):
                view[place] = moved
                values.append(objective_forward(ops, ARCH, parameters, x, eps, objective=objective)[0].loss())
            view[place] = held
            assert gradients[name][place] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-8), name


def test_a_saved_model_comes_back_and_goes_on(vae: VAE, tmp_path: Path) -> None:
    vae.save(tmp_path / "model")
    again = VAE.load(tmp_path / "model", backend="numpy")
    assert again.arch == vae.arch
    assert load_toml(tmp_path / "model" / "config.toml").decoder_hidden == (5, 7)
    np.testing.assert_array_equal(again.elbo(X).elbo, vae.elbo(X).elbo)
    alone = VAE.load(tmp_path / "model" / checkpoint.WEIGHTS_FILE, backend="numpy")
    np.testing.assert_array_equal(alone.decode(np.eye(2)), vae.decode(np.eye(2)))
    assert again.fit(X, epochs=1, batch_size=20).lines[-1]["step"] == 9


def test_the_command_line_trains_evaluates_and_reports_one(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    sizes = ("--hidden", "8", "--decoder-hidden", "5,6", "--latent", "2")
    good("train", "--data", "bars", *sizes, "--epochs", "1", "--out", out, "--backend", "numpy", "--no-plots")
    assert load_toml(Path(out) / "config.toml").decoder_hidden == (5, 6)
    assert VAE.load(out, backend="numpy").arch.sizes == "16-8-2-5-6-16"
    good("eval", out, "--images", "20", "--samples", "5")
    good("report", out, "--out", str(tmp_path / "report.html"))


def test_settings_in_text() -> None:
    assert parse_field("decoder_hidden", "5,6") == (5, 6)
    assert parse_field("decoder_hidden", "none") == ()
    assert Config(decoder_hidden=(5, 6)).to_mapping()["decoder_hidden"] == [5, 6]
    assert Config(decoder_hidden=()).to_mapping()["decoder_hidden"] == []
    with pytest.raises(ConfigError, match=r"^decoder_hidden: got 0, expected sizes >= 1, such as 400 or 500,500"):
        Config(decoder_hidden=(0,))
    with pytest.raises(InputError, match=r"^decoder_hidden: got 0, expected a whole number > 0"):
        Architecture(decoder_hidden=(0,))
    with pytest.raises(InputError, match=r"^decoder_hidden: got 1000000000000,"):
        VAE(16, decoder_hidden=(10**12,))


def test_jax_and_pytorchs_state_dicts_bring_their_decoders_widths(vae: VAE) -> None:
    back = VAE.from_jax(vae.to_jax(), activation="tanh", backend="numpy")
    assert back.arch == vae.arch
    np.testing.assert_array_equal(back.parameters.flat, vae.parameters.flat)
    tensors = {name: np.array(value.T) if value.ndim == 2 else value for name, value in vae.parameters.items()}
    assert VAE.from_torch(tensors, activation="tanh", backend="numpy").arch == vae.arch


def test_a_pytorch_module_has_the_same_outputs(vae: VAE) -> None:
    torch = pytest.importorskip("torch")
    module = vae.to_torch()
    with torch.no_grad():
        logits = module.decode(torch.eye(2, dtype=torch.float64)).numpy()
        mu, _ = module.encode(torch.from_numpy(X.astype(np.float64)))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), vae.decode(np.eye(2)), rtol=1e-12)
    np.testing.assert_allclose(mu.numpy(), vae.encode(X)[0], rtol=1e-10, atol=1e-12)


def test_onnx_halves_have_their_own_depths(vae: VAE, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    encoder, decoder = (onnx.load(path) for path in vae.to_onnx(tmp_path))
    counts = [sum(node.op_type == "Gemm" for node in half.graph.node) for half in (encoder, decoder)]
    assert counts == [3, 3]
    weights = [list(one.dims) for one in decoder.graph.initializer if one.name.endswith("weight")]
    assert weights == [[2, 5], [5, 7], [7, 16]]


def test_scikit_learns_transformer_takes_it() -> None:
    pytest.importorskip("sklearn")
    from vae_np.sklearn import VAETransformer

    own = {"hidden": (4,), "decoder_hidden": (3, 5), "backend": "numpy"}
    found = VAETransformer(latent=1, epochs=1, random_state=0, **own).fit(X)
    assert found.vae_.arch.decoder_widths == (3, 5)


def test_exact_tools_take_it(vae: VAE) -> None:
    decoder = Decoder.of(vae.arch, vae.parameters)
    z = np.array([[0.3, -1.0]])
    np.testing.assert_allclose(decoder.output(z), decode_forward(*vae.model, z)[0])
    assert quadrature.log_likelihood(decoder, X[:2]).converged.all()


def test_numba_and_numpy_train_the_same() -> None:
    from vae_np import backends

    if backends.missing("numba") is not None:
        pytest.skip(str(backends.missing("numba")))
    fitted = []
    for backend in ("numpy", "numba"):
        vae = VAE(16, hidden=(9,), decoder_hidden=(5, 7), latent=2, dtype="float64", backend=backend)
        assert backend == "numpy" or vae.backend.unfused_step(vae.arch, "elbo", 1) is None
        vae.fit(X, epochs=2, batch_size=20)
        fitted.append((vae.parameters.flat, vae.log_likelihood(X[:5], 20).log_likelihood))
    for one, other in zip(*fitted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
