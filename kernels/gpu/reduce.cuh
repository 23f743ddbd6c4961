// Sums and maxima over a warp or a block in double precision. Their order is fixed, so that a run repeats to the bit.
#pragma once

#include "math.cuh"

struct Sum {
    static __device__ __forceinline__ double of(double a, double b) { return a + b; }
};

struct Largest {
    static __device__ __forceinline__ double of(double a, double b) { return larger(a, b); }
};

// The result over the 32 lanes, in every lane. All lanes of the warp must call it.
template <class Kind>
__device__ __forceinline__ double over_warp(double value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = Kind::of(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

__device__ __forceinline__ double warp_sum(double value) { return over_warp<Sum>(value); }

// The result over a block of `warps` full warps, in every thread; `shared` holds one entry per warp. All threads must
// call it, and it may be called again at once.
template <class Kind>
__device__ __forceinline__ double over_block(double value, double* shared, int warps) {
    const double of_warp = over_warp<Kind>(value);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = of_warp;
    __syncthreads();
    double all = shared[0];
    for (int warp = 1; warp < warps; ++warp) all = Kind::of(all, shared[warp]);
    __syncthreads();
    return all;
}

__device__ __forceinline__ double block_sum(double value, double* shared, int warps) {
    return over_block<Sum>(value, shared, warps);
}
