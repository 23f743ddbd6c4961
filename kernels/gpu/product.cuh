// One tile of a matrix product: the sum over k of a(i, k) b(j, k), for a block of 256 threads.
//
// Both operands pass through shared memory, twice: while one panel is being multiplied, the next is on its way from
// memory through registers. Panels are deep, because a panel costs a wait whatever its size. Entries beyond the edges
// read as zero. Four groups of threads share each panel's depth, each thread multiplies R x R entries, and the groups'
// sums meet at the end. The depth may also be dealt to several blocks. The order of every sum depends on the sizes
// alone.
#pragma once

#include "math.cuh"

#define PRODUCT_THREADS 256
// With the number of blocks that an SM is to hold: left to itself, the compiler spills to make room for one more.
#define PRODUCT_BOUNDS(edge) __launch_bounds__(PRODUCT_THREADS, sizeof(real) == 4 ? (edge == 32 ? 3 : 2) : 1)

// Kernels exist with two sizes of tile: 32 fills the device where rows are few, 64 does more work per load.
#define FOR_TILE_SIZES(kernel) kernel(32) kernel(64)

// Four neighbouring entries, loaded as one.
template <typename T>
struct alignas(4 * sizeof(T)) FourOf {
    T lane[4];
};

using Four = FourOf<real>;

template <typename T>
__device__ __forceinline__ const FourOf<T>& four(const T* first) {
    return *reinterpret_cast<const FourOf<T>*>(first);
}

template <int edge>
struct TileShape {
    // A thread multiplies R rows and R columns; these lie in fours, 32 apart.
    static constexpr int R = edge / 8, threads = 64, groups = PRODUCT_THREADS / threads;
    static constexpr int depth = 8192 / sizeof(real) / edge;
    // Where a thread's sums fill its registers, operands of one step alone fit beside them.
    static constexpr int unrolled = R == 4 ? depth / groups : 1;
    // Four entries of padding spread a column over the banks and keep vectors of four aligned.
    static constexpr int stride = edge + 4;
};

// Shared memory: two stages of both operands' panels; then the groups' sums, two rows of each thread at a time; then
// whether this block is the last one of its tile.
template <int edge>
union alignas(Four) TileMemory {
    using Shape = TileShape<edge>;
    struct {
        real a[2][Shape::depth][Shape::stride], b[2][Shape::depth][Shape::stride];
    } panels;
    real sums[Shape::groups][16][Shape::stride];
    bool is_last;
};

template <int edge>
struct Tile {
    using Shape = TileShape<edge>;
    static constexpr int R = Shape::R, threads = Shape::threads, groups = Shape::groups, depth = Shape::depth;
    // What a thread brings in of each operand's panel, in fours.
    static constexpr int loads = edge * depth / 4 / PRODUCT_THREADS;

    // The result's entries that a thread has in the end: a row belongs to the lanes of one warp.
    static constexpr int rows = edge / 8, columns = edge / 32;
    // Groups' sums meet two of these rows at a time.
    static constexpr int rounds = rows / 2;
    real sum[rows][columns];
    // What the thread has multiplied itself.
    real own[R][R] = {};

    static __device__ __forceinline__ int row(int i) {
        const int place = threadIdx.x / 32 + 8 * (i % 2), own = i / 2 * 2 + place % 2;
        return place / 2 * 4 + own % 4 + own / 4 * 32;
    }

    static __device__ __forceinline__ int column(int j) { return threadIdx.x % 32 + 32 * j; }

    // Calls visit(i, j, row, column) for each of the thread's entries in rows first to last that lies within the result.
    template <class Visit>
    static __device__ __forceinline__ void each(int row0, int column0, int row_count, int column_count,
                                                const Visit& visit, int first = 0, int last = rows) {
#pragma unroll
        for (int i = first; i < last; ++i)
#pragma unroll
            for (int j = 0; j < columns; ++j)
                if (row0 + row(i) < row_count && column0 + column(j) < column_count)
                    visit(i, j, row0 + row(i), column0 + column(j));
    }

    // The place in a panel, first row and depth, of a thread's n-th four. Where these lie along the depth, a warp takes
    // two from each of sixteen rows: then loads fill whole sectors, and stores meet no bank twice.
    template <bool along_depth>
    static __device__ __forceinline__ void place(int n, int& i, int& k) {
        const int e = static_cast<int>(threadIdx.x) + PRODUCT_THREADS * n;
        if (along_depth) {
            i = e / 32 % (edge / 16) * 16 + e % 16;
            k = e / 32 / (edge / 16) * 8 + e % 32 / 16 * 4;
        } else {
            i = e % (edge / 4) * 4;
            k = e / (edge / 4);
        }
    }

    template <class Operand>
    static __device__ __forceinline__ void fetch(const Operand& operand, int first, int k0, Four (&next)[loads]) {
#pragma unroll
        for (int n = 0; n < loads; ++n) {
            int i, k;
            place<Operand::along_depth>(n, i, k);
            next[n] = operand(first + i, k0 + k);
        }
    }

    template <class Operand>
    static __device__ __forceinline__ void store(real (&panel)[depth][Shape::stride], const Four (&next)[loads]) {
#pragma unroll
        for (int n = 0; n < loads; ++n) {
            int i, k;
            place<Operand::along_depth>(n, i, k);
            if (Operand::along_depth)
#pragma unroll
                for (int lane = 0; lane < 4; ++lane) panel[k + lane][i] = next[n].lane[lane];
            else
                *reinterpret_cast<Four*>(&panel[k][i]) = next[n];
        }
    }

    // Multiply for the tile whose first row and column are given, over this block's share of the depth, which is dealt
    // over the grid's third dimension. All threads of the block must call it, and then `meet`; what the result needs
    // besides is best loaded between the two.
    template <class A, class B>
    __device__ __forceinline__ void multiply(TileMemory<edge>& memory, const A& a, const B& b, int length, int row0,
                                             int column0) {
        auto& panels = memory.panels;
        const int group = threadIdx.x / threads, thread = threadIdx.x % threads;
        const int first_row = thread / 8 * 4, first_column = thread % 8 * 4;
        constexpr int unrolled = Shape::unrolled;
        const int parts = gridDim.z, share = ((length + depth - 1) / depth + parts - 1) / parts * depth;
        const int begin = blockIdx.z * share, end = min(begin + share, length);
        Four next_a[loads], next_b[loads];
        fetch(a, row0, begin, next_a);
        fetch(b, column0, begin, next_b);
        store<A>(panels.a[0], next_a);
        store<B>(panels.b[0], next_b);
        __syncthreads();
        int stage = 0;
        for (int k0 = begin; k0 < end; k0 += depth, stage ^= 1) {
            const bool more = k0 + depth < end;
            if (more) {
                fetch(a, row0, k0 + depth, next_a);
                fetch(b, column0, k0 + depth, next_b);
            }
#pragma unroll unrolled
            for (int step = 0; step < depth / groups; ++step) {
                const int k = group * (depth / groups) + step;
                Four left[R / 4], right[R / 4];
#pragma unroll
                for (int n = 0; n < R / 4; ++n) {
                    left[n] = four(&panels.a[stage][k][first_row + 32 * n]);
                    right[n] = four(&panels.b[stage][k][first_column + 32 * n]);
                }
#pragma unroll
                for (int i = 0; i < R; ++i)
#pragma unroll
                    for (int j = 0; j < R; ++j) own[i][j] += left[i / 4].lane[i % 4] * right[j / 4].lane[j % 4];
            }
            if (more) {
                store<A>(panels.a[stage ^ 1], next_a);
                store<B>(panels.b[stage ^ 1], next_b);
                __syncthreads();
            }
        }
    }

    // The groups' products become the block's sums, for two rows of each thread.
    __device__ __forceinline__ void meet(TileMemory<edge>& memory, int round) {
        const int group = threadIdx.x / threads, thread = threadIdx.x % threads;
        const int first_row = thread / 8 * 2, first_column = thread % 8 * 4;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < R; j += 4) {
                const real(&of_row)[R] = own[2 * round + i];
                *reinterpret_cast<Four*>(&memory.sums[group][first_row + i][first_column + 8 * j]) =
                    Four{{of_row[j], of_row[j + 1], of_row[j + 2], of_row[j + 3]}};
            }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < columns; ++j) {
                const int place = threadIdx.x / 32 + 8 * i;
                real& total = sum[2 * round + i][j];
                total = memory.sums[0][place][column(j)];
#pragma unroll
                for (int g = 1; g < groups; ++g) total += memory.sums[g][place][column(j)];
            }
    }

    __device__ __forceinline__ void meet(TileMemory<edge>& memory) {
#pragma unroll
        for (int round = 0; round < rounds; ++round) meet(memory, round);
    }

    // Whether this block has the result in `sum`. Where several blocks share a tile, the last one to come adds up what
    // all of them left in `parts`, in their order, and leaves the count in `arrived` at zero, as it was.
    __device__ __forceinline__ bool gather(TileMemory<edge>& memory, real* parts, u32* arrived) {
        if (gridDim.z == 1) return true;
        const int tile = blockIdx.y * gridDim.x + blockIdx.x, count = gridDim.z;
        const u32 last = gridDim.z - 1;
        real* of_tile = parts + at(tile * count, threadIdx.x, edge * edge);
#pragma unroll
        for (int e = 0; e < rows * columns; ++e)
            of_tile[at(blockIdx.z, e * PRODUCT_THREADS, edge * edge)] = sum[e / columns][e % columns];
        // Whoever sees the count sees the sums that were stored before it.
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) memory.is_last = atomicInc(arrived + tile, last) == last;
        __syncthreads();
        if (!memory.is_last) return false;
        __threadfence();
#pragma unroll
        for (int e = 0; e < rows * columns; ++e) sum[e / columns][e % columns] = of_tile[e * PRODUCT_THREADS];
        for (int part = 1; part < count; ++part)
#pragma unroll
            for (int e = 0; e < rows * columns; ++e)
                sum[e / columns][e % columns] += of_tile[at(part, e * PRODUCT_THREADS, edge * edge)];
        return true;
    }
};

// Whether a matrix can be read in fours: they are aligned, and a row has no rest.
template <typename T>
__device__ __forceinline__ bool has_fours(const T* data, int width) {
    return width % 4 == 0 && reinterpret_cast<u64>(data) % sizeof(FourOf<T>) == 0;
}

// Four neighbours in a row of which `there` are left, zero from there on; as one where the matrix has fours.
template <typename T>
__device__ __forceinline__ Four neighbours(const T* first, int there, bool whole) {
    FourOf<T> found = {};
    if (whole && there > 0) found = four(first);
    if (!whole)
#pragma unroll
        for (int lane = 0; lane < 4; ++lane)
            if (lane < there) found.lane[lane] = first[lane];
    return Four{{static_cast<real>(found.lane[0]), static_cast<real>(found.lane[1]),
                 static_cast<real>(found.lane[2]), static_cast<real>(found.lane[3])}};
}

// Operand (i, k) of a matrix (count, length) whose rows are i: a sum runs along a row. Fours lie along k.
template <typename T>
struct AlongRows {
    static constexpr bool along_depth = true;
    const T* data;
    int count, length;
    bool whole = has_fours(data, length);
    __device__ __forceinline__ Four operator()(int i, int k) const {
        return neighbours(data + at(i, k, length), i < count ? length - k : 0, whole);
    }
};

// Operand (i, k) of a matrix (length, count) whose columns are i: a sum runs down a column. Fours lie along i.
template <typename T>
struct AlongColumns {
    static constexpr bool along_depth = false;
    const T* data;
    int count, length;
    bool whole = has_fours(data, count);
    __device__ __forceinline__ Four operator()(int i, int k) const {
        return neighbours(data + at(k, i, count), k < length ? count - i : 0, whole);
    }
};

// The same with one more column, of ones: a bias is the weight of a constant one, and its gradient comes along.
template <typename T>
struct AlongColumnsAndOne {
    static constexpr bool along_depth = false;
    const T* data;
    int count, length;
    bool whole = has_fours(data, count);
    __device__ __forceinline__ Four operator()(int i, int k) const {
        Four found = neighbours(data + at(k, i, count), k < length ? count - i : 0, whole);
#pragma unroll
        for (int lane = 0; lane < 4; ++lane)
            if (i + lane == count && k < length) found.lane[lane] = real(1);
        return found;
    }
};
