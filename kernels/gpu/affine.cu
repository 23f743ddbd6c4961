// affine_act and binary_affine_act: y = activation(x W + b) and its gradients. [D25] [D26] [D28]

#include "active.cuh"
#include "product.cuh"

// y = activation(x W + b) where x is real or bytes. [D25] [D26]
template <int edge, typename T>
__device__ __forceinline__ void forward_tile(TileMemory<edge>& memory, const T* x, const real* weight, const real* bias,
                                             real* y, int rows, int inputs, int outputs, int activation) {
    const int row0 = blockIdx.y * edge, column0 = blockIdx.x * edge;
    Tile<edge> tile;
    tile.multiply(memory, AlongRows<T>{x, rows, inputs}, AlongColumns<real>{weight, outputs, inputs}, inputs, row0,
                  column0);
    real of_column[tile.columns];
#pragma unroll
    for (int j = 0; j < tile.columns; ++j) of_column[j] = bias[min(column0 + tile.column(j), outputs - 1)];
    tile.meet(memory);
    tile.each(row0, column0, rows, outputs, [&](int i, int j, int row, int column) {
        y[at(row, column, outputs)] = activate(tile.sum[i][j] + of_column[j], activation);
    });
}

// dx = da W^T, and through the activation of the layer below, whose output is `below`; null where there is none. The
// grid's third dimension may deal the depth, which needs `parts` and `arrived`.
template <int edge>
__device__ __forceinline__ void input_gradient_tile(TileMemory<edge>& memory, const real* da, const real* weight,
                                                    const real* below, real* dx, int rows, int inputs, int outputs,
                                                    int activation, real* parts, u32* arrived) {
    const int row0 = blockIdx.y * edge, column0 = blockIdx.x * edge;
    Tile<edge> tile;
    tile.multiply(memory, AlongRows<real>{da, rows, outputs}, AlongRows<real>{weight, inputs, outputs}, outputs, row0,
                  column0);
    real y[tile.rows][tile.columns] = {};
    if (below != nullptr)
        tile.each(row0, column0, rows, inputs,
                  [&](int i, int j, int row, int column) { y[i][j] = below[at(row, column, inputs)]; });
    tile.meet(memory);
    if (!tile.gather(memory, parts, arrived)) return;
    tile.each(row0, column0, rows, inputs, [&](int i, int j, int row, int column) {
        const real sum = tile.sum[i][j];
        dx[at(row, column, inputs)] = below == nullptr ? sum : activation_gradient(sum, y[i][j], activation);
    });
}

// dW = x^T da, and db as the gradient of one more row of W, that of a constant one. [D25]
template <int edge, typename T>
__device__ __forceinline__ void weight_gradient_tile(TileMemory<edge>& memory, const T* x, const real* da,
                                                     real* dweight, real* dbias, int rows, int inputs, int outputs) {
    const int row0 = blockIdx.y * edge, column0 = blockIdx.x * edge;
    Tile<edge> tile;
    tile.multiply(memory, AlongColumnsAndOne<T>{x, inputs, rows}, AlongColumns<real>{da, outputs, rows}, rows, row0,
                  column0);
    tile.meet(memory);
    tile.each(row0, column0, inputs + 1, outputs, [&](int i, int j, int row, int column) {
        if (row < inputs)
            dweight[at(row, column, outputs)] = tile.sum[i][j];
        else
            dbias[column] = tile.sum[i][j];
    });
}

#define AFFINE_KERNELS(edge)                                                                                           \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        affine_forward_##edge(const real* x, const real* weight, const real* bias, real* y, int rows, int inputs,      \
                              int outputs, int activation) {                                                           \
        __shared__ TileMemory<edge> memory;                                                                            \
        forward_tile(memory, x, weight, bias, y, rows, inputs, outputs, activation);                                   \
    }                                                                                                                  \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        binary_forward_dense_##edge(const u8* x, const real* weight, const real* bias, real* y, int rows, int inputs,  \
                                    int outputs, int activation) {                                                     \
        __shared__ TileMemory<edge> memory;                                                                            \
        forward_tile(memory, x, weight, bias, y, rows, inputs, outputs, activation);                                   \
    }                                                                                                                  \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        affine_input_gradient_##edge(const real* da, const real* weight, const real* below, real* dx, int rows,        \
                                     int inputs, int outputs, int activation, real* parts, u32* arrived) {             \
        __shared__ TileMemory<edge> memory;                                                                            \
        input_gradient_tile(memory, da, weight, below, dx, rows, inputs, outputs, activation, parts, arrived);         \
    }                                                                                                                  \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        affine_weight_gradient_##edge(const real* x, const real* da, real* dweight, real* dbias, int rows, int inputs, \
                                      int outputs) {                                                                   \
        __shared__ TileMemory<edge> memory;                                                                            \
        weight_gradient_tile(memory, x, da, dweight, dbias, rows, inputs, outputs);                                    \
    }                                                                                                                  \
    extern "C" __global__ void PRODUCT_BOUNDS(edge)                                                                    \
        binary_weight_gradient_##edge(const u8* x, const real* da, real* dweight, real* dbias, int rows, int inputs,   \
                                      int outputs) {                                                                   \
        __shared__ TileMemory<edge> memory;                                                                            \
        weight_gradient_tile(memory, x, da, dweight, dbias, rows, inputs, outputs);                                    \
    }

FOR_TILE_SIZES(AFFINE_KERNELS)

// The active columns of each row and their number. One block per row.
extern "C" __global__ void __launch_bounds__(ACTIVE_THREADS)
    active_columns(const u8* x, int rows, int columns, int* index, int* counts) {
    __shared__ int totals[ACTIVE_THREADS / 32];
    const i64 row = at(blockIdx.x, 0, columns);
    const auto bits = [&](int column) {
        u32 found = 0;
        for (int n = 0; n < 4 && column + n < columns; ++n) found |= (x[row + column + n] != 0 ? 1u : 0u) << n;
        return found;
    };
    const int count = list_active(bits, columns, index + row, totals);
    if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

#define GATHER_GROUPS 8
// Columns of a block: each lane of a warp has four.
#define GATHER_COLUMNS 128

// Four neighbouring entries of a row of W; beyond its last column, copies of that one.
__device__ __forceinline__ Four four_columns(const real* weight, int row, int column, int columns) {
    if (has_fours(weight, columns)) return four(&weight[at(row, min(column, columns - 4), columns)]);
    Four found;
#pragma unroll
    for (int k = 0; k < 4; ++k) found.lane[k] = weight[at(row, min(column + k, columns - 1), columns)];
    return found;
}

// y = activation(sum of W's rows where x is one, plus b). A block has 128 columns of one row of y, and each of its warps
// an eighth of the active pixels, several of which are on their way at once. [D28]
extern "C" __global__ void __launch_bounds__(32 * GATHER_GROUPS)
    binary_forward(const int* index, const int* counts, const real* weight, const real* bias, real* y, int rows,
                   int inputs, int outputs, int activation) {
    __shared__ Four sums[GATHER_GROUPS][32];
    constexpr int at_once = 32 / sizeof(real);
    const int row = blockIdx.x, lane = threadIdx.x % 32, group = threadIdx.x / 32;
    const int first_column = blockIdx.y * GATHER_COLUMNS, column = first_column + static_cast<int>(threadIdx.x);
    const int* active = index + at(row, 0, inputs);
    const int count = counts[row];
    const real of_column = bias[min(column, outputs - 1)];
    Four sum = {};
    for (int first = group; first < count; first += GATHER_GROUPS * at_once) {
        Four of_pixel[at_once];
#pragma unroll
        for (int n = 0; n < at_once; ++n)
            of_pixel[n] = four_columns(weight, active[min(first + GATHER_GROUPS * n, count - 1)],
                                       first_column + 4 * lane, outputs);
#pragma unroll
        for (int n = 0; n < at_once; ++n)
#pragma unroll
            for (int k = 0; k < 4; ++k)
                if (first + GATHER_GROUPS * n < count) sum.lane[k] += of_pixel[n].lane[k];
    }
    sums[group][lane] = sum;
    __syncthreads();
    if (threadIdx.x >= GATHER_COLUMNS || column >= outputs) return;
    real total = 0;
#pragma unroll
    for (int g = 0; g < GATHER_GROUPS; ++g) total += sums[g][threadIdx.x / 4].lane[threadIdx.x % 4];
    y[at(row, column, outputs)] = activate(total + of_column, activation);
}

// da = dy times the activation's slope at the output y. [D26]
extern "C" __global__ void __launch_bounds__(256)
    activation_gradient_all(const real* dy, const real* y, real* da, int count, int activation) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i < count) da[i] = activation_gradient(dy[i], y[i], activation);
}
