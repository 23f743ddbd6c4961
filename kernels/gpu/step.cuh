// What the kernels of a training step share: the run's state in device memory, which rows are due, and the way back
// through the encoder's two heads.
#pragma once

#include "math.cuh"

// What a run's steps share; every field has eight bytes, so that the host can write it as an array.
struct State {
    u64 step;             // steps taken
    u64 seed;
    u64 rows;             // rows of the data set on the device, and of each of the two orders
    u64 steps_per_epoch;
    u64 slots;            // entries of the ring of metrics
    u64 first_bad;        // the first step that left something not finite; 2^64 - 1 if none did
    double lr, beta1, beta2, eps;
    double kl_weight, warmup_steps;
    u64 draw;             // 1: the data are grey bytes, drawn anew at every step; 0: they are binary
    u64 spare;
};

// The constants of one step, written by its first kernel: seven of Adam, then the KL's weight over the batch, the KL's
// weight, and the step's number.
enum { CONSTANT_DKL = 7, CONSTANT_KL_WEIGHT = 8, CONSTANT_STEP = 9 };

// The data row of example b of this step. `orders` holds two, for even and for odd epochs; null: b itself. [D39]
__device__ __forceinline__ u32 data_row(const State& state, const u32* orders, int batch, int b) {
    if (orders == nullptr) return b;
    const u64 epoch = state.step / state.steps_per_epoch, first = state.step % state.steps_per_epoch * batch;
    return orders[epoch % 2 * state.rows + first + b];
}

// Its place in the data set, which addresses its noise.
__device__ __forceinline__ u32 place_of(const u32* places, u32 row) { return places == nullptr ? row : places[row]; }

// The latent kernels' blocks. Where the batch is small, a block has one example, and as many threads as there can be;
// where it is large, eight, each weight read once for all of them. At the end there is one warp per example. So many
// terms of a sum are loaded at once, beyond its end copies of the last one, which do not count; nor do rows beyond the
// batch, which are copies of its last one.
template <int edge>
struct LatentRows {
    static constexpr int count = edge == 32 ? 1 : 8, threads = edge == 32 ? 1024 : 256;
    static constexpr int at_once = (edge == 32 ? 40 : 16) / sizeof(real);
};

#define LATENT_BOUNDS(edge) __launch_bounds__(LatentRows<edge>::threads, edge == 32 ? 1 : 2)

// From dmu and dlogvar, which the block's threads have just put into `shared` one after the other for each example, to
// da of the encoder's last hidden layer, whose output is h. Four lanes share a unit of h. [D25] [D29]
template <int edge>
__device__ __forceinline__ void heads_gradient(const real* shared, const real* mu_weight, const real* logvar_weight,
                                               const real* h, int batch, int latent, int hidden, int activation,
                                               real* dh) {
    using Rows = LatentRows<edge>;
    constexpr int count = Rows::count, at_once = Rows::at_once / 2;
    const int b0 = blockIdx.x * count, part = threadIdx.x % 4;
    __syncthreads();
    for (int first = 0; first < hidden; first += Rows::threads / 4) {
        const int unit = first + threadIdx.x / 4, i = min(unit, hidden - 1);
        real sum[count] = {}, y[count];
#pragma unroll
        for (int r = 0; r < count; ++r) y[r] = h[at(min(b0 + r, batch - 1), i, hidden)];
        for (int first_latent = part; first_latent < latent; first_latent += 4 * at_once)
#pragma unroll
            for (int n = 0; n < at_once; ++n) {
                const int latent_of = first_latent + 4 * n, k = min(latent_of, latent - 1);
                const real of_mu = mu_weight[at(i, k, latent)], of_logvar = logvar_weight[at(i, k, latent)];
#pragma unroll
                for (int r = 0; r < count; ++r) {
                    const real* gradients = shared + min(r, batch - 1 - b0) * 2 * latent;
                    const real product = gradients[k] * of_mu + gradients[latent + k] * of_logvar;
                    sum[r] += latent_of < latent ? product : real(0);
                }
            }
#pragma unroll
        for (int r = 0; r < count; ++r) {
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
            if (part == 0 && unit < hidden && b0 + r < batch)
                dh[at(b0 + r, i, hidden)] = activation_gradient(sum[r], y[r], activation);
        }
    }
}
