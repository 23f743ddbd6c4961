// adam_update: one pass over four flat arrays. [D31] (Kingma & Ba 2015)

#include "math.cuh"

extern "C" __global__ void __launch_bounds__(256)
    adam_update(real* parameters, const real* gradient, real* first, real* second, int count, real beta1,
                real one_minus_beta1, real beta2, real one_minus_beta2, real step_size, real inverse_root, real eps) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    const Adam adam = {beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root, eps};
    adam_entry(adam, gradient[i], parameters[i], first[i], second[i]);
}
