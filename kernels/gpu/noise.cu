// philox_normal and philox_bernoulli: the same bits as the reference. [D37] [D38]
//
// A thread draws one block of four columns of one row.

#include "philox.cuh"

#define BLOCK_THREADS 256

struct Place {
    int row, block;
};

__device__ __forceinline__ Place place_of_thread(int columns) {
    const i64 thread = static_cast<i64>(blockIdx.x) * BLOCK_THREADS + threadIdx.x;
    const int blocks = (columns + 3) / 4;
    return Place{static_cast<int>(thread / blocks), static_cast<int>(thread % blocks)};
}

__device__ __forceinline__ u32 last_word(const u32* samples, int samples_count, u32 stream, int row) {
    return stream_word(stream, samples[samples_count > 1 ? row : 0]);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    philox_words(const u32* rows, int count, int columns, const u32* samples, int samples_count, u64 seed, u32 stream,
                 u32 step, u32* out) {
    const auto [row, block] = place_of_thread(columns);
    if (row >= count) return;
    const Words words = philox(block, rows[row], step, last_word(samples, samples_count, stream, row), seed);
    for (int lane = 0; lane < 4 && 4 * block + lane < columns; ++lane)
        out[at(row, 4 * block + lane, columns)] = words.lane[lane];
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    philox_normal(const u32* rows, int count, int columns, const u32* samples, int samples_count, u64 seed, u32 stream,
                  u32 step, real* out) {
    const auto [row, block] = place_of_thread(columns);
    if (row >= count) return;
    const Words words = philox(block, rows[row], step, last_word(samples, samples_count, stream, row), seed);
    const Pair low = normal_pair(words.lane[0], words.lane[1]), high = normal_pair(words.lane[2], words.lane[3]);
    const float normals[4] = {low.first, low.second, high.first, high.second};
    for (int lane = 0; lane < 4 && 4 * block + lane < columns; ++lane)
        out[at(row, 4 * block + lane, columns)] = normals[lane];
}

__device__ __forceinline__ float as_probability(u8 grey) { return probability(grey); }

__device__ __forceinline__ float as_probability(real grey) { return static_cast<float>(grey); }

template <typename T>
__device__ __forceinline__ void draw_pixels(const T* grey, const u32* rows, int count, int columns, u64 seed,
                                            u32 stream, u32 step, u8* out) {
    const auto [row, block] = place_of_thread(columns);
    if (row >= count) return;
    const Words words = philox(block, rows[row], step, stream_word(stream, 0), seed);
    for (int lane = 0; lane < 4 && 4 * block + lane < columns; ++lane) {
        const i64 place = at(row, 4 * block + lane, columns);
        out[place] = uniform(words.lane[lane]) < as_probability(grey[place]);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    philox_bernoulli_bytes(const u8* grey, const u32* rows, int count, int columns, u64 seed, u32 stream, u32 step,
                           u8* out) {
    draw_pixels(grey, rows, count, columns, seed, stream, step, out);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    philox_bernoulli_real(const real* grey, const u32* rows, int count, int columns, u64 seed, u32 stream, u32 step,
                          u8* out) {
    draw_pixels(grey, rows, count, columns, seed, stream, step, out);
}
