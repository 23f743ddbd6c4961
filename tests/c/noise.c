/* The noise contract in C, written a second time and one draw at a time, to be compared bit for bit with
 * vae_np/noise.py. Compile with -ffp-contract=off: a fused multiply-add rounds once where the contract rounds twice.
 * Constants are decimal or hexadecimal literals on purpose: nothing is taken from the Python module. */
#include <math.h>
#include <stdint.h>

static void philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        uint32_t next2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[0] = next0;
        c[1] = (uint32_t)p1;
        c[2] = next2;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

static double log_unit(uint32_t word) {
    int e;
    double m = frexp((word + 0.5) * 0x1p-32, &e);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m = 2.0 * m;
        e = e - 1;
    }
    double s = (m - 1.0) / (m + 1.0);
    double x = s * s;
    double sum = 2.0 / 19;
    sum = sum * x + 2.0 / 17;
    sum = sum * x + 2.0 / 15;
    sum = sum * x + 2.0 / 13;
    sum = sum * x + 2.0 / 11;
    sum = sum * x + 2.0 / 9;
    sum = sum * x + 2.0 / 7;
    sum = sum * x + 2.0 / 5;
    sum = sum * x + 2.0 / 3;
    sum = sum * x + 2.0;
    return e * 0x1.62e42fefa39efp-1 + s * sum;
}

static void cos_sin_turn(uint32_t word, double *cos_out, double *sin_out) {
    uint32_t shifted = word + 0x20000000u;
    double rest = ((double)(shifted & 0x3FFFFFFFu) - 536870911.5) * 0x1p-30;
    double theta = rest * 0x1.921fb54442d18p+0;
    double x = theta * theta;
    double c = 1.0 / 20922789888000.0;
    c = c * x - 1.0 / 87178291200.0;
    c = c * x + 1.0 / 479001600.0;
    c = c * x - 1.0 / 3628800.0;
    c = c * x + 1.0 / 40320.0;
    c = c * x - 1.0 / 720.0;
    c = c * x + 1.0 / 24.0;
    c = c * x - 1.0 / 2.0;
    c = c * x + 1.0;
    double s = -1.0 / 1307674368000.0;
    s = s * x + 1.0 / 6227020800.0;
    s = s * x - 1.0 / 39916800.0;
    s = s * x + 1.0 / 362880.0;
    s = s * x - 1.0 / 5040.0;
    s = s * x + 1.0 / 120.0;
    s = s * x - 1.0 / 6.0;
    s = s * x + 1.0;
    s = theta * s;
    switch (shifted >> 30) {
        case 0: *cos_out = c; *sin_out = s; break;
        case 1: *cos_out = -s; *sin_out = c; break;
        case 2: *cos_out = -c; *sin_out = -s; break;
        default: *cos_out = s; *sin_out = -c; break;
    }
}

/* Fill three (count, columns) arrays with the words, uniforms and normals of the given rows; columns is even. */
void fill(uint64_t seed, uint32_t stream, uint32_t step, uint32_t sample, const uint32_t *rows, uint32_t count,
          uint32_t columns, uint32_t *word, float *uniform, float *normal) {
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < columns; j++) {
            uint32_t c[4] = {j / 4, rows[i], step, stream + 256u * sample};
            philox(c, (uint32_t)seed, (uint32_t)(seed >> 32));
            uint64_t at = (uint64_t)i * columns + j;
            word[at] = c[j % 4];
            uniform[at] = (float)(word[at] >> 8) * 0x1p-24f;
        }
        for (uint32_t j = 0; j < columns; j += 2) {
            uint64_t at = (uint64_t)i * columns + j;
            double radius = sqrt(-2.0 * log_unit(word[at])), cosine, sine;
            cos_sin_turn(word[at + 1], &cosine, &sine);
            normal[at] = (float)(radius * cosine);
            normal[at + 1] = (float)(radius * sine);
        }
    }
}
