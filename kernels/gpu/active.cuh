// The columns of a row of bytes that are one, in order: what the binary first layer sums over. [D28]
#pragma once

#include "math.cuh"

#define ACTIVE_THREADS 256

// The list of one row, by a block of 256 threads, each with four neighbouring columns at a time: bits(column) has a bit
// for each of them, the first one lowest, and none beyond the row's end. `totals` holds one entry per warp. The result
// is how many there are.
template <class Bits>
__device__ __forceinline__ int list_active(const Bits& bits, int columns, int* index, int* totals) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int found = 0;
    for (int first = 0; first < columns; first += 4 * ACTIVE_THREADS) {
        const int column = first + 4 * static_cast<int>(threadIdx.x);
        const u32 mine = column < columns ? bits(column) : 0;
        int before = 0, of_warp = 0;
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            const u32 votes = __ballot_sync(0xffffffffu, mine >> n & 1u);
            before += __popc(votes & ((1u << lane) - 1u));
            of_warp += __popc(votes);
        }
        if (lane == 0) totals[warp] = of_warp;
        __syncthreads();
        int place = found + before;
        for (int w = 0; w < ACTIVE_THREADS / 32; ++w) {
            if (w < warp) place += totals[w];
            found += totals[w];
        }
#pragma unroll
        for (int n = 0; n < 4; ++n)
            if (mine >> n & 1u) index[place++] = column + n;
        __syncthreads();
    }
    return found;
}
