// The fused training step: MLPs, a diagonal normal q, a Bernoulli likelihood, the ELBO, Adam. [D29] [D31]
//
// These kernels stand between the products of affine.cu and importance.cu; one step is
//
//     step_begin, binary_forward, affine_forward…, latent_forward, affine_forward…, bernoulli_output,
//     affine_input_gradient…, latent_backward, affine_input_gradient…, step_weights
//
// and nothing in it depends on the host: what changes from step to step lies in `State`, in device memory, so that a
// captured graph can be replayed. Every kernel that reads `State` comes before the one that advances it. For IWAE's
// bound the kernels of bound.cu come between them.

#include "active.cuh"
#include "philox.cuh"
#include "product.cuh"
#include "reduce.cuh"
#include "step.cuh"

// The constants of the step. [D31] [D33]
__device__ __forceinline__ void write_constants(const State& state, int batch, double* constants) {
    const double t = static_cast<double>(state.step + 1), step = static_cast<double>(state.step);
    const double kl_weight =
        step >= state.warmup_steps ? state.kl_weight : state.kl_weight * step / state.warmup_steps;
    constants[0] = state.beta1;
    constants[1] = 1 - state.beta1;
    constants[2] = state.beta2;
    constants[3] = 1 - state.beta2;
    constants[4] = state.lr / (1 - pow(state.beta1, t));
    constants[5] = 1 / sqrt(1 - pow(state.beta2, t));
    constants[6] = state.eps;
    constants[CONSTANT_DKL] = kl_weight / batch;
    constants[CONSTANT_KL_WEIGHT] = kl_weight;
    constants[CONSTANT_STEP] = step;
}

// One block per example: its pixels, binarised anew if asked for, and the list of the active ones. One more block
// writes the constants of the step, whose powers take as long as all the rest. [D28] [D38]
extern "C" __global__ void __launch_bounds__(ACTIVE_THREADS)
    step_begin(const State* state, const u8* data, const u32* orders, const u32* places, int batch, int features,
               u8* bits, int* index, int* counts, double* constants) {
    __shared__ int totals[ACTIVE_THREADS / 32];
    const int b = blockIdx.x;
    if (b == batch) {
        if (threadIdx.x == 0) write_constants(*state, batch, constants);
        return;
    }
    const u32 row = data_row(*state, orders, batch, b), place = place_of(places, row);
    const u8* source = data + static_cast<i64>(row) * features;
    u8* target = bits + at(b, 0, features);
    const auto draw_four = [&](int column) {
        u8 values[4];
#pragma unroll
        for (int n = 0; n < 4; ++n) values[n] = column + n < features ? source[column + n] : 0;
        if (state->draw) {
            const Words words = philox(column / 4, place, static_cast<u32>(state->step),
                                       stream_word(STREAM_BINARIZE, 0), state->seed);
#pragma unroll
            for (int n = 0; n < 4; ++n) values[n] = uniform(words.lane[n]) < probability(values[n]);
        }
        u32 found = 0;
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            if (column + n < features) target[column + n] = values[n];
            found |= (values[n] != 0 ? 1u : 0u) << n;
        }
        return found;
    };
    const int count = list_active(draw_four, features, index + at(b, 0, features), totals);
    if (threadIdx.x == 0) counts[b] = count;
}

// Both heads, then the KL, and z unless it is null. Threads take (unit of h, head's output) in turn, neighbours
// neighbouring outputs. Shared memory: one entry per thread and 2 latent ones per example. [D17] [D19] [D22]
template <int edge>
__device__ __forceinline__ void encode_rows(real* shared, const State& state, const real* h, const real* mu_weight,
                                            const real* mu_bias, const real* logvar_weight, const real* logvar_bias,
                                            const u32* orders, const u32* places, int batch, int hidden, int latent,
                                            real* mu, real* logvar, real* eps, real* z, real* kl) {
    using Rows = LatentRows<edge>;
    constexpr int count = Rows::count, threads = Rows::threads, at_once = Rows::at_once;
    // With one example per block the last warp draws its noise while the others are at the heads; with several, where
    // that would take it too long, all threads do.
    constexpr int workers = count == 1 ? threads - 32 : threads, first_drawer = count == 1 ? workers : 0;
    real *partial = shared, *heads = shared + count * threads;
    const int b0 = blockIdx.x * count, thread = threadIdx.x;
    if (z != nullptr && thread >= first_drawer)
        for (int n = thread - first_drawer; n < count * latent; n += threads - first_drawer) {
            const int b = b0 + n / latent, k = n % latent;
            if (b >= batch) continue;
            const u32 place = place_of(places, data_row(state, orders, batch, b));
            eps[at(b, k, latent)] =
                normal_at(k, place, static_cast<u32>(state.step), stream_word(STREAM_EPS, 0), state.seed);
        }
    for (int first = 0; first < 2 * latent; first += workers) {
        const int width = min(workers, 2 * latent - first), groups = workers / width;
        const int group = thread / width, output = first + thread % width;
        real sum[count] = {};
        if (group < groups) {
            const real* weight = output < latent ? mu_weight + output : logvar_weight + (output - latent);
            for (int first_unit = group; first_unit < hidden; first_unit += at_once * groups)
#pragma unroll
                for (int n = 0; n < at_once; ++n) {
                    const int unit = first_unit + n * groups, i = min(unit, hidden - 1);
                    const real factor = weight[at(i, 0, latent)];
#pragma unroll
                    for (int r = 0; r < count; ++r) {
                        const real product = h[at(min(b0 + r, batch - 1), i, hidden)] * factor;
                        sum[r] += unit < hidden ? product : real(0);
                    }
                }
        }
#pragma unroll
        for (int r = 0; r < count; ++r) partial[r * threads + thread] = sum[r];
        __syncthreads();
        if (thread < width)
            for (int r = 0; r < count; ++r) {
                real total = output < latent ? mu_bias[output] : logvar_bias[output - latent];
                for (int g = 0; g < groups; ++g) total += partial[r * threads + g * width + thread];
                heads[r * 2 * latent + output] = total;
            }
        __syncthreads();
    }
    const int r = thread / 32, b = b0 + r;
    if (r >= count || b >= batch) return;
    const real* head = heads + r * 2 * latent;
    double twice_kl = 0;
    for (int k = thread % 32; k < latent; k += 32) {
        const real m = head[k], v = head[latent + k];
        const i64 entry = at(b, k, latent);
        mu[entry] = m;
        logvar[entry] = v;
        twice_kl += kl_term(m, v);
        if (z != nullptr) z[entry] = latent_sample(m, v, eps[entry]);
    }
    twice_kl = warp_sum(twice_kl);
    if (thread % 32 == 0) kl[b] = static_cast<real>(0.5 * twice_kl);
}

// From da of the decoder's first hidden layer to dz, dmu and dlogvar, and on to da of the encoder's last one, whose
// output is h. Shared memory: 2 latent entries per example. [D17] [D22] [D29]
template <int edge>
__device__ __forceinline__ void encode_rows_backward(real* shared, const real* da, const real* decoder_weight,
                                                     const real* mu, const real* logvar, const real* eps,
                                                     const real* mu_weight, const real* logvar_weight, const real* h,
                                                     real dkl, int batch, int latent, int decoder_hidden, int hidden,
                                                     int activation, real* dmu, real* dlogvar, real* dh) {
    using Rows = LatentRows<edge>;
    constexpr int count = Rows::count, at_once = Rows::at_once;
    const int b0 = blockIdx.x * count, lane = threadIdx.x % 32;
    // One warp per latent.
    for (int k = threadIdx.x / 32; k < latent; k += Rows::threads / 32) {
        real sum[count] = {};
        for (int first = lane; first < decoder_hidden; first += 32 * at_once)
#pragma unroll
            for (int n = 0; n < at_once; ++n) {
                const int unit = first + 32 * n, i = min(unit, decoder_hidden - 1);
                const real factor = decoder_weight[at(k, i, decoder_hidden)];
#pragma unroll
                for (int r = 0; r < count; ++r) {
                    const real product = da[at(min(b0 + r, batch - 1), i, decoder_hidden)] * factor;
                    sum[r] += unit < decoder_hidden ? product : real(0);
                }
            }
#pragma unroll
        for (int r = 0; r < count; ++r) {
            const real dz = static_cast<real>(warp_sum(sum[r]));
            if (lane > 0 || b0 + r >= batch) continue;
            const i64 entry = at(b0 + r, k, latent);
            real* of_row = shared + r * 2 * latent;
            of_row[k] = dmu[entry] = mu_gradient(dz, mu[entry], dkl);
            of_row[latent + k] = dlogvar[entry] = logvar_gradient(dz * eps[entry], logvar[entry], dkl);
        }
    }
    heads_gradient<edge>(shared, mu_weight, logvar_weight, h, batch, latent, hidden, activation, dh);
}

#define LATENT_KERNELS(edge)                                                                                           \
    extern "C" __global__ void LATENT_BOUNDS(edge)                                                                 \
        latent_forward_##edge(const State* state, const real* h, const real* mu_weight, const real* mu_bias,           \
                              const real* logvar_weight, const real* logvar_bias, const u32* orders,                   \
                              const u32* places, int batch, int hidden, int latent, real* mu, real* logvar, real* eps, \
                              real* z, real* kl) {                                                                     \
        DYNAMIC_SHARED(real, dynamic);                                                                                 \
        encode_rows<edge>(dynamic, *state, h, mu_weight, mu_bias, logvar_weight, logvar_bias, orders, places, batch,   \
                          hidden, latent, mu, logvar, eps, z, kl);                                                     \
    }                                                                                                                  \
    extern "C" __global__ void LATENT_BOUNDS(edge)                                                                 \
        latent_backward_##edge(const real* da, const real* decoder_weight, const real* mu, const real* logvar,         \
                               const real* eps, const real* mu_weight, const real* logvar_weight, const real* h,       \
                               const double* constants, int batch, int latent, int decoder_hidden, int hidden,         \
                               int activation, real* dmu, real* dlogvar, real* dh) {                                   \
        DYNAMIC_SHARED(real, dynamic);                                                                                 \
        encode_rows_backward<edge>(dynamic, da, decoder_weight, mu, logvar, eps, mu_weight, logvar_weight, h,          \
                                   static_cast<real>(constants[CONSTANT_DKL]), batch, latent, decoder_hidden, hidden,  \
                                   activation, dmu, dlogvar, dh);                                                      \
    }

FOR_TILE_SIZES(LATENT_KERNELS)

// One tile of one affine layer's weights, for their gradient: the host writes one for each block, so that a block has a
// single look-up to wait for.
struct WeightTile {
    const void* x;        // (rows, inputs), bytes if `binary`, else real
    const real* da;       // (rows, outputs)
    i64 weight_at, bias_at;
    int rows, inputs, outputs, binary, row0, column0;
};

// A parameter and its moments.
struct Entry {
    real parameter, first, second;
};

__device__ __forceinline__ Adam adam_of(const double* constants) {
    const double* c = constants;
    return Adam{static_cast<real>(c[0]), static_cast<real>(c[1]), static_cast<real>(c[2]), static_cast<real>(c[3]),
                static_cast<real>(c[4]), static_cast<real>(c[5]), static_cast<real>(c[6])};
}

// One tile of weight gradients, stored if `gradients` is there, and Adam on it if `update`; true if a parameter or
// moment was left not finite. The bias is one more row of the weights, that of a constant one. [D25] [D31]
template <int edge>
__device__ __forceinline__ bool weight_tile(TileMemory<edge>& memory, const WeightTile& work, real* gradients,
                                            real* parameters, real* first, real* second, const double* constants,
                                            bool update) {
    const int rows = work.rows, inputs = work.inputs, outputs = work.outputs;
    const int row0 = work.row0, column0 = work.column0;
    Tile<edge> tile;
    const AlongColumns<real> da = {work.da, outputs, rows};
    if (work.binary)
        tile.multiply(memory, AlongColumnsAndOne<u8>{static_cast<const u8*>(work.x), inputs, rows}, da, rows, row0,
                      column0);
    else
        tile.multiply(memory, AlongColumnsAndOne<real>{static_cast<const real*>(work.x), inputs, rows}, da, rows, row0,
                      column0);
    const Adam adam = adam_of(constants);
    const auto place = [&](int row, int column) {
        return row < inputs ? work.weight_at + at(row, column, outputs) : work.bias_at + column;
    };
    bool bad = false;
#pragma unroll
    for (int round = 0; round < tile.rounds; ++round) {
        const int from = 2 * round, to = from + 2;
        // On their way while the sums meet, and all before the first is stored: none waits for another.
        Entry entries[2][tile.columns];
        const auto read = [&](int i, int j, int row, int column) {
            const i64 entry = place(row, column);
            entries[i - from][j] = Entry{parameters[entry], first[entry], second[entry]};
        };
        const auto step = [&](int i, int j, int row, int column) {
            const i64 entry = place(row, column);
            if (gradients != nullptr) gradients[entry] = tile.sum[i][j];
            if (!update) return;
            Entry& now = entries[i - from][j];
            adam_entry(adam, tile.sum[i][j], now.parameter, now.first, now.second);
            bad |= !is_finite(now.parameter) || !is_finite(now.second);
            parameters[entry] = now.parameter;
            first[entry] = now.first;
            second[entry] = now.second;
        };
        if (update) tile.each(row0, column0, inputs + 1, outputs, read, from, to);
        tile.meet(memory, round);
        tile.each(row0, column0, inputs + 1, outputs, step, from, to);
    }
    return bad;
}

// The end of a step, by one block: the examples' terms, their means into the ring of metrics, and the count. On a
// bound, which is null for the ELBO, `reconstruction` is there already. [D4] [D24] [D41]
__device__ __forceinline__ void finish_step(double* shared, State* state, int batch, const double* partial, int tiles,
                                            const real* kl, const real* bound, real* reconstruction,
                                            double* metrics) {
    double of_reconstruction = 0, of_kl = 0, of_bound = 0;
    for (int b = threadIdx.x; b < batch; b += PRODUCT_THREADS) {
        double sum = 0;
        if (bound == nullptr) {
            for (int tile = 0; tile < tiles; ++tile) sum += partial[at(b, tile, tiles)];
            reconstruction[b] = static_cast<real>(sum);
        } else {
            sum = reconstruction[b];
            of_bound += bound[b];
        }
        of_reconstruction += sum;
        of_kl += kl[b];
    }
    of_reconstruction = block_sum(of_reconstruction, shared, PRODUCT_THREADS / 32);
    of_kl = block_sum(of_kl, shared, PRODUCT_THREADS / 32);
    of_bound = block_sum(of_bound, shared, PRODUCT_THREADS / 32);
    if (threadIdx.x > 0) return;
    double* slot = metrics + 3 * (state->step % state->slots);
    slot[0] = of_reconstruction / batch;
    slot[1] = of_kl / batch;
    slot[2] = of_bound / batch;
    if (!is_finite(of_reconstruction + of_kl + of_bound)) atomicMin(&state->first_bad, state->step);
    state->step += 1;
}

// The first block ends the step, and each of the others has a tile of weights, over all layers. Only the first touches
// the number of steps; the others read it from the constants.
#define STEP_WEIGHTS(edge)                                                                                             \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        step_weights_##edge(State* state, const WeightTile* work, int batch, real* gradients, real* parameters,        \
                            real* first, real* second, const double* constants, int update,                            \
                            const double* partial, int tiles, const real* kl, const real* bound, real* reconstruction, \
                            double* metrics) {                                                                         \
        __shared__ TileMemory<edge> memory;                                                                            \
        __shared__ double shared[PRODUCT_THREADS / 32];                                                                \
        __shared__ WeightTile mine;                                                                                    \
        if (blockIdx.x == 0)                                                                                           \
            finish_step(shared, state, batch, partial, tiles, kl, bound, reconstruction, metrics);                     \
        else {                                                                                                         \
            if (threadIdx.x == 0) mine = work[blockIdx.x - 1];                                                         \
            __syncthreads();                                                                                           \
            if (weight_tile(memory, mine, gradients, parameters, first, second, constants, update != 0))               \
                atomicMin(&state->first_bad, static_cast<u64>(constants[CONSTANT_STEP]));                              \
        }                                                                                                              \
    }

FOR_TILE_SIZES(STEP_WEIGHTS)
