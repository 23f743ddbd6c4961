// reparam_kl: z = mu + exp(logvar / 2) eps and the KL to N(0, I), with their gradients. [D17] [D22]

#include "reduce.cuh"

// One warp per example: its z of every sample, and its KL.
extern "C" __global__ void __launch_bounds__(128)
    reparam_forward(const real* mu, const real* logvar, const real* eps, real* z, real* kl, int batch, int latent,
                    int samples) {
    const int example = blockIdx.x * 4 + threadIdx.x / 32;
    if (example >= batch) return;
    double twice_kl = 0;
    for (int k = threadIdx.x % 32; k < latent; k += 32) {
        const real m = mu[at(example, k, latent)], v = logvar[at(example, k, latent)];
        twice_kl += kl_term(m, v);
        for (int s = 0; s < samples; ++s) {
            const i64 place = at(s * batch + example, k, latent);
            z[place] = latent_sample(m, v, eps[place]);
        }
    }
    twice_kl = warp_sum(twice_kl);
    if (threadIdx.x % 32 == 0) kl[example] = static_cast<real>(0.5 * twice_kl);
}

// One thread per latent of an example, for all its samples.
extern "C" __global__ void __launch_bounds__(256)
    reparam_backward(const real* mu, const real* logvar, const real* eps, const real* dz, const real* dkl, real* dmu,
                     real* dlogvar, int batch, int latent, int samples) {
    const int i = blockIdx.x * 256 + threadIdx.x, count = batch * latent;
    if (i >= count) return;
    real along = 0, with_eps = 0;
    for (int s = 0; s < samples; ++s) {
        const i64 place = at(s, i, count);
        along += dz[place];
        with_eps += dz[place] * eps[place];
    }
    dmu[i] = mu_gradient(along, mu[i], dkl[i / latent]);
    dlogvar[i] = logvar_gradient(with_eps, logvar[i], dkl[i / latent]);
}
