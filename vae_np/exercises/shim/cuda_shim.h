// CUDA as C++: what the kernels of kernels/gpu need of the language, so that g++ compiles the same .cu files.
//
// It checks arithmetic, indexing and barriers. It does not model memory ordering, real concurrency, or the device's own
// rounding of exp, log and their like.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstring>

#include "scheduler.h"

using std::min;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One section holds all the shared memory of a file, so that it can be poisoned as a whole; `used`, so that nothing
// follows from who is seen to write to it.
#define __shared__ static __attribute__((section("cuda_shared"), used))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(shim::dynamic_shared.data())

// Statics that a function keeps to itself would otherwise stay in registers across the switch.
#define SHIM_FENCE asm volatile("" ::: "memory")
#define __syncthreads()                                \
    do {                                               \
        SHIM_FENCE;                                    \
        shim::wait(shim::Waiting::for_block, __LINE__); \
        SHIM_FENCE;                                    \
    } while (false)

// The value that each lane of the warp brings to this point; `mask` names the lanes, and all of them must come.
template <typename T>
inline const char (&shim_exchange(unsigned mask, T value))[32][16] {
    static_assert(sizeof(T) <= 16, "a shuffle moves at most 16 bytes");
    if (mask != 0xffffffffu) shim::fail("a warp function is called with another mask than all lanes");
    auto& slots = shim::exchange_slots();
    std::memcpy(slots[shim::lane()], &value, sizeof(T));
    SHIM_FENCE;
    shim::wait(shim::Waiting::for_warp, 0);
    SHIM_FENCE;
    return slots;
}

template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int distance) {
    T result;
    std::memcpy(&result, shim_exchange(mask, value)[shim::lane() ^ distance], sizeof(T));
    return result;
}

inline unsigned __ballot_sync(unsigned mask, bool vote) {
    const auto& slots = shim_exchange(mask, vote);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) votes |= static_cast<unsigned>(slots[lane][0] != 0) << lane;
    return votes;
}

inline unsigned long long atomicMin(unsigned long long* address, unsigned long long value) {
    const unsigned long long old = *address;
    *address = min(old, value);
    return old;
}

// One more, and zero after `last`.
inline unsigned atomicInc(unsigned* address, unsigned last) {
    const unsigned old = *address;
    *address = old >= last ? 0 : old + 1;
    return old;
}

// Blocks run one after the other, so each sees all that those before it stored.
inline void __threadfence() { SHIM_FENCE; }

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (static_cast<unsigned long long>(a) * b) >> 32; }

// Each rounds once: the file is compiled without contraction.
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline float __fdiv_rn(float a, float b) { return a / b; }

inline long long __double_as_longlong(double value) {
    long long bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
