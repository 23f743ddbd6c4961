// The K-sample log weights log p(x, z) - log q(z|x), in chunks of samples; and the decoder's output layer with the
// Bernoulli terms in its epilogue, which the training step uses as well. Logits never reach memory. [D4] [D34]

#include "philox.cuh"
#include "product.cuh"
#include "reduce.cuh"

// z of `count` samples of each example, from sample `first` on, and log p(z) - log q(z|x). One warp per row,
// sample-major. [D17] [D34]
extern "C" __global__ void __launch_bounds__(128)
    importance_sample(const real* mu, const real* logvar, const u32* places, u64 seed, u32 first, int count, int batch,
                      int latent, real* z, real* prior) {
    const int row = blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= count * batch) return;
    const int example = row % batch;
    const u32 last = stream_word(STREAM_EVAL_EPS, first + row / batch);
    double twice = 0;
    for (int k = threadIdx.x % 32; k < latent; k += 32) {
        const real eps = normal_at(k, places[example], 0, last, seed);
        const real v = logvar[at(example, k, latent)], value = latent_sample(mu[at(example, k, latent)], v, eps);
        z[at(row, k, latent)] = value;
        twice += log_ratio_term(eps, v, value);
    }
    twice = warp_sum(twice);
    if (threadIdx.x % 32 == 0) prior[row] = static_cast<real>(0.5 * twice);
}

// logits = h W + b; partial (rows, tiles), the sum of log p over each tile's pixels; and, unless it is null,
// dlogits = scale (x - sigmoid(logits)). Row r of h belongs to row r / together % batch of x: so many neighbouring rows
// belong to one example, and the batch begins again after its last. [D4] [D27]
template <int edge>
__device__ __forceinline__ void output_tile(TileMemory<edge>& memory, const real* h, const real* weight,
                                            const real* bias, const u8* x, int rows, int batch, int together,
                                            int inputs, int features, real scale, real* dlogits, double* partial) {
    const int row0 = blockIdx.y * edge, column0 = blockIdx.x * edge;
    Tile<edge> tile;
    tile.multiply(memory, AlongRows<real>{h, rows, inputs}, AlongColumns<real>{weight, features, inputs}, inputs, row0,
                  column0);
    real of_column[tile.columns];
    u8 pixels[tile.rows][tile.columns];
#pragma unroll
    for (int j = 0; j < tile.columns; ++j) of_column[j] = bias[min(column0 + tile.column(j), features - 1)];
    tile.each(row0, column0, rows, features, [&](int i, int j, int row, int column) {
        pixels[i][j] = x[at(row / together % batch, column, features)];
    });
    tile.meet(memory);
    real terms[tile.rows] = {};
    tile.each(row0, column0, rows, features, [&](int i, int j, int row, int column) {
        const real logit = tile.sum[i][j] + of_column[j], e = exp_minus_size(logit);
        const real pixel = static_cast<real>(pixels[i][j]);
        terms[i] += bernoulli_term(pixel, logit, e);
        if (dlogits != nullptr) dlogits[at(row, column, features)] = scale * bernoulli_slope(pixel, logit, e);
    });
#pragma unroll
    for (int i = 0; i < tile.rows; ++i) {
        // In double precision: an error of log w becomes a factor of its sample's weight.
        const double sum = warp_sum(terms[i]);
        const int row = row0 + tile.row(i);
        if (threadIdx.x % 32 == 0 && row < rows) partial[at(row, blockIdx.x, gridDim.x)] = sum;
    }
}

#define OUTPUT_KERNEL(edge)                                                                                            \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        bernoulli_output_##edge(const real* h, const real* weight, const real* bias, const u8* x, int rows, int batch, \
                                int together, int inputs, int features, real scale, real* dlogits, double* partial) {  \
        __shared__ TileMemory<edge> memory;                                                                            \
        output_tile(memory, h, weight, bias, x, rows, batch, together, inputs, features, scale, dlogits, partial);     \
    }

FOR_TILE_SIZES(OUTPUT_KERNEL)

// log w of each row: the prior's and q's share and the row's partial sums, in order.
extern "C" __global__ void __launch_bounds__(256)
    importance_weights(const real* prior, const double* partial, int rows, int tiles, real* log_w) {
    const int row = blockIdx.x * 256 + threadIdx.x;
    if (row >= rows) return;
    double sum = prior[row];
    for (int tile = 0; tile < tiles; ++tile) sum += partial[at(row, tile, tiles)];
    log_w[row] = static_cast<real>(sum);
}
