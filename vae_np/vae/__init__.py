"""The whole model as one object: what the command line does, from Python."""

from __future__ import annotations

from vae_np.vae.exchange import Exchange
from vae_np.vae.fitting import Fitting
from vae_np.vae.history import History
from vae_np.vae.imputation import Imputation
from vae_np.vae.inference import Inference
from vae_np.vae.stored import CONFIG_FILE, Stored, architecture_of, save_state, values_of

__all__ = ["CONFIG_FILE", "VAE", "History", "architecture_of", "save_state", "values_of"]


class VAE(Fitting, Inference, Imputation, Stored, Exchange):
    """A variational autoencoder: encoder q(z|x), decoder p(x|z), prior p(z), N(0, I) unless it is learned.

    Inputs `x` are (N, D) or (N, H, W), array-likes or `vae_np.data.Batches` of them. What their numbers mean is a
    property of the model, `values`: decided by `fit` from all rows that it is given, or named, and kept with the model.
    So a row has the same ELBO whatever the other rows are, and an array that does not fit is refused. Before `fit`,
    numbers are grey in [0, 1] for a Bernoulli likelihood, and real for a normal one.

    Where the likelihood is Bernoulli and x is grey, pixels are drawn as 1 with their grey value's probability: anew at
    each visit in `fit`, once and for all in the other methods. With the same seed a method draws the same numbers.
    A seed is a number, or a NumPy Generator, which gives one. `VAE(seed=None)` takes one that nobody has used; in a
    method None is the model's own seed.

    `precision` is what the matrix products of `fit` do to their operands: nothing (`full`), round them to bfloat16
    (`bf16`), or split them into two of it (`bf16x3`); parameters, sums and all other methods stay in float32. Raises
    BackendError where the backend or the processor lacks it.

    In the methods, `values` names what x holds where that is not what the model was fitted to: bytes, [0, 1] and binary
    mean the same pixels. It is a kind (`binary`, `byte`, `unit`, `real`) or a `vae_np.data.Values`.

    `posterior` is the family of q(z|x): a normal with a `diagonal` or a `full` covariance, or a flow of `flow_steps`
    steps, `planar` or `iaf`, whose networks have `flow_hidden` units. [D53] [D55] [D56] A diagonal one may begin where
    the encoder puts it and be refined by `refine_steps` steps of `refine_rate`; in `fit` the gradient goes `through`
    them, or is `stopped`. [D63]

    `prior` is p(z): `standard`, or a learned `mixture` of normals, or `vamp`, the mean of q(z|u) over learned
    pseudo-inputs u; the learned ones have `components` of them. [D77] [D78]

    A model with `conditions` C > 0 is conditional: `fit`, and the methods that take or draw x, need `given`, which is
    labels (N,) of C categories, whole numbers or text, or C columns of numbers (N, C); one label or one row stands for
    all. [D79]

    `columns` are the families of a table's columns, by name: `{"age": "poisson", "colour": {"family": "categorical",
    "levels": ["red", "green"]}}`; x may then be a DataFrame, or a mapping of names to cells. [D66] `missing` takes x
    with cells that have no value, NaN or masked, and says how they reach the encoder: as `zero`, or so and with a
    `mask` that tells it which they are. [D67]

    The model's computations use at most `threads` threads, by default what NUMBA_NUM_THREADS or OMP_NUM_THREADS say, or
    as many as the process may use; results do not depend on their number. Raises InputError (a ValueError) where an
    argument cannot be used.
    """
