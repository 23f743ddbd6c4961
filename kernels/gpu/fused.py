"""Training steps that the host only launches: MLPs, a diagonal normal q, a Bernoulli likelihood. [D29] [D31] [D41]

Their objective is the ELBO, or IWAE's bound of K samples; these lie example by example, as K times the decoder's rows.
What a step needs lies on the device: the data as bytes, the epoch's order, parameters and moments, the step's number
and the learning rate. A kernel at the beginning of a step looks up which rows are due, and one at its end counts the
step, so the same few launches, recorded once as a graph, serve for every step. Nothing is allocated in a step.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import Terms
from vae_np.errors import DeviceError, InputError
from vae_np.optim import adagrad_update
from vae_np.step import Optimiser, TrainingState

from .. import arguments
from ..arguments import ACTIVATIONS, check_batch, check_fused
from ._arrays import blocks, depth_parts, tile
from ._device import Launch, Pending, device

# Steps in one graph: the host launches once for all of them, and launches the steps left over one by one.
GRAPH_STEPS = 25
# Entries of the ring of metrics: the most steps that may be queued before somebody reads them.
SLOTS = 1024
# From so many examples on, a step uses the kernels for large batches outside its products.
_LARGE_BATCH = 512
# Two rows of latents in a block's shared memory, in float64, in addition to 1024 partial sums.
_MOST_LATENTS = 2500
# Rows that a grid's second dimension can have, in tiles of 64.
_MOST_ROWS = 64 * 65_535
_NEVER = 2**64 - 1

# `State` and `WeightTile` of step.cu, in words of eight bytes.
_STATE = np.dtype(
    [(name, "u8") for name in ("step", "seed", "rows", "steps_per_epoch", "slots", "first_bad")]
    + [(name, "f8") for name in ("lr", "beta1", "beta2", "eps", "kl_weight", "warmup_steps")]
    + [(name, "u8") for name in ("draw", "spare")]
)
_WEIGHT_TILE = np.dtype(
    [("x", "u8"), ("da", "u8"), ("weight_at", "i8"), ("bias_at", "i8")]
    + [(name, "i4") for name in ("rows", "inputs", "outputs", "binary", "row0", "column0")]
)
_STATE_WORDS, _METRICS = _STATE.itemsize // 8, 3


def unsupported(arch: Architecture) -> str | None:
    """Why an architecture's steps and evaluation are composed, not fused; None if they are fused."""
    return arguments.unsupported(arch, likelihoods=("bernoulli",), most_latents=_MOST_LATENTS)


class Steps:
    """One architecture, batch size, objective and data set on the device, and the launches that are a step."""

    def __init__(
        self,
        arch: Architecture,
        state: TrainingState,
        batch: int,
        samples: int | None,
        rows: int,
        *,
        ordered: bool,
        placed: bool,
    ) -> None:
        check_fused(unsupported(arch), samples)
        self.arch, self.state, self.batch, self.samples = arch, state, batch, samples
        # The decoder has a row for each sample of each example.
        self.decoded = batch * (samples or 1)
        self.dtype = state.parameters.dtype
        self.is_large = batch >= _LARGE_BATCH
        self.output_edge = tile(self.decoded, arch.features)
        self.weights_edge = 64 if self.is_large else 32
        # The decoder first: with several samples its weights' gradients take longest.
        self._names = [*arch.hidden_layers("decoder"), "decoder.out"]
        self._names += [*arch.hidden_layers("encoder"), "encoder.mu", "encoder.logvar"]
        wanted = self._wanted(rows, ordered, placed)
        _check_memory(wanted, batch, samples)
        if self.decoded > _MOST_ROWS:
            raise InputError(f"batch: got {self.decoded} rows with all samples, expected at most {_MOST_ROWS}")
        # All in one place, so that every later step finds it there.
        self.at = {name: device().empty(shape, dtype) for name, (shape, dtype) in wanted.items()}
        device().write(self.at["weight_tiles"], self._weight_tiles())
        if "arrived" in self.at:
            device().write(self.at["arrived"], np.zeros(wanted["arrived"][0], np.uint32))
        # No kernel writes the padding between tensors, which has to stay zero.
        device().write(self.at["gradients"], np.zeros_like(state.gradients.flat))

    def _wanted(self, rows: int, ordered: bool, placed: bool) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Every buffer by name: its shape and dtype."""
        arch, batch, decoded, real = self.arch, self.batch, self.decoded, self.dtype
        size = self.state.parameters.flat.size
        found: dict[str, tuple[tuple[int, ...], Any]] = {
            "data": ((rows, arch.features), np.uint8),
            "state": ((_STATE_WORDS + _METRICS * SLOTS,), np.uint64),
            "constants": ((10,), np.float64),
            "bits": ((batch, arch.features), np.uint8),
            "index": ((batch, arch.features), np.int32),
            "counts": ((batch,), np.int32),
            "dlogits": ((decoded, arch.features), real),
            "partial": ((decoded, blocks(arch.features, self.output_edge)), np.float64),
        }
        if ordered:
            found["orders"] = ((2, rows), np.uint32)
        if placed:
            found["places"] = ((rows,), np.uint32)
        found |= dict.fromkeys(("parameters", "gradients", "first", "second"), ((size,), real))
        found |= dict.fromkeys(("mu", "logvar", "dmu", "dlogvar"), ((batch, arch.latent), real))
        found |= dict.fromkeys(("eps", "z"), ((decoded, arch.latent), real))
        found |= dict.fromkeys(("kl", "reconstruction"), ((batch,), real))
        if self.samples is not None:
            found |= {"dz": ((decoded, arch.latent), real), "log_w": ((decoded,), np.float64)}
            found |= {"share": ((decoded,), real), "bound": ((batch,), real)}
        weight_tiles, arrived, parts = 0, 0, 0
        for name in self._names:
            rows, (inputs, outputs) = self._rows(name), self.state.parameters[f"{name}.weight"].shape
            if ".hidden." in name:
                found |= dict.fromkeys((name, f"d {name}"), ((rows, outputs), real))
            weight_tiles += blocks(inputs + 1, self.weights_edge) * blocks(outputs, self.weights_edge)
            count, edge = depth_parts(rows, inputs, outputs), tile(rows, inputs)
            if count > 1:
                tiles = blocks(rows, edge) * blocks(inputs, edge)
                arrived, parts = max(arrived, tiles), max(parts, tiles * count * edge**2)
        found["weight_tiles"] = (weight_tiles, _WEIGHT_TILE.itemsize // 8), np.uint64
        if parts > 0:
            found |= {"parts": ((parts,), real), "arrived": ((arrived,), np.uint32)}
        return found

    def _rows(self, layer: str) -> int:
        return self.decoded if layer.startswith("decoder") else self.batch

    def _sources(self, name: str) -> tuple[str, str]:
        """The buffers of a layer's input and of the gradient of its output before the activation."""
        part, kind = name.split(".", 1)
        if kind in ("mu", "logvar"):
            return self.arch.hidden_layers("encoder")[-1], f"d{kind}"
        if kind == "out":
            return self.arch.hidden_layers("decoder")[-1], "dlogits"
        number = int(kind.rsplit(".", 1)[1])
        first = "bits" if part == "encoder" else "z"
        return (first if number == 0 else f"{part}.hidden.{number - 1}"), f"d {name}"

    def _weight_tiles(self) -> Array:
        parameters, found = self.state.parameters, []
        for name in self._names:
            inputs, outputs = parameters[f"{name}.weight"].shape
            # The bias is one more row of the weights.
            corners = np.mgrid[0 : inputs + 1 : self.weights_edge, 0 : outputs : self.weights_edge].reshape(2, -1)
            tiles = np.zeros(corners.shape[1], _WEIGHT_TILE)
            source, gradient = self._sources(name)
            tiles["x"], tiles["da"] = (device().address(self.at[buffer]) for buffer in (source, gradient))
            tiles["weight_at"], tiles["bias_at"] = (parameters.offset(f"{name}.{kind}") for kind in ("weight", "bias"))
            tiles["rows"], tiles["inputs"], tiles["outputs"] = self._rows(name), inputs, outputs
            tiles["binary"], (tiles["row0"], tiles["column0"]) = source == "bits", corners
            found.append(tiles)
        return np.concatenate(found).view(np.uint64).reshape(-1, _WEIGHT_TILE.itemsize // 8)

    def _tensors(self, layer: str) -> tuple[Any, Any]:
        """A layer's weight and bias, as views of the parameters on the device."""
        flat, parameters = self.at["parameters"], self.state.parameters
        first, second = (parameters.offset(f"{layer}.{kind}") for kind in ("weight", "bias"))
        inputs, outputs = parameters[f"{layer}.weight"].shape
        return flat[first : first + inputs * outputs], flat[second : second + outputs]

    def launches(self, *, keep: bool, update: bool) -> list[Launch]:
        """One step: with `keep` its gradients stay, with `update` Adam moves the parameters. [D24] [D29] [D31] [D42]"""
        at, arch, batch, samples, decoded = self.at, self.arch, self.batch, self.samples, self.decoded
        features, latent, activation = arch.features, arch.latent, ACTIVATIONS[arch.activation]
        hidden, decoder_hidden = arch.hidden, arch.decoder_widths
        encoder, decoder = arch.hidden_layers("encoder"), arch.hidden_layers("decoder")
        orders, places = at.get("orders"), at.get("places")
        # The metrics are the end of the state's buffer: one copy brings both home.
        state, metrics = at["state"][:_STATE_WORDS], at["state"][_STATE_WORDS:]
        found: list[Launch] = []

        def add(kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0) -> None:
            found.append(device().prepare(kernel, self.dtype, grid, block, args, shared))

        def forward(layer: str, kernel: str = "affine_forward") -> None:
            source, _ = self._sources(layer)
            inputs, outputs = self.state.parameters[f"{layer}.weight"].shape
            rows = self._rows(layer)
            edge = tile(rows, outputs)
            grid = blocks(outputs, edge), blocks(rows, edge)
            tensors = self._tensors(layer)
            add(f"{kernel}_{edge}", grid, (256,), at[source], *tensors, at[layer], rows, inputs, outputs, activation)

        def back_through(layer: str) -> None:
            """From a layer's own gradient to that of the hidden layer which it reads, or to dz."""
            below, gradient = self._sources(layer)
            inputs, outputs = self.state.parameters[f"{layer}.weight"].shape
            rows = self._rows(layer)
            edge = tile(rows, inputs)
            grid = blocks(inputs, edge), blocks(rows, edge), depth_parts(rows, inputs, outputs)
            through = (None, at["dz"]) if below == "z" else (at[below], at[f"d {below}"])
            kind = ACTIVATIONS["identity"] if below == "z" else activation
            args = at[gradient], self._tensors(layer)[0], *through, rows, inputs, outputs, kind
            add(f"affine_input_gradient_{edge}", grid, (256,), *args, at.get("parts"), at.get("arrived"))

        add(
            "step_begin", (batch + 1,), (256,), state, at["data"], orders, places, batch, features, at["bits"],
            at["index"], at["counts"], at["constants"],
        )  # fmt: skip
        if self.is_large:
            # With so many rows, sums over the active pixels alone would read the weights' rows too often.
            forward("encoder.hidden.0", "binary_forward_dense")
        else:
            add(
                "binary_forward", (batch, blocks(hidden[0], 128)), (256,), at["index"], at["counts"],
                *self._tensors("encoder.hidden.0"), at["encoder.hidden.0"], batch, features, hidden[0], activation,
            )  # fmt: skip
        for layer in encoder[1:]:
            forward(layer)
        last = encoder[-1]
        heads = [*self._tensors("encoder.mu"), *self._tensors("encoder.logvar")]
        width = self.dtype.itemsize
        # A block of the latent kernels has eight examples where there are many rows, if their latents fit into its
        # memory.
        few, examples, threads = (64, 8, 256) if self.is_large and latent <= 256 else (32, 1, 1024)
        # Several samples are drawn by a kernel of their own.
        drawn = (at["eps"], at["z"]) if samples is None else (None, None)
        add(
            f"latent_forward_{few}", (blocks(batch, examples),), (threads,), state, at[last], *heads, orders, places,
            batch, hidden[-1], latent, at["mu"], at["logvar"], *drawn, at["kl"],
            shared=examples * (threads + 2 * latent) * width,
        )  # fmt: skip
        if samples is not None:
            add(
                "bound_sample", (blocks(decoded, 4),), (128,), state, at["mu"], at["logvar"], orders, places, batch,
                samples, latent, at["eps"], at["z"], at["log_w"],
            )  # fmt: skip
        for layer in decoder:
            forward(layer)
        tiles = blocks(features, self.output_edge)
        add(
            f"bernoulli_output_{self.output_edge}", (tiles, blocks(decoded, self.output_edge)), (256,),
            at[decoder[-1]], *self._tensors("decoder.out"), at["bits"], decoded, batch, samples or 1,
            decoder_hidden[-1], features, -1.0 / batch if samples is None else -1.0, at["dlogits"], at["partial"],
        )  # fmt: skip
        if samples is not None:
            # Only now it is known what each row weighs.
            add(
                "bound_weights", (batch,), (128,), at["partial"], tiles, at["constants"], batch, samples, at["log_w"],
                at["share"], at["reconstruction"], at["bound"],
            )  # fmt: skip
            add("scale_rows", (decoded, blocks(features, 256)), (256,), at["share"], at["dlogits"], features)
        back_through("decoder.out")
        for layer in decoder[:0:-1]:
            back_through(layer)
        of_heads = examples * 2 * latent * width
        if samples is None:
            add(
                f"latent_backward_{few}", (blocks(batch, examples),), (threads,), at["d decoder.hidden.0"],
                self._tensors("decoder.hidden.0")[0], at["mu"], at["logvar"], at["eps"], heads[0], heads[2], at[last],
                at["constants"], batch, latent, decoder_hidden[0], hidden[-1], activation, at["dmu"], at["dlogvar"],
                at[f"d {last}"], shared=of_heads,
            )  # fmt: skip
        else:
            back_through("decoder.hidden.0")
            add(
                f"bound_backward_{few}", (blocks(batch, examples),), (threads,), at["dz"], at["share"], at["z"],
                at["eps"], at["logvar"], heads[0], heads[2], at[last], at["constants"], batch, samples, latent,
                hidden[-1], activation, at["dmu"], at["dlogvar"], at[f"d {last}"], shared=of_heads,
            )  # fmt: skip
        for layer in encoder[:0:-1]:
            back_through(layer)
        add(
            f"step_weights_{self.weights_edge}", (len(at["weight_tiles"]) + 1,), (256,), state, at["weight_tiles"],
            batch, at["gradients"] if keep else None, at["parameters"], at["first"], at["second"], at["constants"],
            int(update), at["partial"], tiles, at["kl"], at.get("bound"), at["reconstruction"], metrics,
        )  # fmt: skip
        return found

    def _buffers(self) -> list[tuple[Any, Array]]:
        state = self.state
        return [
            (self.at["parameters"], state.parameters.flat),
            (self.at["first"], state.first_moment.flat),
            (self.at["second"], state.second_moment.flat),
        ]

    def push(self) -> None:
        """Parameters and moments from the host."""
        for there, here in self._buffers():
            device().write(there, here)

    def pull(self, *, steps: int = 0) -> None:
        """Parameters and moments to the host, once all queued steps are done, and so many steps more on its count.

        An interrupt is heard after a call: from the first assignment on there is none, so that all is done or nothing.
        """
        state, buffers = self.state, self._buffers()
        into = [here for _, here in buffers]
        parameters, first, second = (device().get(there) for there, _ in buffers)
        into[0][...], into[1][...], into[2][...] = parameters, first, second
        state.step += steps

    def begin(self, seed: int, optimiser: Optimiser, *, rows: int, beta: float, warmup: int, draw: bool) -> None:
        """Write what the steps share, from the state's own step on."""
        words = np.zeros(1, _STATE)
        values: dict[str, Any] = {
            "step": self.state.step, "seed": seed, "rows": rows, "steps_per_epoch": rows // self.batch,
            "slots": SLOTS, "first_bad": _NEVER, "lr": optimiser.lr, "beta1": optimiser.beta1,
            "beta2": optimiser.beta2, "eps": optimiser.eps, "kl_weight": beta, "warmup_steps": warmup, "draw": draw,
        }  # fmt: skip
        for name, value in values.items():
            words[name] = value
        device().write(self.at["state"][:_STATE_WORDS], words.view(np.uint64))


def _check_memory(wanted: dict[str, tuple[tuple[int, ...], Any]], batch: int, samples: int | None) -> None:
    sizes = {name: int(np.prod(shape)) * np.dtype(dtype).itemsize for name, (shape, dtype) in wanted.items()}
    free, total = device().memory()
    if sum(sizes.values()) <= free:
        return
    data = sum(sizes.get(name, 0) for name in ("data", "orders", "places"))
    model = sum(sizes[name] for name in ("parameters", "gradients", "first", "second"))
    mib = 2**20
    of_batch, less = f"a batch of {batch}", "a smaller batch or model needs less"
    if samples is not None:
        of_batch, less = f"{of_batch} with {samples} samples each", f"fewer samples, {less}"
    raise DeviceError(
        f"too little memory on the device: training needs {sum(sizes.values()) / mib:.0f} MiB (data {data / mib:.0f}, "
        f"model and moments {model / mib:.0f}, {of_batch} {(sum(sizes.values()) - data - model) / mib:.0f}), "
        f"and {free / mib:.0f} of {total / mib:.0f} MiB are free; {less}, and --backend numba needs none"
    )


class FusedStep:
    """The training step of one architecture, state and batch size, on batches that the host has.

    The objective is the ELBO, or with `samples` IWAE's bound of that many samples. It changes the same buffers as
    `vae_np.step.training_step` and returns the same terms, within the kernels' tolerance; so everything travels to the
    device and back at each call. `FusedRun` is what trains fast. Raises InputError for an architecture that has no
    fused step, and for fewer than one sample.
    """

    def __init__(self, arch: Architecture, state: TrainingState, batch: int, samples: int | None = None) -> None:
        check_fused(unsupported(arch), samples)
        self._model = arch, state, batch, samples
        self._launches: dict[tuple[bool, bool], list[Launch]] = {}
        self._finite = True

    @cached_property
    def _steps(self) -> Steps:
        # Memory is taken at the first call: a training that runs ahead never makes one.
        arch, state, batch, samples = self._model
        return Steps(arch, state, batch, samples, batch, ordered=False, placed=True)

    def __call__(
        self,
        x: Array,
        rows: Array,
        *,
        seed: int,
        optimiser: Optimiser,
        beta: float = 1.0,
        grey: bool = False,
        keep_gradients: bool = False,
    ) -> Terms:
        """Update the state on the batch x (B, D), bytes: binary, or with `grey` 0..255, drawn from BINARIZE here.

        `rows` (B,) are the examples' places in their data set. The gradients of a step are left in the state only if
        asked for (Adagrad needs them). [D24] [D29] [D31]
        """
        _, state, _, _ = self._model
        steps = self._steps
        is_adam = optimiser.name == "adam"
        kind = keep_gradients or not is_adam, is_adam
        self._launch(kind, x, rows, seed, optimiser, beta, grey)
        found = device().get(steps.at["state"])[:_STATE_WORDS].view(_STATE)
        self._finite = int(found["first_bad"][0]) == _NEVER
        if kind[0]:
            state.gradients.flat[...] = device().get(steps.at["gradients"])
        if is_adam:
            steps.pull(steps=1)
        else:
            adagrad_update(state.parameters.flat, state.gradients.flat, state.second_moment.flat, lr=optimiser.lr)
            state.step += 1
            self._finite &= bool(np.isfinite(state.parameters.flat.sum() + state.second_moment.flat.sum()))
        return self._terms()

    def gradients(self, x: Array, rows: Array, *, seed: int, beta: float = 1.0, grey: bool = False) -> Terms:
        """The part of a step that moves nothing: the gradient of the batch's mean goes into the state's. [D24] [D29]"""
        self._launch((True, False), x, rows, seed, Optimiser(), beta, grey)
        self._model[1].gradients.flat[...] = device().get(self._steps.at["gradients"])
        return self._terms()

    def _launch(
        self, kind: tuple[bool, bool], x: Array, rows: Array, seed: int, optimiser: Optimiser, beta: float, grey: bool
    ) -> None:
        """Bring state and batch to the device, and launch a step that keeps its gradients, and updates, or not."""
        arch, _, batch, _ = self._model
        check_batch(x, arch, batch)
        steps = self._steps
        if kind not in self._launches:
            self._launches[kind] = steps.launches(keep=kind[0], update=kind[1])
        self._push()
        steps.begin(seed, optimiser, rows=batch, beta=beta, warmup=0, draw=grey)
        device().write(steps.at["data"], x)
        device().write(steps.at["places"], np.asarray(rows).astype(np.uint32))
        for launch in self._launches[kind]:
            launch()

    def _push(self) -> None:
        self._steps.push()

    def _terms(self) -> Terms:
        names = ("reconstruction", "kl") if self._model[3] is None else ("reconstruction", "kl", "bound")
        return Terms(*(device().get(self._steps.at[name]) for name in names))

    @property
    def finite(self) -> bool:
        """Whether the last step's terms, and the parameters and second moments that it left, are all finite."""
        return self._finite


class Queued:
    """Steps that are on their way: their metrics, once the device has come to their end."""

    def __init__(self, pending: Pending, first: int, count: int, terms: int) -> None:
        self._pending, self._terms = pending, terms
        self.first, self.count = first, count

    def result(self) -> tuple[Terms, int | None]:
        """The mean terms of each step, (count,) each, and the number of the first step that was not finite, if any.

        Waits until the steps are done. Raises DeviceError where the device failed at any of them.
        """
        words = self._pending.result()
        ring = words[_STATE_WORDS:].view(np.float64).reshape(SLOTS, _METRICS)
        metrics = ring[(self.first + np.arange(self.count)) % SLOTS]
        bad = int(words[:_STATE_WORDS].view(_STATE)["first_bad"][0])
        return Terms(*metrics[:, : self._terms].T.copy()), None if bad == _NEVER else bad


class FusedRun:
    """Steps on a data set that stays on the device: the host gives an epoch's order, and launches.

    The objective is the ELBO, or with `samples` IWAE's bound of that many samples. `data` (N, D) are bytes: binary, or
    with `draw` grey ones, which are binarised anew at every visit. The state's buffers on the host are what the run
    starts from; they are up to date again after `pull`. `state.step` counts the steps that were queued. Only Adam runs
    on the device. Raises InputError, or DeviceError where memory is too small.
    """

    def __init__(
        self,
        arch: Architecture,
        state: TrainingState,
        batch: int,
        data: Array,
        *,
        seed: int,
        optimiser: Optimiser,
        beta: float = 1.0,
        beta_warmup: int = 0,
        draw: bool = False,
        samples: int | None = None,
    ) -> None:
        if optimiser.name != "adam":
            raise InputError(f"optimizer: got {optimiser.name!r}, expected 'adam' for steps on the device")
        if data.ndim != 2 or data.shape[1] != arch.features or data.dtype != np.uint8 or len(data) < batch:
            expected = f"uint8 of ({batch} or more, {arch.features})"
            raise InputError(f"data: got {data.dtype} of shape {data.shape}, expected {expected}")
        self.state = state
        self._steps = Steps(arch, state, batch, samples, len(data), ordered=True, placed=False)
        self._terms = 2 if samples is None else 3
        device().write(self._steps.at["data"], np.ascontiguousarray(data))
        self._steps.push()
        self._steps.begin(seed, optimiser, rows=len(data), beta=beta, warmup=beta_warmup, draw=draw)
        self._lr = optimiser.lr
        # What a step is, in order.
        self.launches = self._steps.launches(keep=False, update=True)
        self._graphs: dict[int, Launch] = {}

    def order(self, epoch: int, order: Array) -> None:
        """The order (N,) of an epoch's rows, before its first step is queued. [D39]"""
        device().write(self._steps.at["orders"][epoch % 2], np.asarray(order).astype(np.uint32))

    def learning_rate(self, lr: float) -> None:
        """The learning rate of all steps that are queued from now on."""
        if lr != self._lr:
            place = list(_STATE.fields or ()).index("lr")
            device().write(self._steps.at["state"][place : place + 1], np.array([lr]).view(np.uint64))
            self._lr = lr

    def steps(self, count: int) -> Queued:
        """Queue `count` steps, at most SLOTS, all of one epoch; returns at once, with what to wait for."""
        if not 0 < count <= SLOTS:
            raise InputError(f"count: got {count}, expected 1 to {SLOTS} steps at once")
        first = self.state.step
        for length in (GRAPH_STEPS, 1):
            while count - (self.state.step - first) >= length:
                self._graph(length)()
                self.state.step += length
        return Queued(device().fetch(self._steps.at["state"]), first, count, self._terms)

    def _graph(self, length: int) -> Launch:
        if length not in self._graphs:
            self._graphs[length] = device().graph(self.launches, length)
        return self._graphs[length]

    def push(self) -> None:
        """Go on from the parameters and moments that the state has on the host."""
        self._steps.push()

    def pull(self) -> None:
        """Bring the state's parameters and moments up to date on the host."""
        self._steps.pull()
