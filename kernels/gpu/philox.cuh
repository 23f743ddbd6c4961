// Philox4x32-10 and its uniforms and normals, bit for bit what vae_np/noise.py gives.
//
// Every product that meets a sum is rounded by an _rn intrinsic, so that the compiler cannot fuse the two: a fused
// multiply-add would round once where the contract rounds twice.
#pragma once

#include "math.cuh"

enum { STREAM_BINARIZE = 2, STREAM_EPS = 3, STREAM_EVAL_EPS = 5 };

// The four words of a block. [D37] (Salmon et al. 2011)
struct Words {
    u32 lane[4];
};

__device__ __forceinline__ Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u64 seed) {
    u32 k0 = static_cast<u32>(seed), k1 = static_cast<u32>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
        const u32 high1 = __umulhi(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

// The counter's last word.
__device__ __forceinline__ u32 stream_word(u32 stream, u32 sample) { return stream + 256u * sample; }

// u = (word >> 8) 2^-24, exact. [D38]
__device__ __forceinline__ float uniform(u32 word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// A byte's probability of a one. [D38]
__device__ __forceinline__ float probability(u8 grey) { return __fdiv_rn(static_cast<float>(grey), 255.0f); }

__device__ __forceinline__ double horner_step(double sum, double x, double coefficient) {
    return __dadd_rn(__dmul_rn(sum, x), coefficient);
}

// ln((word + 1/2) 2^-32), read off the bits: exponent ln 2 + 2 artanh((m - 1) / (m + 1)). [D38]
__device__ __forceinline__ double log_unit(u32 word) {
    const i64 bits = __double_as_longlong((static_cast<double>(word) + 0.5) * 0x1p-32);
    const i64 exponent = (bits - 0x3FE6A09E667F3BCDll) >> 52;
    const double m = __longlong_as_double(bits - exponent * (1ll << 52));
    const double s = (m - 1.0) / (m + 1.0);
    const double x = __dmul_rn(s, s);
    double t = 2.0 / 19.0;
    t = horner_step(t, x, 2.0 / 17.0);
    t = horner_step(t, x, 2.0 / 15.0);
    t = horner_step(t, x, 2.0 / 13.0);
    t = horner_step(t, x, 2.0 / 11.0);
    t = horner_step(t, x, 2.0 / 9.0);
    t = horner_step(t, x, 2.0 / 7.0);
    t = horner_step(t, x, 2.0 / 5.0);
    t = horner_step(t, x, 2.0 / 3.0);
    t = horner_step(t, x, 2.0);
    return __dadd_rn(__dmul_rn(static_cast<double>(exponent), 0x1.62e42fefa39efp-1), __dmul_rn(s, t));
}

// Two standard normals from two words, by Box and Muller's transform. [D38]
struct Pair {
    float first, second;
};

__device__ __forceinline__ Pair normal_pair(u32 word0, u32 word1) {
    const double radius = __dsqrt_rn(-2.0 * log_unit(word0));
    const u32 shifted = word1 + 0x20000000u;
    const u32 quarter = shifted >> 30;
    const double fraction = static_cast<double>(shifted & 0x3FFFFFFFu);
    const double theta = (fraction - (0x1p29 - 0.5)) * 0x1p-30 * 0x1.921fb54442d18p+0;
    const double x = __dmul_rn(theta, theta);
    double c = 1.0 / 20922789888000.0;
    c = horner_step(c, x, -1.0 / 87178291200.0);
    c = horner_step(c, x, 1.0 / 479001600.0);
    c = horner_step(c, x, -1.0 / 3628800.0);
    c = horner_step(c, x, 1.0 / 40320.0);
    c = horner_step(c, x, -1.0 / 720.0);
    c = horner_step(c, x, 1.0 / 24.0);
    c = horner_step(c, x, -1.0 / 2.0);
    c = horner_step(c, x, 1.0);
    double s = -1.0 / 1307674368000.0;
    s = horner_step(s, x, 1.0 / 6227020800.0);
    s = horner_step(s, x, -1.0 / 39916800.0);
    s = horner_step(s, x, 1.0 / 362880.0);
    s = horner_step(s, x, -1.0 / 5040.0);
    s = horner_step(s, x, 1.0 / 120.0);
    s = horner_step(s, x, -1.0 / 6.0);
    s = horner_step(s, x, 1.0);
    s = __dmul_rn(theta, s);
    double cos = quarter & 1u ? s : c, sin = quarter & 1u ? c : s;
    if (quarter == 1u || quarter == 2u) cos = -cos;
    if (quarter >= 2u) sin = -sin;
    return Pair{static_cast<float>(__dmul_rn(radius, cos)), static_cast<float>(__dmul_rn(radius, sin))};
}

// One standard normal: the column's of a row. [D38]
__device__ __forceinline__ real normal_at(u32 column, u32 row, u32 step, u32 last, u64 seed) {
    const Words words = philox(column / 4, row, step, last, seed);
    const bool upper = column & 2u;
    const Pair pair = normal_pair(upper ? words.lane[2] : words.lane[0], upper ? words.lane[3] : words.lane[1]);
    return column & 1u ? pair.second : pair.first;
}
