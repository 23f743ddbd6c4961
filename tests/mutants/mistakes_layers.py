"""Mistakes in layers and in the operations of the contract."""

from __future__ import annotations

from . import checks_exact as exact
from . import checks_gradients as gradients
from .checks_exact import FORMS
from .plant import Edit, Mutant

AFFINE, RELU, TANH, SOFTPLUS = (gradients.pair(name) for name in ("affine", "relu", "tanh", "softplus"))
MLP, REPARAM = gradients.pair("mlp, tanh"), gradients.pair("reparam_kl")
BINARY = gradients.pair("binary_affine_act, tanh")
WEIGHTS = gradients.pair("log_mean_exp_weights")


def _by_gradient(mistake: str, where: str, old: str, new: str, check: gradients.Check) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), (check,), check)


MUTANTS = (
    _by_gradient("bias forgotten", "layers:affine_forward", "x @ weight + bias", "x @ weight + 0 * bias", AFFINE),
    _by_gradient(
        "the bias' gradient is a mean over the batch",
        "layers:affine_backward",
        "dy.sum(axis=0)",
        "dy.mean(axis=0)",
        AFFINE,
    ),
    _by_gradient(
        "1/B once more in the weight's gradient", "layers:affine_backward", "x.T @ dy", "x.T @ dy / len(dy)", AFFINE
    ),
    _by_gradient(
        "the weight not transposed on the way back, which a square one hides",
        "layers:affine_backward",
        "dy @ weight.T",
        "dy @ weight",
        gradients.SQUARE_AFFINE,
    ),
    _by_gradient(
        "ReLU lets the gradient through everywhere", "layers:relu_backward", "y.real > 0", "y.real >= 0", RELU
    ),
    _by_gradient(
        "ReLU masks by the sign of the upstream gradient", "layers:relu_backward", "y.real > 0", "dy.real > 0", RELU
    ),
    _by_gradient("tanh′ = 1 − y", "layers:tanh_backward", "(1 - y * y)", "(1 - y)", TANH),
    _by_gradient("tanh′ taken at the input", "layers:tanh_forward", "return y, y", "return y, a", TANH),
    _by_gradient(
        "softplus′ = σ of the output", "layers:softplus_backward", "-dy * np.expm1(-y)", "dy * sigmoid(y)", SOFTPLUS
    ),
    Mutant(
        "softplus as log(1 + exp a), which overflows",
        (
            Edit(
                "layers:softplus",
                "np.where(positive, a, 0) + np.log1p(np.exp(np.where(positive, -a, a)))",
                "np.log(1 + np.exp(a))",
            ),
        ),
        (exact.softplus_and_sigmoid_at_the_ends,),
        SOFTPLUS,
    ),
    Mutant(
        "σ as exp a / (1 + exp a), which overflows",
        (Edit("layers:sigmoid", "np.where(positive, 1, e) / (1 + e)", "np.exp(a) / (1 + np.exp(a))"),),
        (exact.softplus_and_sigmoid_at_the_ends,),
        gradients.pair("bernoulli_log_prob"),
    ),
    _by_gradient(
        "σ(−a) for σ(a)",
        "layers:sigmoid",
        "np.where(positive, 1, e)",
        "np.where(positive, e, 1)",
        gradients.pair("bernoulli_log_prob"),
    ),
    _by_gradient(
        "gradients of the layers in reverse order", "layers:mlp_backward", "gradients[::-1]", "gradients", MLP
    ),
    _by_gradient(
        "the activation's derivative forgotten",
        "ops:affine_act_backward",
        "da = ACTIVATIONS[activation][1](dy, act_cache)",
        "da = dy",
        gradients.pair("affine_act, tanh"),
    ),
    Mutant(
        "binary pixels divided by 255 like bytes",
        (Edit("ops:binary_affine_act_forward", "x.astype(weight.dtype)", "x.astype(weight.dtype) / 255"),),
        (exact.binary_layer_sums_the_rows_of_its_weight,),
        BINARY,
    ),
    _by_gradient(
        "∂z/∂logvar without its ½",
        "ops:reparam_kl_backward",
        "0.5 * np.exp(0.5 * logvar)",
        "np.exp(0.5 * logvar)",
        REPARAM,
    ),
    _by_gradient("∂z/∂logvar without ε", "ops:reparam_kl_backward", "(dz * eps)", "dz", REPARAM),
    _by_gradient("the KL's pull on mu forgotten", "ops:reparam_kl_backward", "dmu + dz.sum", "dz.sum", REPARAM),
    _by_gradient(
        "a mean over the draws of z where the chain rule sums",
        "ops:reparam_kl_backward",
        "dz.sum(",
        "dz.mean(",
        REPARAM,
    ),
    Mutant(
        "draws stacked example-major: rows get each other's noise",
        (
            Edit(
                "ops:reparam_kl_forward",
                "eps.reshape(-1, *mu.shape)",
                "eps.reshape(len(mu), -1, mu.shape[1]).swapaxes(0, 1)",
            ),
        ),
        (exact.every_draw_has_the_noise_of_its_own_row,),
        REPARAM,
    ),
    Mutant(
        "log of the sum of the weights, not of their mean",
        (Edit("ops:log_mean_exp_weights", "np.log(total / len(log_w))", "np.log(total)"),),
        (FORMS["log_mean_exp_exactly"],),
        WEIGHTS,
    ),
    Mutant(
        "weights exponentiated as they are, which overflows",
        (Edit("ops:log_mean_exp_weights", "log_w.real.max(axis=0)", "np.zeros(log_w.shape[1])"),),
        (FORMS["log_mean_exp_exactly"],),
        WEIGHTS,
    ),
)
