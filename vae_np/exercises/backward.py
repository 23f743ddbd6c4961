"""The whole gradient, link by link: chapter 8. [D25] [D26] [D27] [D28] [D29] [D30]

The functions without an underscore are the solutions, and what a student is given, as they are printed.
"""

from __future__ import annotations

import numpy as np

from vae_np import layers, ops
from vae_np.exercises.exercise import Exercise, Mistake, binary, draws, number, real
from vae_np.gradcheck import check_grad, check_vjp


def affine_forward(x, weight, bias):
    return x @ weight + bias


def affine_backward(dy, x, weight):
    dx = dy @ weight.T
    dweight = x.T @ dy
    dbias = dy.sum(axis=0)
    return dx, dweight, dbias


AFFINE = Exercise(
    "D25",
    "Affine layer, backward",
    chapter=8,
    asks="dx, dweight and dbias from dy",
    statement="""
    The layer computes y = x W + b, with an example in each row of x. dy is the derivative of the loss with respect
    to y. Return the derivatives with respect to x, to the weight and to the bias.
    """,
    arguments=(real("dy", "B O"), real("x", "B I"), real("weight", "I O")),
    returns={"dx": "B I", "dweight": "I O", "dbias": "O"},
    given=(affine_forward,),
    solution=affine_backward,
    exact=lambda dy, x, weight: layers.affine_backward(dy, (x, weight)),
    verify=lambda answer: check_vjp(
        layers.affine_forward,
        lambda dy, cache: answer(dy, *cache),
        draws(x="B I", weight="I O", bias="O"),
        names=["x", "weight", "bias"],
    ),
    hints=(
        "Write one entry, y_no = Σ_i x_ni W_io + b_o. Which entries of y does W_io touch, and with which derivative?",
        "Sum dy times that derivative over all entries of y that are touched: dx_ni = Σ_o dy_no W_io.",
        "dx = dy Wᵀ, dW = xᵀ dy, db = the column sums of dy.",
    ),
    mistakes=(
        Mistake(
            "dy.sum(axis=0)",
            "dy.mean(axis=0)",
            "the bias serves every example: sum over them; the 1/B is already in dy",
        ),
        Mistake(
            "x.T @ dy", "x.T @ dy / len(x)", "the weight serves every example: sum over them; the 1/B is already in dy"
        ),
        Mistake("dy.sum(axis=0)", "dy.sum(axis=0) / len(x) ** 2", "1/B enters once, at the top: it is already in dy"),
    ),
)


def activations_backward(dy, y_relu, y_tanh, y_softplus):
    da_relu = np.where(y_relu > 0, dy, 0)
    da_tanh = dy * (1 - y_tanh * y_tanh)
    da_softplus = -dy * np.expm1(-y_softplus)
    return da_relu, da_tanh, da_softplus


def _draw_activations(rng, sizes):
    dy, a = rng.standard_normal((2, sizes["B"], sizes["H"]))
    a[0, 0] = -30.0
    return dy, layers.relu_forward(a)[0], np.tanh(a), layers.softplus(a)


def _verify_activations(answer):
    def forward(relu, tanh, softplus):
        outs = layers.relu_forward(relu)[0], layers.tanh_forward(tanh)[0], layers.softplus(softplus)
        return sum(outs), tuple(out.real for out in outs)

    return check_vjp(
        forward,
        lambda dy, outs: tuple(answer(dy, *outs)),
        draws(relu="B H", tanh="B H", softplus="B H"),
        names=["a_relu", "a_tanh", "a_softplus"],
    )


ACTIVATIONS = Exercise(
    "D26",
    "Activations, differentiated from their output",
    chapter=8,
    asks="da of ReLU, tanh and softplus, from dy and the output y alone",
    statement="""
    Between affine layers stands a function of each entry, y = act(a). The input a was not kept: return da for ReLU,
    y = max(a, 0), for tanh and for softplus, y = log(1 + exp(a)), each from dy and its own output y.
    """,
    arguments=(
        real("dy", "B H"),
        real("y_relu", "B H", "max(a, 0)"),
        real("y_tanh", "B H", "tanh(a)"),
        real("y_softplus", "B H", "log(1 + exp(a))"),
    ),
    returns={"da_relu": "B H", "da_tanh": "B H", "da_softplus": "B H"},
    solution=activations_backward,
    exact=lambda dy, r, t, s: (
        layers.relu_backward(dy, r),
        layers.tanh_backward(dy, t),
        layers.softplus_backward(dy, s),
    ),
    draw=_draw_activations,
    verify=_verify_activations,
    hints=(
        "da = dy act'(a). For each function, write act'(a) first, then look for y in it.",
        "tanh' = 1 - tanh². For softplus act' is the sigmoid of a, and exp(-y) = 1 / (1 + exp(a)).",
        "ReLU: dy where y > 0, else 0. tanh: dy (1 - y²). softplus: dy (1 - exp(-y)).",
    ),
    mistakes=(
        Mistake("1 - y_tanh * y_tanh", "1 - np.tanh(y_tanh) ** 2", "y is tanh(a) already: tanh is taken twice"),
        Mistake(
            "-dy * np.expm1(-y_softplus)",
            "dy / (1 + np.exp(-y_softplus))",
            "the sigmoid is one of a, not of the output y: σ(a) = 1 - exp(-y)",
        ),
        Mistake("np.where(y_relu > 0, dy, 0)", "dy * y_relu", "ReLU's derivative is 1 where y > 0, not y"),
        Mistake("1 - y_tanh * y_tanh", "1 - y_tanh", "tanh' = 1 - tanh²: the square is missing"),
    ),
)


def mlp_forward(x, weight1, bias1, weight2, bias2):
    h = np.tanh(x @ weight1 + bias1)
    return h @ weight2 + bias2, h


def mlp_backward(dy, x, h, weight1, weight2):
    dweight2 = h.T @ dy
    dbias2 = dy.sum(axis=0)
    dh = dy @ weight2.T
    da = dh * (1 - h * h)
    dweight1 = x.T @ da
    dbias1 = da.sum(axis=0)
    return da @ weight1.T, dweight1, dbias1, dweight2, dbias2


def _exact_mlp(dy, x, h, weight1, weight2):
    dh, dweight2, dbias2 = layers.affine_backward(dy, (h, weight2))
    assert dh is not None
    dx, dweight1, dbias1 = layers.affine_backward(layers.tanh_backward(dh, h), (x, weight1))
    return dx, dweight1, dbias1, dweight2, dbias2


def _draw_mlp(rng, sizes):
    b, i, h, o = (sizes[letter] for letter in "BIHO")
    x, weight1, weight2 = rng.standard_normal((b, i)), rng.standard_normal((i, h)), rng.standard_normal((h, o))
    return rng.standard_normal((b, o)), x, np.tanh(0.3 * x @ weight1), weight1, weight2


def _verify_mlp(answer):
    def forward(x, weight1, bias1, weight2, bias2):
        y, h = mlp_forward(x, weight1, bias1, weight2, bias2)
        return y, (x.real, h.real, weight1.real, weight2.real)

    return check_vjp(
        forward,
        lambda dy, cache: tuple(answer(dy, *cache)),
        draws(x="B I", weight1="I H", bias1="H", weight2="H O", bias2="O"),
        names=["x", "weight1", "bias1", "weight2", "bias2"],
    )


MLP = Exercise(
    "D27",
    "Multi-layer perceptron, backward",
    chapter=8,
    asks="all gradients of a network with one tanh layer and a linear head",
    statement="""
    The network computes h = tanh(x W1 + b1) and y = h W2 + b2. dy is the derivative of the loss with respect to y,
    and h was kept. Walk the chain the other way and return the derivatives of the loss with respect to x and each
    parameter.
    """,
    arguments=(real("dy", "B O"), real("x", "B I"), real("h", "B H"), real("weight1", "I H"), real("weight2", "H O")),
    returns={"dx": "B I", "dweight1": "I H", "dbias1": "H", "dweight2": "H O", "dbias2": "O"},
    given=(mlp_forward,),
    solution=mlp_backward,
    exact=_exact_mlp,
    draw=_draw_mlp,
    verify=_verify_mlp,
    hints=(
        "Three links: the head, the activation, the first layer. Each takes a gradient and hands on another.",
        "The head is D25 with x = h, and gives dh. The activation is D26: da = dh (1 - h²).",
        "The first layer is D25 once more with da in the place of dy.",
    ),
    mistakes=(
        Mistake("da = dh * (1 - h * h)", "da = dh", "the path goes through tanh: the factor 1 - h² is missing"),
        Mistake(
            "da = dh * (1 - h * h)",
            "da = dh * (1 - np.tanh(h) ** 2)",
            "h is the activation's output: tanh is taken twice",
        ),
        Mistake("da = dh * (1 - h * h)", "da = dh * (1 - h)", "tanh' = 1 - tanh²: the square is missing"),
        Mistake("x.T @ da", "x.T @ dh", "the first weight gets da, behind the activation, and not dh"),
    ),
)


def binary_backward(da, x):
    dweight = np.zeros((x.shape[1], da.shape[1]))
    for n in range(len(x)):
        dweight[x[n] == 1] += da[n]
    return dweight


_PIXELS = np.random.default_rng(4).integers(0, 2, (5, 4)).astype(np.float64)
BINARY = Exercise(
    "D28",
    "The first layer on binary data, backward",
    chapter=8,
    asks="dweight by adding rows of da, without a multiplication",
    statement="""
    x has only zeros and ones, so a_n = b + the sum of the rows W_i with x_ni = 1. Return the derivative of the
    loss with respect to W from da by additions alone: no product with x.
    """,
    arguments=(real("da", "B O"), binary("x", "B I")),
    returns={"dweight": "I O"},
    solution=binary_backward,
    exact=lambda da, x: x.T @ da,
    verify=lambda answer: check_vjp(
        lambda weight: (_PIXELS @ weight, None),
        lambda da, _: answer(da, _PIXELS),
        draws(weight="I O"),
        names=["weight"],
    ),
    hints=(
        "Which rows of W took part in a_n, and with which derivative?",
        "Each row that took part gets da_n added, whole.",
        "Loop over the examples: dweight[x[n] == 1] += da[n].",
    ),
    mistakes=(
        Mistake(
            "x[n] == 1] +=",
            "x[n] == 1] =",
            "a row of W serves several examples: add to it, as each one overwrites the last",
        ),
        Mistake("x[n] == 1", "x[n] == 0", "the rows of the pixels that are off took no part: this adds to those"),
        Mistake("+= da[n]", "+= da[n] / len(x)", "the 1/B is already in da: it enters twice here"),
        Mistake("+= da[n]", "+= da[n] / x[n].sum()", "each row that is switched on gets da_n whole, not a share of it"),
    ),
)


def elbo_backward(dz, eps, mu, logvar, beta):
    batch, samples = len(mu), len(dz) // len(mu)
    dz = dz.reshape(samples, batch, -1)
    eps = eps.reshape(samples, batch, -1)
    dmu = dz.sum(axis=0) + beta / batch * mu
    dlogvar = (0.5 * dz * eps * np.exp(0.5 * logvar)).sum(axis=0)
    dlogvar = dlogvar + beta / batch * 0.5 * np.expm1(logvar)
    return dmu, dlogvar


def _exact_elbo(dz, eps, mu, logvar, beta):
    (_, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
    return ops.reparam_kl_backward((dz, np.full_like(kl, beta / len(mu))), cache)


# The loss's own decoder in what the verifier differentiates: log p(x | z) = -½ |x - z A|².
_BETA = 0.7


def _loss(joint):
    """The loss of a linear decoder with fixed noise, as a function of mu and logvar, and dz of its reconstruction."""
    eps, a, x = draws(eps="SB K", a="K D", x="B D")
    samples = len(eps) // len(x)

    def reconstruction(mu, logvar):
        stacked = eps.reshape(samples, *mu.shape)
        z = mu + np.exp(0.5 * logvar) * stacked
        residual = x - z @ a
        return z, residual, stacked

    def loss(point):
        mu, logvar = point["mu"], point["logvar"]
        z, residual, stacked = reconstruction(mu, logvar)
        kl = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(axis=1).mean()
        if joint:
            kl = 0.5 * (z * z - stacked * stacked - logvar).sum(axis=2).mean()
        return 0.5 * (residual * residual).sum(axis=2).mean() + _BETA * kl

    def upstream(point):
        z, residual, _ = reconstruction(point["mu"], point["logvar"])
        return (-(residual @ a.T) / (samples * len(x))).reshape(eps.shape), z.reshape(eps.shape), eps

    return loss, upstream


def _verify_elbo(answer):
    loss, upstream = _loss(joint=False)
    mu, logvar = draws(mu="B K", logvar="B K")

    def gradient(point):
        dz, _, eps = upstream(point)
        return dict(zip(("mu", "logvar"), answer(dz, eps, point["mu"], point["logvar"], _BETA), strict=True))

    return check_grad(loss, gradient, {"mu": mu, "logvar": logvar})


ELBO = Exercise(
    "D29",
    "The whole gradient, analytic-KL form",
    chapter=8,
    asks="dmu and dlogvar of the loss, from the decoder's dz and the KL",
    statement="""
    The loss is -1/B Σ_b [1/S Σ_s log p(x_b | z_sb) - beta KL(q_b ‖ p)] with z = mu + exp(logvar / 2) eps. The
    decoder's backward pass has brought dz, the derivative of the loss with respect to z: the 1/(S B) is in it. The
    rows of dz and eps are sample-major, s·B + b. Return the derivatives of the loss with respect to mu and logvar:
    along the path through z, and through the KL, ½ Σ (mu² + exp(logvar) - 1 - logvar).
    """,
    arguments=(
        real("dz", "SB K"),
        real("eps", "SB K"),
        real("mu", "B K"),
        real("logvar", "B K", "log σ²"),
        number("beta", 0.3, 0.9, "the KL's weight"),
    ),
    returns={"dmu": "B K", "dlogvar": "B K"},
    solution=elbo_backward,
    exact=_exact_elbo,
    verify=_verify_elbo,
    hints=(
        "mu_b is used in the S rows of z and in the KL: what comes from each is added up.",
        "Along the path ∂z/∂mu = 1 and ∂z/∂logvar = ½ exp(logvar / 2) eps. The KL's share has the factor beta / B.",
        "dmu = Σ_s dz + beta/B mu, dlogvar = Σ_s ½ dz eps exp(logvar / 2) + beta/B ½ (exp(logvar) - 1).",
    ),
    mistakes=(
        Mistake("dz.sum(axis=0) + beta / batch * mu", "dz.sum(axis=0)", "mu is in the KL, too: beta/B mu is missing"),
        Mistake(
            "    dlogvar = dlogvar + beta / batch * 0.5 * np.expm1(logvar)\n",
            "",
            "logvar is in the KL, too: beta/B ½ (exp(logvar) - 1) is missing",
        ),
        Mistake("beta / batch * mu", "beta * mu", "the KL's 1/B is missing: the loss is a mean over the batch"),
        Mistake("np.exp(0.5 * logvar)", "np.exp(logvar)", "σ is exp(logvar / 2): this takes the variance for it"),
        Mistake("(0.5 * dz * eps", "(dz * eps", "∂z/∂logvar is ½ exp(logvar / 2) eps: the ½ is missing"),
    ),
)


def joint_backward(dz, z, eps, logvar, beta):
    batch, samples = len(logvar), len(dz) // len(logvar)
    pull = (dz + beta / (samples * batch) * z).reshape(samples, batch, -1)
    eps = eps.reshape(samples, batch, -1)
    dmu = pull.sum(axis=0)
    dlogvar = (0.5 * pull * eps * np.exp(0.5 * logvar)).sum(axis=0) - 0.5 * beta / batch
    return dmu, dlogvar


def _exact_joint(dz, z, eps, logvar, beta):
    # As the book does it: the decoder's dz and the prior's pull along the path, and what logvar has by itself.
    zero = np.zeros(len(logvar))
    _, cache = ops.reparam_kl_forward(np.zeros_like(logvar), logvar, eps)
    dmu, dlogvar = ops.reparam_kl_backward((dz + beta / len(dz) * z, zero), cache)
    return dmu, dlogvar - 0.5 * beta / len(logvar)


def _verify_joint(answer):
    loss, upstream = _loss(joint=True)
    mu, logvar = draws(mu="B K", logvar="B K")

    def gradient(point):
        dz, z, eps = upstream(point)
        return dict(zip(("mu", "logvar"), answer(dz, z, eps, point["logvar"], _BETA), strict=True))

    return check_grad(loss, gradient, {"mu": mu, "logvar": logvar})


JOINT = Exercise(
    "D30",
    "The whole gradient, joint form",
    chapter=8,
    asks="dmu and dlogvar where the KL is log q(z|x) - log p(z) at the sample",
    statement="""
    The loss is -1/(S B) Σ [log p(x_b | z_sb) - beta (log q(z_sb | x_b) - log p(z_sb))] with z = mu + exp(logvar /
    2) eps, eps held fixed. dz is what the decoder's backward pass has brought, for the first term alone. Return
    the total derivatives of the loss with respect to mu and logvar. Rows are sample-major, s·B + b.
    """,
    arguments=(
        real("dz", "SB K", "from log p(x | z), its 1/(S B) included"),
        real("z", "SB K"),
        real("eps", "SB K"),
        real("logvar", "B K", "log σ²"),
        number("beta", 0.3, 0.9, "the KL's weight"),
    ),
    returns={"dmu": "B K", "dlogvar": "B K"},
    solution=joint_backward,
    exact=_exact_joint,
    verify=_verify_joint,
    hints=(
        "Write log q(z | x) in eps: (z - mu)² exp(-logvar) is eps², which is held fixed.",
        "log q = -½ Σ (eps² + logvar + log 2π): no mu in it, and -½ for logvar. log p(z) acts through z, with -z.",
        "Put dz + beta/(S B) z on the path, and add -beta/(2 B) to dlogvar.",
    ),
    mistakes=(
        Mistake(
            "dz + beta / (samples * batch) * z",
            "dz",
            "log p(z) acts through z as well: beta/(S B) z is missing on the path",
        ),
        Mistake(
            "dz + beta / (samples * batch) * z",
            "dz - beta / (samples * batch) * z",
            "the loss has -log p(z), whose derivative in z is +z",
        ),
        Mistake(" - 0.5 * beta / batch\n", "\n", "log q has -½ logvar besides the path: -beta/(2 B) is missing"),
        Mistake(
            " - 0.5 * beta / batch\n", " + 0.5 * beta / batch\n", "the loss has +log q, and d log q / d logvar is -½"
        ),
        Mistake(
            "beta / (samples * batch) * z",
            "beta / batch * z",
            "the mean over the S samples is missing in the prior's pull",
        ),
    ),
)

EXERCISES = (AFFINE, ACTIVATIONS, MLP, BINARY, ELBO, JOINT)
