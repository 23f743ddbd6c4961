// The columns of a row of bytes that are one, in order: what the binary first layer sums over. [D28]
#pragma once

#include "math.cuh"

#define ACTIVE_THREADS 256

// The list of one row, by a block of 256 threads; `totals` holds one entry per warp. The result is how many there are.
__device__ __forceinline__ int list_active(const u8* x, int columns, int* index, int* totals) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int found = 0;
    for (int first = 0; first < columns; first += ACTIVE_THREADS) {
        const int column = first + threadIdx.x;
        const bool active = column < columns && x[column] != 0;
        const u32 votes = __ballot_sync(0xffffffffu, active);
        if (lane == 0) totals[warp] = __popc(votes);
        __syncthreads();
        int place = found + __popc(votes & ((1u << lane) - 1u));
        for (int w = 0; w < ACTIVE_THREADS / 32; ++w) {
            if (w < warp) place += totals[w];
            found += totals[w];
        }
        if (active) index[place] = column;
        __syncthreads();
    }
    return found;
}
