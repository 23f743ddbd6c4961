// The scalar formulas of the contract, each written once: operations and fused kernels call the same functions.
//
// `real` is float, or double where the file is compiled with -DREAL=double. Nothing here relies on fast-math: NaN and
// infinity behave as in the reference.
#pragma once

#ifndef REAL
#define REAL float
#endif

typedef REAL real;
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// Shared memory whose size the launch gives. A macro, so that tests can put other memory there.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

#define LOG_2PI 1.8378770664093454836

enum { IDENTITY = 0, RELU = 1, TANH = 2, SOFTPLUS = 3 };

// Every row of a matrix is addressed in 64 bits: rows times columns may need more than 31.
__device__ __forceinline__ i64 at(int row, int column, int columns) { return static_cast<i64>(row) * columns + column; }

// False for NaN and for both infinities.
__device__ __forceinline__ bool is_finite(double value) { return value - value == 0; }

// max(a, 0) + log1p(exp -|a|). [D26]
__device__ __forceinline__ real softplus(real a) { return (a > 0 ? a : real(0)) + log1p(exp(a > 0 ? -a : a)); }

// y = activation(a); NaN stays NaN. [D26]
__device__ __forceinline__ real activate(real a, int activation) {
    if (activation == RELU) return a <= 0 ? real(0) : a;
    if (activation == TANH) return tanh(a);
    if (activation == SOFTPLUS) return softplus(a);
    return a;
}

// da from dy and the output y alone. [D26]
__device__ __forceinline__ real activation_gradient(real dy, real y, int activation) {
    if (activation == RELU) return y > 0 ? dy : real(0);
    if (activation == TANH) return dy * (1 - y * y);
    if (activation == SOFTPLUS) return -dy * expm1(-y);
    return dy;
}

// exp -|l|, from which both the log-probability of a pixel and the sigmoid of its logit follow.
__device__ __forceinline__ real exp_minus_size(real logit) { return exp(logit > 0 ? -logit : logit); }

// log p(x | l) = -[max(l, 0) - x l + log1p(exp -|l|)]: the first two cancel for binary x. e = exp -|l|. [D4]
__device__ __forceinline__ real bernoulli_term(real x, real logit, real e) {
    const bool positive = logit > 0;
    return -((positive ? 1 - x : x) * (positive ? logit : -logit) + log1p(e));
}

// x - sigmoid(l), from the same exponential. [D4]
__device__ __forceinline__ real bernoulli_slope(real x, real logit, real e) {
    return x - (logit > 0 ? real(1) : e) / (1 + e);
}

// -2 log N(x; mean, exp logvar), from the residual and exp(-logvar). [D5]
__device__ __forceinline__ real normal_term(real residual, real logvar, real inverse) {
    return real(LOG_2PI) + logvar + residual * residual * inverse;
}

// z = mu + exp(logvar / 2) eps. [D17]
__device__ __forceinline__ real latent_sample(real mu, real logvar, real eps) {
    return mu + exp(real(0.5) * logvar) * eps;
}

// Twice one latent's KL to N(0, 1): mu^2 + expm1(logvar) - logvar. [D22]
__device__ __forceinline__ real kl_term(real mu, real logvar) { return mu * mu + (expm1(logvar) - logvar); }

// dmu, from the path's dz (summed over samples) and dkl. [D17] [D22]
__device__ __forceinline__ real mu_gradient(real dz, real mu, real dkl) { return dkl * mu + dz; }

// dlogvar, from the path's dz eps (summed over samples) and dkl. [D17] [D22]
__device__ __forceinline__ real logvar_gradient(real dz_eps, real logvar, real dkl) {
    return dkl * (real(0.5) * expm1(logvar)) + real(0.5) * exp(real(0.5) * logvar) * dz_eps;
}

// Twice one latent's share of log p(z) - log q(z|x), at z = mu + exp(logvar / 2) eps; the constants cancel. [D30] [D34]
__device__ __forceinline__ double log_ratio_term(real eps, real logvar, real z) {
    return static_cast<double>(eps) * eps + logvar - static_cast<double>(z) * z;
}

// The larger of two; NaN wins, as in the reference.
template <typename T>
__device__ __forceinline__ T larger(T a, T b) {
    return a > b || a != a ? a : b;
}

// What a step of Adam multiplies with: step_size = lr / (1 - beta1^t), inverse_root = 1 / sqrt(1 - beta2^t). [D31]
struct Adam {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root, eps;
};

// One parameter's step, in place. [D31]
__device__ __forceinline__ void adam_entry(const Adam& adam, real g, real& parameter, real& first, real& second) {
    first = adam.beta1 * first + adam.one_minus_beta1 * g;
    second = adam.beta2 * second + adam.one_minus_beta2 * (g * g);
    parameter -= adam.step_size * first / (sqrt(second) * adam.inverse_root + adam.eps);
}
