// IWAE's bound of several samples, where the fused step needs other kernels than on the ELBO. [D34] [D41] [D42]
//
//     …, latent_forward, bound_sample, affine_forward…, bernoulli_output, bound_weights, scale_rows,
//     affine_input_gradient… (down to dz), bound_backward, …
//
// The samples lie example by example: row b * samples + k has sample k of example b, so neighbouring rows share an x.

#include "philox.cuh"
#include "product.cuh"
#include "reduce.cuh"
#include "step.cuh"

// eps and z of every row, and log p(z) - log q(z|x) into log_w. One warp per row. [D17] [D30] [D41]
extern "C" __global__ void __launch_bounds__(128)
    bound_sample(const State* state, const real* mu, const real* logvar, const u32* orders, const u32* places,
                 int batch, int samples, int latent, real* eps, real* z, double* log_w) {
    const int row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= batch * samples) return;
    const int b = row / samples;
    const u32 place = place_of(places, data_row(*state, orders, batch, b));
    const u32 last = stream_word(STREAM_EPS, row % samples);
    double twice = 0;
    for (int k = threadIdx.x % 32; k < latent; k += 32) {
        const real e = normal_at(k, place, static_cast<u32>(state->step), last, state->seed);
        const real v = logvar[at(b, k, latent)], value = latent_sample(mu[at(b, k, latent)], v, e);
        eps[at(row, k, latent)] = e;
        z[at(row, k, latent)] = value;
        twice += log_ratio_term(e, v, value);
    }
    twice = warp_sum(twice);
    if (threadIdx.x % 32 == 0) log_w[row] = 0.5 * twice;
}

#define BOUND_THREADS 128

// One block per example: log w = log p(x|z) + beta (log p(z) - log q(z|x)), with log p(x|z) as each tile's part and the
// ratio already in log_w; from these the bound, and each row's share of the loss, its normalised weight over the
// batch. `reconstruction` is the samples' mean log p(x|z). [D34] [D41] [D42]
extern "C" __global__ void __launch_bounds__(BOUND_THREADS)
    bound_weights(const double* partial, int tiles, const double* constants, int batch, int samples, double* log_w,
                  real* share, real* reconstruction, real* bound) {
    __shared__ double shared[BOUND_THREADS / 32];
    constexpr int warps = BOUND_THREADS / 32;
    const int b = blockIdx.x, first = b * samples;
    const double beta = constants[CONSTANT_KL_WEIGHT];
    // Below every finite log w, for threads without a sample.
    double sum = 0, top = -1.7976931348623157e308;
    for (int row = first + threadIdx.x; row < first + samples; row += BOUND_THREADS) {
        double loglik = 0;
        for (int tile = 0; tile < tiles; ++tile) loglik += partial[at(row, tile, tiles)];
        sum += loglik;
        log_w[row] = loglik + beta * log_w[row];
        top = larger(top, log_w[row]);
    }
    sum = block_sum(sum, shared, warps);
    top = over_block<Largest>(top, shared, warps);
    double total = 0;
    for (int row = first + threadIdx.x; row < first + samples; row += BOUND_THREADS) total += exp(log_w[row] - top);
    total = block_sum(total, shared, warps);
    for (int row = first + threadIdx.x; row < first + samples; row += BOUND_THREADS)
        share[row] = static_cast<real>(exp(log_w[row] - top) / total / batch);
    if (threadIdx.x > 0) return;
    reconstruction[b] = static_cast<real>(sum / samples);
    bound[b] = static_cast<real>(top + log(total / samples));
}

// Each row times its share of the loss. One block per 256 columns of a row. [D42]
extern "C" __global__ void __launch_bounds__(256) scale_rows(const real* share, real* rows, int columns) {
    const int row = blockIdx.x, column = blockIdx.y * 256 + threadIdx.x;
    if (column < columns) rows[at(row, column, columns)] *= share[row];
}

// From dz of every sample, as the decoder's products leave it, to dmu and dlogvar of an example, and on to da of the
// encoder's last hidden layer, whose output is h. Shared memory: 2 latent entries per example. [D17] [D29] [D42]
template <int edge>
__device__ __forceinline__ void bound_rows_backward(real* shared, const real* dz, const real* share, const real* z,
                                                    const real* eps, const real* logvar, const real* mu_weight,
                                                    const real* logvar_weight, const real* h, const double* constants,
                                                    int batch, int samples, int latent, int hidden, int activation,
                                                    real* dmu, real* dlogvar, real* dh) {
    const int b0 = blockIdx.x * LatentRows<edge>::count, lane = threadIdx.x % 32;
    const real beta = static_cast<real>(constants[CONSTANT_KL_WEIGHT]);
    const real dkl = static_cast<real>(constants[CONSTANT_DKL]);
    // One warp per latent; its lanes are the samples.
    for (int k = threadIdx.x / 32; k < latent; k += LatentRows<edge>::threads / 32)
        for (int b = b0; b < b0 + LatentRows<edge>::count && b < batch; ++b) {
            double along = 0, with_eps = 0;
            for (int row = b * samples + lane; row < (b + 1) * samples; row += 32) {
                const real slope = dz[at(row, k, latent)] + beta * share[row] * z[at(row, k, latent)];
                along += slope;
                with_eps += slope * eps[at(row, k, latent)];
            }
            along = warp_sum(along);
            with_eps = warp_sum(with_eps);
            if (lane > 0) continue;
            const i64 entry = at(b, k, latent);
            real* of_row = shared + (b - b0) * 2 * latent;
            of_row[k] = dmu[entry] = static_cast<real>(along);
            // Apart from the path: log q, written in eps, has -1/2 logvar, and the shares sum to 1 over the batch.
            of_row[latent + k] = dlogvar[entry] =
                logvar_gradient(static_cast<real>(with_eps), logvar[entry], 0) - real(0.5) * dkl;
        }
    heads_gradient<edge>(shared, mu_weight, logvar_weight, h, batch, latent, hidden, activation, dh);
}

#define BOUND_BACKWARD(edge)                                                                                           \
    extern "C" __global__ void LATENT_BOUNDS(edge)                                                                 \
        bound_backward_##edge(const real* dz, const real* share, const real* z, const real* eps, const real* logvar,   \
                              const real* mu_weight, const real* logvar_weight, const real* h,                         \
                              const double* constants, int batch, int samples, int latent, int hidden, int activation, \
                              real* dmu, real* dlogvar, real* dh) {                                                    \
        DYNAMIC_SHARED(real, dynamic);                                                                                 \
        bound_rows_backward<edge>(dynamic, dz, share, z, eps, logvar, mu_weight, logvar_weight, h, constants, batch,   \
                                  samples, latent, hidden, activation, dmu, dlogvar, dh);                              \
    }

FOR_TILE_SIZES(BOUND_BACKWARD)
