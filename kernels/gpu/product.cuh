// One tile of a matrix product: the sum over k of a(i, k) b(j, k), for a block of 256 threads.
//
// Both operands pass through shared memory, twice: while one panel is being multiplied, the next is on its way from
// memory through registers. Entries beyond the edges read as zero. A thread multiplies R x R entries; in the small tile
// those take a quarter of the threads, so four groups share each panel's depth, and their sums meet at the end. The
// order of every sum depends on the sizes alone.
#pragma once

#include "math.cuh"

#define PRODUCT_THREADS 256
// Given with the number of blocks that an SM is to hold: left to itself, the compiler spills to make room for one more.
#define PRODUCT_BOUNDS __launch_bounds__(PRODUCT_THREADS, sizeof(real) == 4 ? 2 : 1)

// Kernels exist with two sizes of tile: 32 fills the device where rows are few, 64 does more work per load.
#define FOR_TILE_SIZES(kernel) kernel(32) kernel(64)

template <int edge>
struct TileShape {
    static constexpr int R = 4, threads = (edge / R) * (edge / R), groups = PRODUCT_THREADS / threads;
    static_assert(edge % 16 == 0 && groups * threads == PRODUCT_THREADS, "no thread may be left over");
    static constexpr int depth = groups == 1 ? 16 : 32;
    // Four entries of padding spread a column over the banks and keep vectors of four aligned.
    static constexpr int stride = edge + 4;
};

// Four neighbouring entries, loaded as one.
struct alignas(4 * sizeof(real)) Four {
    real lane[4];
};

__device__ __forceinline__ const Four& four(const real* first) { return *reinterpret_cast<const Four*>(first); }

// Shared memory: two stages of both operands' panels, then the groups' sums.
template <int edge>
union alignas(Four) TileMemory {
    using Shape = TileShape<edge>;
    struct {
        real a[2][Shape::depth][Shape::stride], b[2][Shape::depth][Shape::stride];
    } panels;
    real sums[Shape::groups][Shape::groups == 1 ? 1 : edge][Shape::stride];
};

template <int edge>
struct Tile {
    using Shape = TileShape<edge>;
    static constexpr int R = Shape::R, threads = Shape::threads, groups = Shape::groups, depth = Shape::depth;
    // What a thread brings in of each operand's panel.
    static constexpr int loads = edge * depth / PRODUCT_THREADS;

    // The result's entries that a thread has in the end, rows x columns; neighbouring threads have neighbouring
    // columns, and `across` of them a row.
    static constexpr int rows = groups == 1 ? R : edge * edge / PRODUCT_THREADS, columns = groups == 1 ? R : 1;
    static constexpr int across = edge / columns;
    real sum[rows][columns];

    static __device__ __forceinline__ int row(int i) {
        const int first = threadIdx.x / across;
        return groups == 1 ? first * R + i : first + PRODUCT_THREADS / across * i;
    }

    static __device__ __forceinline__ int column(int j) { return threadIdx.x % across + across * j; }

    // The columns that a thread multiplies: those of its result, or, where results are dealt out later, a vector.
    static __device__ __forceinline__ int factor_column(int thread, int j) {
        return groups == 1 ? thread % (edge / R) + edge / R * j : thread % (edge / R) * R + j;
    }

    template <class Operand>
    static __device__ __forceinline__ void fetch(const Operand& operand, int first, int k0, real (&next)[loads]) {
#pragma unroll
        for (int n = 0; n < loads; ++n) {
            const int e = static_cast<int>(threadIdx.x) + PRODUCT_THREADS * n;
            next[n] = Operand::along_depth ? operand(first + e / depth, k0 + e % depth)
                                           : operand(first + e % edge, k0 + e / edge);
        }
    }

    template <class Operand>
    static __device__ __forceinline__ void store(real (&panel)[depth][Shape::stride], const real (&next)[loads]) {
#pragma unroll
        for (int n = 0; n < loads; ++n) {
            const int e = static_cast<int>(threadIdx.x) + PRODUCT_THREADS * n;
            if (Operand::along_depth)
                panel[e % depth][e / depth] = next[n];
            else
                panel[e / edge][e % edge] = next[n];
        }
    }

    // Fill `sum` with the tile whose first row and column are given. All threads of the block must call it.
    template <class A, class B>
    __device__ __forceinline__ void multiply(TileMemory<edge>& memory, const A& a, const B& b, int length, int row0,
                                             int column0) {
        auto& panels = memory.panels;
        const int group = threadIdx.x / threads, thread = threadIdx.x % threads;
        const int first_row = thread / (edge / R) * R;
        real next_a[loads], next_b[loads], own[R][R] = {};
        fetch(a, row0, 0, next_a);
        fetch(b, column0, 0, next_b);
        store<A>(panels.a[0], next_a);
        store<B>(panels.b[0], next_b);
        __syncthreads();
        int stage = 0;
        for (int k0 = 0; k0 < length; k0 += depth, stage ^= 1) {
            const bool more = k0 + depth < length;
            if (more) {
                fetch(a, row0, k0 + depth, next_a);
                fetch(b, column0, k0 + depth, next_b);
            }
#pragma unroll
            for (int step = 0; step < depth / groups; ++step) {
                const int k = group * (depth / groups) + step;
                const Four left = four(&panels.a[stage][k][first_row]);
                Four right;
                if constexpr (groups == 1)
#pragma unroll
                    for (int j = 0; j < R; ++j) right.lane[j] = panels.b[stage][k][factor_column(thread, j)];
                else
                    right = four(&panels.b[stage][k][factor_column(thread, 0)]);
#pragma unroll
                for (int i = 0; i < R; ++i)
#pragma unroll
                    for (int j = 0; j < R; ++j) own[i][j] += left.lane[i] * right.lane[j];
            }
            if (more) {
                store<A>(panels.a[stage ^ 1], next_a);
                store<B>(panels.b[stage ^ 1], next_b);
                __syncthreads();
            }
        }
        if constexpr (groups == 1) {
#pragma unroll
            for (int i = 0; i < R; ++i)
#pragma unroll
                for (int j = 0; j < R; ++j) sum[i][j] = own[i][j];
        } else {
            __syncthreads();
#pragma unroll
            for (int i = 0; i < R; ++i)
#pragma unroll
                for (int j = 0; j < R; ++j) memory.sums[group][first_row + i][factor_column(thread, j)] = own[i][j];
            __syncthreads();
#pragma unroll
            for (int i = 0; i < rows; ++i) {
                sum[i][0] = memory.sums[0][row(i)][column(0)];
#pragma unroll
                for (int g = 1; g < groups; ++g) sum[i][0] += memory.sums[g][row(i)][column(0)];
            }
        }
    }
};

// Operand (i, k) of a matrix whose rows are i: a sum runs along a row.
template <typename T>
struct AlongRows {
    static constexpr bool along_depth = true;
    const T* data;
    int count, length;
    __device__ __forceinline__ real operator()(int i, int k) const {
        return i < count && k < length ? static_cast<real>(data[at(i, k, length)]) : real(0);
    }
};

// Operand (i, k) of a matrix whose columns are i: a sum runs down a column.
template <typename T>
struct AlongColumns {
    static constexpr bool along_depth = false;
    const T* data;
    int count, length;
    __device__ __forceinline__ real operator()(int i, int k) const {
        return i < count && k < length ? static_cast<real>(data[at(k, i, count)]) : real(0);
    }
};

// The same with one more column, of ones: a bias is the weight of a constant one, and its gradient comes along.
template <typename T>
struct AlongColumnsAndOne {
    static constexpr bool along_depth = false;
    const T* data;
    int count, length;
    __device__ __forceinline__ real operator()(int i, int k) const {
        if (k >= length || i > count) return real(0);
        return i == count ? real(1) : static_cast<real>(data[at(k, i, count)]);
    }
};
