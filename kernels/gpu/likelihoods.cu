// bernoulli_loglik and normal_loglik: log p(x|z) and its gradients. [D4] [D5]
//
// Rows are sample-major; x has `batch` of them, one per example.

#include "reduce.cuh"

#define ROW_THREADS 128
#define ROW_GROUPS 8

// One block per row.
template <typename T>
__device__ __forceinline__ void bernoulli_row(double* shared, const T* x, const real* logits, real* out, int batch,
                                              int features) {
    const int row = blockIdx.x;
    double sum = 0;
    for (int d = threadIdx.x; d < features; d += ROW_THREADS) {
        const real logit = logits[at(row, d, features)];
        sum += bernoulli_term(static_cast<real>(x[at(row % batch, d, features)]), logit, exp_minus_size(logit));
    }
    sum = block_sum(sum, shared, ROW_THREADS / 32);
    if (threadIdx.x == 0) out[row] = static_cast<real>(sum);
}

template <typename T>
__device__ __forceinline__ void bernoulli_slopes(const T* x, const real* logits, const real* dloglik, real* dlogits,
                                                 int batch, int features) {
    const int row = blockIdx.x, d = blockIdx.y * 256 + threadIdx.x;
    if (d >= features) return;
    const i64 place = at(row, d, features);
    const real logit = logits[place], pixel = static_cast<real>(x[at(row % batch, d, features)]);
    dlogits[place] = dloglik[row] * bernoulli_slope(pixel, logit, exp_minus_size(logit));
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    bernoulli_forward_bytes(const u8* x, const real* logits, real* out, int rows, int batch, int features) {
    __shared__ double shared[ROW_THREADS / 32];
    bernoulli_row(shared, x, logits, out, batch, features);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    bernoulli_forward_real(const real* x, const real* logits, real* out, int rows, int batch, int features) {
    __shared__ double shared[ROW_THREADS / 32];
    bernoulli_row(shared, x, logits, out, batch, features);
}

extern "C" __global__ void __launch_bounds__(256)
    bernoulli_backward_bytes(const u8* x, const real* logits, const real* dloglik, real* dlogits, int rows, int batch,
                             int features) {
    bernoulli_slopes(x, logits, dloglik, dlogits, batch, features);
}

extern "C" __global__ void __launch_bounds__(256)
    bernoulli_backward_real(const real* x, const real* logits, const real* dloglik, real* dlogits, int rows, int batch,
                            int features) {
    bernoulli_slopes(x, logits, dloglik, dlogits, batch, features);
}

// One block per row; `logvar` has one entry, or one per feature.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    normal_forward(const real* x, const real* mean, const real* logvar, real* out, int rows, int batch, int features,
                   int logvar_count) {
    __shared__ double shared[ROW_THREADS / 32];
    const int row = blockIdx.x;
    double sum = 0;
    for (int d = threadIdx.x; d < features; d += ROW_THREADS) {
        const real v = logvar[logvar_count > 1 ? d : 0];
        const real residual = x[at(row % batch, d, features)] - mean[at(row, d, features)];
        sum += normal_term(residual, v, exp(-v));
    }
    sum = block_sum(sum, shared, ROW_THREADS / 32);
    if (threadIdx.x == 0) out[row] = static_cast<real>(-0.5 * sum);
}

// dmean, and each column's share of dlogvar: a block has 32 columns, whose rows are dealt to eight groups.
extern "C" __global__ void __launch_bounds__(32 * ROW_GROUPS)
    normal_backward(const real* x, const real* mean, const real* logvar, const real* dloglik, real* dmean,
                    double* columns, int rows, int batch, int features, int logvar_count) {
    __shared__ double shared[ROW_GROUPS][32];
    const int d = blockIdx.x * 32 + threadIdx.x;
    double sum = 0;
    if (d < features) {
        const real inverse = exp(-logvar[logvar_count > 1 ? d : 0]);
        for (int row = threadIdx.y; row < rows; row += ROW_GROUPS) {
            const i64 place = at(row, d, features);
            const real residual = x[at(row % batch, d, features)] - mean[place], scaled = residual * inverse;
            dmean[place] = dloglik[row] * scaled;
            sum += real(0.5) * dloglik[row] * (residual * scaled - 1);
        }
    }
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || d >= features) return;
    for (int group = 1; group < ROW_GROUPS; ++group) sum += shared[group][threadIdx.x];
    columns[d] = sum;
}

// dlogvar from the columns' shares: each its own, or all of them added up by one block. [D5]
extern "C" __global__ void __launch_bounds__(256)
    normal_logvar_gradient(const double* columns, real* dlogvar, int features, int logvar_count) {
    __shared__ double shared[8];
    if (logvar_count > 1) {
        const int d = blockIdx.x * 256 + threadIdx.x;
        if (d < features) dlogvar[d] = static_cast<real>(columns[d]);
        return;
    }
    double sum = 0;
    for (int d = threadIdx.x; d < features; d += 256) sum += columns[d];
    sum = block_sum(sum, shared, 8);
    if (threadIdx.x == 0) dlogvar[0] = static_cast<real>(sum);
}
