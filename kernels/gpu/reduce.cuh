// Sums over a warp or a block in double precision. Their order is fixed, so that a run repeats to the bit.
#pragma once

#include "math.cuh"

// The sum over the 32 lanes, in every lane. All lanes of the warp must call it.
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

// The sum over a block of `warps` full warps, in every thread; `shared` holds one entry a warp. All threads must call
// it, and it may be called again at once.
__device__ __forceinline__ double block_sum(double value, double* shared, int warps) {
    const double of_warp = warp_sum(value);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = of_warp;
    __syncthreads();
    double total = 0;
    for (int warp = 0; warp < warps; ++warp) total += shared[warp];
    __syncthreads();
    return total;
}
