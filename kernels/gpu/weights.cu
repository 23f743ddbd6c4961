// log_mean_exp_weights: log of the mean weight and the normalised weights, from log weights (samples, batch). [D34]

#include "math.cuh"

#define SAMPLE_GROUPS 16

// A block has 32 columns, whose samples are dealt to sixteen groups.
extern "C" __global__ void __launch_bounds__(32 * SAMPLE_GROUPS)
    log_mean_exp_weights(const real* log_w, real* out, real* weights, int samples, int batch) {
    __shared__ real tops[SAMPLE_GROUPS][32];
    __shared__ double totals[SAMPLE_GROUPS][32];
    const int group = threadIdx.y, lane = threadIdx.x, column = blockIdx.x * 32 + lane;
    // Threads beyond the last column work on its copy, so that all of them meet at the barriers.
    const int mine = column < batch ? column : batch - 1;
    const int first = group < samples ? group : samples - 1;
    real top = log_w[at(first, mine, batch)];
    for (int s = first + SAMPLE_GROUPS; s < samples; s += SAMPLE_GROUPS) top = larger(top, log_w[at(s, mine, batch)]);
    tops[group][lane] = top;
    __syncthreads();
    for (int g = 0; g < SAMPLE_GROUPS; ++g) top = larger(top, tops[g][lane]);
    // If all weights are zero, there is no maximum to subtract.
    if (top < 0 && !is_finite(top)) top = 0;
    double total = 0;
    for (int s = group; s < samples; s += SAMPLE_GROUPS) total += exp(log_w[at(s, mine, batch)] - top);
    totals[group][lane] = total;
    __syncthreads();
    total = 0;
    for (int g = 0; g < SAMPLE_GROUPS; ++g) total += totals[g][lane];
    if (column >= batch) return;
    for (int s = group; s < samples; s += SAMPLE_GROUPS) {
        const i64 place = at(s, column, batch);
        weights[place] = exp(log_w[place] - top) / static_cast<real>(total);
    }
    if (group == 0) out[column] = static_cast<real>(static_cast<double>(top) + log(total / samples));
}
