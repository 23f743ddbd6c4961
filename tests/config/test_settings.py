"""Settings: defaults, messages, TOML, the command line's text, and the shipped files.

Budget: about 2 s.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_np import backends, choices, config
from vae_np.choices import BINARIZATIONS, LIKELIHOODS, OBJECTIVES, PRECISIONS
from vae_np.config import Config
from vae_np.data import BINARY, BYTE, REAL, Values
from vae_np.errors import ConfigError, MissingFileError
from vae_np.layers import ACTIVATIONS as LAYER_ACTIVATIONS
from vae_np.likelihoods import FAMILIES

TEXT = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
DECAY = st.floats(min_value=0, max_value=1, exclude_max=True)
SIZE = st.integers(1, 2**31 - 1)
PRECISE = [{"dtype": dtype} for dtype in choices.DTYPES] + [{"precision": name} for name in PRECISIONS]
CONFIGS = st.builds(
    lambda precise, **rest: Config(**rest, **precise),
    precise=st.sampled_from(PRECISE),
    data=TEXT,
    # typed on the command line, "none" is no file
    test_data=st.none() | TEXT.filter(lambda text: text != "none"),
    labels=st.none() | TEXT.filter(lambda text: text != "none"),
    image_shape=st.none() | st.tuples(SIZE, SIZE),
    values=st.sampled_from((None, "unit")),
    scale=st.none() | POSITIVE,
    hidden=st.lists(SIZE, max_size=4).map(tuple),
    decoder_hidden=st.none() | st.lists(SIZE, max_size=4).map(tuple),
    latent=SIZE,
    activation=st.sampled_from(choices.ACTIVATIONS),
    init=st.sampled_from(choices.INITIALISATIONS),
    likelihood=st.sampled_from((*LIKELIHOODS, "poisson", "student-t")),
    missing=st.none() | st.sampled_from(choices.MISSINGS),
    sigma=POSITIVE,
    binarize=st.sampled_from(BINARIZATIONS),
    epochs=st.integers(1, 3280),
    batch_size=SIZE,
    optimizer=st.sampled_from(choices.OPTIMIZERS),
    lr=POSITIVE,
    schedule=st.sampled_from(choices.SCHEDULES),
    adam_beta1=DECAY,
    adam_beta2=DECAY,
    adam_eps=POSITIVE,
    objective=st.sampled_from(OBJECTIVES),
    samples=st.integers(2, 2**24 - 1),
    beta=st.floats(min_value=0, allow_infinity=False),
    beta_warmup=st.integers(0, 2**31 - 1),
    validation=st.none() | st.integers(0, 2**31 - 1),
    z_samples=st.integers(1, 2**24 - 1),
    backend=st.sampled_from(backends.CHOICES),
    seed=st.integers(0, 2**64 - 1),
)


def test_defaults_are_the_documented_ones() -> None:
    assert Config().to_mapping() == {
        "data": "mnist",
        "standardize": False,
        "hidden": [400],
        "latent": 20,
        "activation": "relu",
        "init": "uniform",
        "inference": "amortized",
        "posterior": "diagonal",
        "refine_steps": 0,
        "prior": "standard",
        "likelihood": "bernoulli",
        "sigma": 1.0,
        "epochs": 10,
        "batch_size": 128,
        "gradient_blocks": 1,
        "optimizer": "adam",
        "lr": 1e-3,
        "schedule": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_eps": 1e-8,
        "objective": "elbo",
        "samples": 1,
        "beta": 1.0,
        "beta_warmup": 0,
        "z_samples": 1,
        "dtype": "float32",
        "precision": "full",
        "backend": "auto",
        "seed": 0,
    }
    absent = (
        *("test_data", "labels", "image_shape", "values", "scale", "binarize", "validation"),
        *("flow_steps", "flow_hidden", "refine_rate", "refine_gradient", "top_latent", "top_hidden"),
        *("columns", "missing"),
        *("components", "given"),
    )
    assert [getattr(Config(), name) for name in absent] == [None] * len(absent)


def test_binarization_follows_the_likelihood_unless_it_is_given() -> None:
    assert Config().binarization == "dynamic"
    assert Config(likelihood="normal").binarization == "none"
    assert Config(binarize="threshold").binarization == "threshold"
    assert Config(binarize=config.parse_field("binarize", "none")).binarization == "none"


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 0.1  # type: ignore[misc]


def test_every_activation_has_a_layer() -> None:
    assert set(choices.ACTIVATIONS) <= set(LAYER_ACTIVATIONS)


WHOLE, WHOLE0 = "expected a whole number >= 1", "expected a whole number >= 0"
HIDDEN = "expected sizes >= 1, such as 400 or 500,500"
BAD_VALUES = [
    ("lr", -0.1, "lr: got -0.1, expected a number > 0"),
    ("lr", 0, "lr: got 0, expected a number > 0"),
    ("lr", float("nan"), "lr: got nan, expected a number > 0 (finite)"),
    ("lr", float("inf"), "lr: got inf, expected a number > 0 (finite)"),
    ("lr", True, "lr: got True, expected a number > 0"),
    ("lr", "0.1", "lr: got '0.1', expected a number > 0"),
    ("lr", None, "lr: got None, expected a number > 0"),
    ("lr", np.float32(-1), "lr: got -1.0, expected a number > 0"),
    ("lr", 10**400, f"lr: got 1{'0' * 56}..., expected a number > 0"),
    ("sigma", 0.0, "sigma: got 0.0, expected a number > 0"),
    ("beta", -1e-9, "beta: got -1e-09, expected a number >= 0"),
    ("beta", float("nan"), "beta: got nan, expected a number >= 0 (finite)"),
    ("adam_beta1", 1.0, "adam_beta1: got 1.0, expected a number >= 0 and < 1"),
    ("adam_beta2", -0.5, "adam_beta2: got -0.5, expected a number >= 0 and < 1"),
    ("adam_eps", 0.0, "adam_eps: got 0.0, expected a number > 0"),
    ("epochs", 0, f"epochs: got 0, {WHOLE}"),
    ("epochs", 10.0, f"epochs: got 10.0, {WHOLE}"),
    ("epochs", True, f"epochs: got True, {WHOLE}"),
    ("batch_size", -128, f"batch_size: got -128, {WHOLE}"),
    ("gradient_blocks", 0, f"gradient_blocks: got 0, {WHOLE}"),
    ("latent", 0, f"latent: got 0, {WHOLE}"),
    ("z_samples", 0, f"z_samples: got 0, {WHOLE}"),
    ("samples", 0, f"samples: got 0, {WHOLE}"),
    (
        "objective",
        "iwea",
        "objective: got 'iwea', expected one of elbo, iwae, stl, dreg, score (did you mean 'iwae'?)",
    ),
    ("schedule", "burda", "schedule: got 'burda', expected one of constant, burda2015 (did you mean 'burda2015'?)"),
    ("beta_warmup", -1, f"beta_warmup: got -1, {WHOLE0}"),
    ("validation", -1, f"validation: got -1, {WHOLE0}, or none"),
    ("seed", -1, f"seed: got -1, {WHOLE0} and < 2**64"),
    ("seed", 2**64, f"seed: got 18446744073709551616, {WHOLE0} and < 2**64"),
    ("hidden", (400, 0), f"hidden: got 400,0, {HIDDEN}"),
    ("hidden", [400, -1], f"hidden: got [400, -1], {HIDDEN}"),
    ("hidden", [400, 2.5], f"hidden: got [400, 2.5], {HIDDEN}"),
    ("decoder_hidden", (400, 0), f"decoder_hidden: got 400,0, {HIDDEN}"),
    ("hidden", "400", f"hidden: got '400', {HIDDEN}"),
    ("latent", 2**31, f"latent: got 2147483648, {WHOLE} and < 2**31"),
    ("epochs", 10**30, f"epochs: got 1{'0' * 30}, {WHOLE} and < 2**31"),
    ("validation", 10**30, f"validation: got 1{'0' * 30}, {WHOLE0} and < 2**31, or none"),
    ("samples", 2**24, f"samples: got 16777216, {WHOLE} and < 2**24"),
    ("precision", "fp8", "precision: got 'fp8', expected one of full, bf16, bf16x3"),
    ("z_samples", 10**9, f"z_samples: got 1000000000, {WHOLE} and < 2**24"),
    ("data", "gr\udcffn.npy", "data: got 'gr\\udcffn.npy', expected the name of a built-in data set or the path of a "
     "file or folder in UTF-8"),
    ("image_shape", (28,), "image_shape: got 28, expected a height and a width, such as 28,28, or none"),
    ("image_shape", (28, 0), "image_shape: got 28,0, expected a height and a width, such as 28,28, or none"),
    ("values", "xyz", "values: got 'xyz', expected one of binary, byte, unit, real, or none"),
    ("values", "reel", "values: got 'reel', expected one of binary, byte, unit, real, or none (did you mean 'real'?)"),
    ("scale", 0, "scale: got 0, expected a number > 0, or none"),
    ("scale", float("inf"), "scale: got inf, expected a number > 0, or none (finite)"),
    ("standardize", "yes", "standardize: got 'yes', expected true or false"),
    ("standardize", 1, "standardize: got 1, expected true or false"),
    ("data", " ", "data: got ' ', expected the name of a built-in data set or the path of a file or folder"),
    ("data", 3, "data: got 3, expected the name of a built-in data set or the path of a file or folder"),
    ("labels", "", "labels: got '', expected the name of a column, or none"),
    ("test_data", "", "test_data: got '', expected the path of a file, or none"),
    (
        "activation",
        "rleu",
        "activation: got 'rleu', expected one of relu, tanh, softplus (did you mean 'relu'?)",
    ),
    (
        "activation",
        "TANH",
        "activation: got 'TANH', expected one of relu, tanh, softplus (did you mean 'tanh'?)",
    ),
    ("activation", 3, "activation: got 3, expected one of relu, tanh, softplus"),
    ("activation", "identity", "activation: got 'identity', expected one of relu, tanh, softplus"),
    ("backend", "torch", "backend: got 'torch', expected one of auto, numpy, numba, cupy"),
    (
        "inference",
        "amortised",
        "inference: got 'amortised', expected one of amortized, local (did you mean 'amortized'?)",
    ),
    (
        "posterior",
        "fulll",
        "posterior: got 'fulll', expected one of diagonal, full, planar, iaf (did you mean 'full'?)",
    ),
    ("flow_steps", 0, f"flow_steps: got 0, {WHOLE}, or none"),
    ("flow_hidden", 0, f"flow_hidden: got 0, {WHOLE}, or none"),
    ("refine_steps", -1, "refine_steps: got -1, expected a whole number >= 0"),
    ("refine_rate", 0, "refine_rate: got 0, expected a number > 0, or none"),
    (
        "refine_gradient",
        "half",
        "refine_gradient: got 'half', expected one of through, stopped, or none",
    ),
    ("top_latent", 0, f"top_latent: got 0, {WHOLE}, or none"),
    ("top_hidden", (100, 0), "top_hidden: got 100,0, expected sizes >= 1, such as 100 or 100,100"),
    ("prior", "vampp", "prior: got 'vampp', expected one of standard, mixture, vamp (did you mean 'vamp'?)"),
    ("components", 0, f"components: got 0, {WHOLE}, or none"),
    ("given", "", "given: got '', expected labels, or the path of a file, or none"),
    (
        "likelihood",
        "bernouli",
        "likelihood: got 'bernouli', expected one of bernoulli, bernoulli-grey, normal, normal-fixed, "
        "normal-diagonal, continuous-bernoulli, poisson, negative-binomial, discretized-logistic, student-t, columns "
        "(did you mean 'bernoulli'?)",
    ),
    ("columns", {"a": "gamma"}, f"columns: 'a' has the family 'gamma', expected one of {', '.join(FAMILIES)}"),
    ("missing", "fill", "missing: got 'fill', expected one of zero, mask, or none"),
    (
        "binarize",
        "static",
        "binarize: got 'static', expected one of dynamic, fixed, threshold, none",
    ),
    (
        "dtype",
        "float16",
        "dtype: got 'float16', expected one of float32, float64 (did you mean 'float64'?)",
    ),
    ("optimizer", "Adam", "optimizer: got 'Adam', expected one of adam, adagrad (did you mean 'adam'?)"),
    ("init", "zeros", "init: got 'zeros', expected one of uniform, glorot"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES)
def test_a_bad_value_is_one_clear_line(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.from_mapping({name: value})
    assert str(error.value) == message


def test_every_field_has_a_bad_value_in_the_table() -> None:
    assert {name for name, _, _ in BAD_VALUES} == {option.name for option in config.options()}


def test_a_long_or_broken_value_stays_one_short_line() -> None:
    with pytest.raises(ConfigError) as error:
        Config(activation="a\nb" * 1000)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 150


def test_values_come_in_their_own_type() -> None:
    made = Config.from_mapping(
        {
            "hidden": [np.int64(500), 300],
            "lr": 1,
            "epochs": np.int32(3),
            "image_shape": [28, 28],
            "data": Path("x.npy"),
        }
    )
    assert made == Config(hidden=(500, 300), lr=1.0, epochs=3, image_shape=(28, 28), data="x.npy")
    kinds = (type(made.hidden), type(made.hidden[0]), type(made.lr), type(made.epochs), type(made.data))
    assert kinds == (tuple, int, float, int, str)
    assert Config.from_mapping({"hidden": 400}) == Config()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lrr", "key: got 'lrr', expected the name of a setting (did you mean 'lr'?)"),
        ("batch-size", "key: got 'batch-size', expected the name of a setting (did you mean 'batch_size'?)"),
        ("Epoch", "key: got 'Epoch', expected the name of a setting (did you mean 'epochs'?)"),
    ],
)
def test_an_unknown_key_names_the_closest(key: str, message: str) -> None:
    for build in (Config.from_mapping, lambda keys: config.merge(Config(), keys)):
        with pytest.raises(ConfigError) as error:
            build({key: 1})
        assert str(error.value) == message


def test_an_unknown_key_that_is_like_none_lists_them_all() -> None:
    with pytest.raises(
        ConfigError, match=r"key: got 'xyzzy', expected one of data, .*, seed$"
    ):
        Config.from_mapping({"xyzzy": 1})


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_round_trips_are_exact(made: Config) -> None:
    assert Config.from_mapping(tomllib.loads(made.to_toml())) == made
    typed = {}
    for option in config.options():
        value = getattr(made, option.name)
        if option.name in ("decoder_hidden", "top_hidden") and value is None:
            # Left out: none stands for no layer.
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        typed[option.name] = config.parse_field(option.name, "none" if value in (None, ()) else text)
    assert Config(**typed) == made


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("hidden", "500,500", (500, 500)),
        ("hidden", "200", (200,)),
        ("hidden", "none", ()),
        ("image_shape", "28,20", (28, 20)),
        ("image_shape", "none", None),
        ("validation", "none", None),
        ("validation", "0", 0),
        ("lr", "3e-4", 3e-4),
        ("lr", "1", 1.0),
        ("binarize", "none", "none"),
        ("values", "none", None),
        ("scale", "16", 16.0),
        ("standardize", "true", True),
        ("seed", str(2**64 - 1), 2**64 - 1),
    ],
)
def test_text_from_the_command_line(name: str, text: str, value: object) -> None:
    parsed = config.parse_field(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lr", "fast", "lr: got 'fast', expected a number > 0"),
        ("lr", "nan", "lr: got nan, expected a number > 0 (finite)"),
        ("lr", "-0.1", "lr: got -0.1, expected a number > 0"),
        ("epochs", "1e3", f"epochs: got '1e3', {WHOLE}"),
        ("epochs", "none", f"epochs: got 'none', {WHOLE}"),
        ("hidden", "500,,500", f"hidden: got '500,,500', {HIDDEN}"),
        ("hidden", "500,0", f"hidden: got 500,0, {HIDDEN}"),
        (
            "image_shape",
            "28x28",
            "image_shape: got '28x28', expected a height and a width, such as 28,28, or none",
        ),
        ("seed", "-1", f"seed: got -1, {WHOLE0} and < 2**64"),
        ("hiden", "1", "key: got 'hiden', expected the name of a setting (did you mean 'hidden'?)"),
    ],
)
def test_bad_text_from_the_command_line(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.parse_field(name, text)
    assert str(error.value) == message


def test_options_describe_every_field() -> None:
    options = {option.name: option for option in config.options()}
    assert list(options) == [field.name for field in dataclasses.fields(Config)]
    assert options["batch_size"].flag == "--batch-size"
    assert options["hidden"].default_text == "400"
    assert options["validation"].default_text == ""
    assert options["activation"].usage == (
        "Activation of the hidden layers. One of relu, tanh, softplus. (default: relu)"
    )
    assert options["latent"].usage == "Latent dimensions. (default: 20)"
    assert options["test_data"].usage == options["test_data"].help
    for option in options.values():
        assert option.help.endswith(".")
        assert option.metavar or isinstance(option.kind, config.Flag)
        if option.default is not None:
            assert option.parse(option.default_text) == option.default


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": "byte", "scale": 16.0}, "scale: got 16, expected 255 for values 'byte'"),
        ({"values": "real", "scale": 16.0}, "scale: got 16, but values 'real' have none"),
        ({"standardize": True}, "standardize: got true with likelihood 'bernoulli', expected a normal one"),
        ({"standardize": True, "likelihood": "normal", "values": "byte"}, "standardize: got true with values 'byte'"),
        ({"standardize": True, "likelihood": "normal", "scale": 2.0}, "standardize: got true with scale 2"),
    ],
)
def test_values_scale_and_standardisation_have_to_belong_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Config(**settings)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (BYTE, ("byte", 255.0)),
        (Values("unit", 16.0), ("unit", 16.0)),
        (BINARY, ("binary", None)),
        (REAL, ("real", None)),
    ],
)
def test_decided_values_are_kept_and_come_back(values: Values, kept: tuple[str, float | None]) -> None:
    made = Config(likelihood="normal").with_values(values)
    assert (made.values, made.scale) == kept
    assert Config.from_mapping(tomllib.loads(made.to_toml())) == made
    assert (Values.named(made.values, made.scale).kind, Values.named(made.values, made.scale).scale) == (
        values.kind,
        values.scale,
    )


def test_standardisation_is_a_truth_value_in_toml() -> None:
    made = Config(likelihood="normal", standardize=True)
    assert "standardize = true\n" in made.to_toml()
    assert Config.from_mapping(tomllib.loads(made.to_toml())) == made


def test_merge_lets_the_overrides_win() -> None:
    base = Config(lr=0.1, validation=100, hidden=(3, 2))
    assert config.merge(base, {"lr": 0.2, "validation": None}) == Config(lr=0.2, hidden=(3, 2))
    assert config.merge(base, {}) == base
    with pytest.raises(ConfigError, match=r"^lr: got -1, expected a number > 0$"):
        config.merge(base, {"lr": -1})


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('hidden = [500, 500]\nlr = 1\nbinarize = "fixed"\n')
    expected = Config(hidden=(500, 500), lr=1.0, binarize="fixed")
    assert config.load_toml(path) == config.load(path) == config.load(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lr = ", "not valid TOML: Invalid value (at end of document)"),
        (
            b"lr = \xff",
            "not valid TOML: 'utf-8' codec can't decode byte 0xff in position 5: invalid start byte",
        ),
        (b"lr = -1", "lr: got -1, expected a number > 0"),
        (b"lr = nan", "lr: got nan, expected a number > 0 (finite)"),
        (b"epochs = '3'", f"epochs: got '3', {WHOLE}"),
        (b"epoch = 3", "key: got 'epoch', expected the name of a setting (did you mean 'epochs'?)"),
        (b"[hidden]\nsize = 3", f"hidden: got {{'size': 3}}, {HIDDEN}"),
        (b"a = " + b"[" * 20_000, "brackets are nested too deeply to be read"),
        (b"a.b = 1\n" + b"#" * 1_000_000, "got more than 1000000 bytes, expected a file of settings"),
    ],
)
def test_a_bad_toml_file_is_one_line_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        config.load(path)
    assert str(error.value) == f"config: {path}: {message}"


def test_a_mark_that_a_file_is_utf_8_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_bytes("\ufefflatent = 3\n".encode())
    assert config.load(path) == Config(latent=3)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_a_device_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ConfigError, match=r"^config: /dev/zero: got more than 1000000 bytes, expected a file of setti"):
        config.load("/dev/zero")


def test_a_config_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError) as missing:
        config.load("mine.toml")
    assert str(missing.value) == "config: mine.toml: there is no such file"
    with pytest.raises(ConfigError) as unknown:
        config.load("kingma")
    assert str(unknown.value) == (
        "config: got 'kingma', expected a .toml file or one of burda2015-full, burda2015-iwae5, burda2015-iwae50, "
        "burda2015-planar, burda2015-two-layers-iwae5, burda2015-two-layers-vae, burda2015-vae, kingma2014, "
        "pytorch-example "
        "(did you mean 'kingma2014'?)"
    )
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^config: folder\.toml: cannot be read \(.+\)$"):
        config.load("folder.toml")


def test_shipped_configs() -> None:
    assert config.shipped() == (
        "burda2015-full",
        "burda2015-iwae5",
        "burda2015-iwae50",
        "burda2015-planar",
        "burda2015-two-layers-iwae5",
        "burda2015-two-layers-vae",
        "burda2015-vae",
        "kingma2014",
        "pytorch-example",
    )
    grey = Config(likelihood="bernoulli-grey", binarize="none", validation=0)
    assert config.load("pytorch-example") == grey
    assert config.load("kingma2014") == Config(
        hidden=(500,),
        activation="tanh",
        binarize="dynamic",
        batch_size=100,
        optimizer="adagrad",
        lr=0.02,
        epochs=100,
        validation=0,
    )
    burda = Config(
        hidden=(200, 200),
        latent=50,
        activation="tanh",
        init="glorot",
        binarize="dynamic",
        epochs=3280,
        batch_size=20,
        schedule="burda2015",
        adam_eps=5e-6,
        validation=0,
    )
    assert config.load("burda2015-vae") == burda
    for samples in (5, 50):
        expected = dataclasses.replace(burda, objective="iwae", samples=samples)
        assert config.load(f"burda2015-iwae{samples}") == expected
    assert config.load("burda2015-full") == dataclasses.replace(burda, posterior="full")
    assert config.load("burda2015-planar") == dataclasses.replace(burda, posterior="planar", flow_steps=10)
    layers = dataclasses.replace(burda, latent=100, top_latent=50, top_hidden=(100, 100))
    assert config.load("burda2015-two-layers-vae") == layers
    assert config.load("burda2015-two-layers-iwae5") == dataclasses.replace(layers, objective="iwae", samples=5)


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"^samples: got 1, expected at least 2 for objective score, whose baseline"):
        Config(objective="score")
    for own in ({"samples": 5}, {"objective": "iwae", "samples": 5}, {"objective": "dreg"}):
        with pytest.raises(ConfigError, match=r"^objective: got '\w+' with [15] samples, expected elbo with 1"):
            Config(inference="local", **own)
    with pytest.raises(ConfigError, match=r"^epochs: got 3281, expected at most the 3280 of schedule burda2015$"):
        Config(schedule="burda2015", epochs=3281)
    assert Config(epochs=3281).epochs == 3281


@pytest.mark.parametrize(("text", "stages"), [("1-1", 1), ("1-5", 5), ("1-8", 8)])
def test_stages_are_counted_from_the_first(text: str, stages: int) -> None:
    assert config.parse_stages(text) == stages


@pytest.mark.parametrize("text", ["", "5", "1-", "1-0", "1-9", "2-5", "-5", "1-5-8", "1-five", "1-²"])
def test_other_stages_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^stages: got '.*', expected 1-N with N from 1 to 8, such as 1-5$"):
        config.parse_stages(text)


@pytest.mark.parametrize(
    ("epochs", "shortened"),
    [
        (0, "broken off in stage 1 of 8, 0 of 3280 epochs"),
        (1, "stages 1-1 of 8, 1 of 3280 epochs"),
        (2, "broken off in stage 2 of 8, 2 of 3280 epochs"),
        (121, "stages 1-5 of 8, 121 of 3280 epochs"),
        (3279, "broken off in stage 8 of 8, 3279 of 3280 epochs"),
        (3280, None),
    ],
)
def test_a_run_that_has_not_its_whole_schedule_says_so(epochs: int, shortened: str | None) -> None:
    whole = Config(schedule="burda2015", epochs=3280)
    assert whole.shortened(epochs) == shortened
    assert (whole.shortened(), Config().shortened(), Config().shortened(1)) == (None, None, None)
    if epochs:
        part = dataclasses.replace(whole, epochs=epochs)
        assert part.shortened() == shortened
        first = part.to_toml().splitlines()[0]
        assert first == ('data = "mnist"' if shortened is None else f"# Shortened: {shortened}.")


def test_import_is_light() -> None:
    code = "import sys, vae_np.config; print(sorted({'tomli_w', 'tomllib', 'typer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
