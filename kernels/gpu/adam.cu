// adam_update: one pass over four flat arrays. [D31] (Kingma & Ba 2015)
//
// add_into and update_part: a step of gradient blocks, whose sums lie in flat buffers, too. [D24]

#include "math.cuh"

extern "C" __global__ void __launch_bounds__(256)
    adam_update(real* parameters, const real* gradient, real* first, real* second, int count, real beta1,
                real one_minus_beta1, real beta2, real one_minus_beta2, real step_size, real inverse_root, real eps) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    const Adam adam = {beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root, eps};
    adam_entry(adam, gradient[i], parameters[i], first[i], second[i]);
}

// One more block's gradient, or the sum of some.
extern "C" __global__ void __launch_bounds__(256) add_into(real* target, const real* other, int count) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i < count) target[i] += other[i];
}

// The mean gradient of all blocks from their sum, which may lie in its place, and Adam on this part of the buffers. What
// is left not finite raises the flag. [D24] [D31]
extern "C" __global__ void __launch_bounds__(256)
    update_part(real* gradients, const real* total, real share, real* parameters, real* first, real* second, int count,
                real beta1, real one_minus_beta1, real beta2, real one_minus_beta2, real step_size, real inverse_root,
                real eps, u32* flag) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    const Adam adam = {beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root, eps};
    const real gradient = total[i] * share;
    gradients[i] = gradient;
    adam_entry(adam, gradient, parameters[i], first[i], second[i]);
    if (!is_finite(gradient) || !is_finite(parameters[i]) || !is_finite(second[i])) *flag = 1;
}
