"""The words that settings are chosen from, as types: a type checker refuses others, and messages list them."""

from __future__ import annotations

from typing import Literal, get_args

Activation = Literal["relu", "tanh", "softplus"]
BackendChoice = Literal["auto", "numpy", "numba", "cupy"]
Binarization = Literal["dynamic", "fixed", "threshold", "none"]
Dtype = Literal["float32", "float64"]
Inference = Literal["amortized", "local"]
Initialisation = Literal["uniform", "glorot"]
ContractLikelihood = Literal["bernoulli", "bernoulli-grey", "normal", "normal-fixed", "normal-diagonal"]
# Of one family for every cell, or with a family for each column.
ComposedLikelihood = Literal[
    "continuous-bernoulli", "poisson", "negative-binomial", "discretized-logistic", "student-t", "columns"
]
Likelihood = ContractLikelihood | ComposedLikelihood
ColumnFamily = Literal[
    "bernoulli",
    "normal",
    "continuous-bernoulli",
    "categorical",
    "poisson",
    "negative-binomial",
    "discretized-logistic",
    "student-t",
]
Missing = Literal["zero", "mask"]
Objective = Literal["elbo", "iwae", "stl", "dreg", "score"]
OptimizerName = Literal["adam", "adagrad"]
PosteriorFamily = Literal["diagonal", "full", "planar", "iaf"]
Precision = Literal["full", "bf16", "bf16x3"]
PriorFamily = Literal["standard", "mixture", "vamp"]
RefineGradient = Literal["through", "stopped"]
Schedule = Literal["constant", "burda2015"]
Split = Literal["train", "validation"]
ValuesKind = Literal["binary", "byte", "unit", "real"]

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
BACKENDS: tuple[BackendChoice, ...] = get_args(BackendChoice)
BINARIZATIONS: tuple[Binarization, ...] = get_args(Binarization)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
INFERENCES: tuple[Inference, ...] = get_args(Inference)
INITIALISATIONS: tuple[Initialisation, ...] = get_args(Initialisation)
# Those that are operations of the contract, and those that are composed on every backend.
LIKELIHOODS: tuple[ContractLikelihood, ...] = get_args(ContractLikelihood)
COMPOSED_LIKELIHOODS: tuple[ComposedLikelihood, ...] = get_args(ComposedLikelihood)
MISSINGS: tuple[Missing, ...] = get_args(Missing)
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
POSTERIORS: tuple[PosteriorFamily, ...] = get_args(PosteriorFamily)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRIORS: tuple[PriorFamily, ...] = get_args(PriorFamily)
REFINE_GRADIENTS: tuple[RefineGradient, ...] = get_args(RefineGradient)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
VALUES_KINDS: tuple[ValuesKind, ...] = get_args(ValuesKind)
