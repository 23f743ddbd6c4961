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

#define LATENT_THREADS 256

// Examples of one block of the latent kernels: one where the batch is small; eight, each weight read once for all of
// them, where it is large. At the end there is one warp per example.
template <int edge>
struct LatentRows {
    static constexpr int count = edge == 32 ? 1 : 8;
};

// From dmu and dlogvar, which the block's threads have just put into `shared` one after the other for each example, to
// da of the encoder's last hidden layer, whose output is h. [D25] [D29]
template <int edge>
__device__ __forceinline__ void heads_gradient(const real* shared, const real* mu_weight, const real* logvar_weight,
                                               const real* h, int batch, int latent, int hidden, int activation,
                                               real* dh) {
    constexpr int count = LatentRows<edge>::count;
    const int b0 = blockIdx.x * count;
    __syncthreads();
    for (int i = threadIdx.x; i < hidden; i += LATENT_THREADS) {
        real sum[count] = {};
        for (int k = 0; k < latent; ++k) {
            const real of_mu = mu_weight[at(i, k, latent)], of_logvar = logvar_weight[at(i, k, latent)];
#pragma unroll
            for (int r = 0; r < count; ++r)
                sum[r] += shared[r * 2 * latent + k] * of_mu + shared[r * 2 * latent + latent + k] * of_logvar;
        }
#pragma unroll
        for (int r = 0; r < count; ++r) {
            if (b0 + r >= batch) continue;
            const i64 entry = at(b0 + r, i, hidden);
            dh[entry] = activation_gradient(sum[r], h[entry], activation);
        }
    }
}
