// What all generated kernels share. It stands before the kernels of a program, in one text, and includes nothing, since
// NVRTC has no C library.
//
// A kernel consists of AB_THREADS blocks with AB_BARRIER between them. Values that cross a barrier live in shared
// memory. So the same text also runs on a CPU, where a header defines AB_EMULATED and these names before it: each
// AB_THREADS is then a loop over the threads of a block.

typedef long long i64;
typedef unsigned long long u64;

#ifndef AB_EMULATED
#define AB_KERNEL extern "C" __global__ void __launch_bounds__(256)
#define AB_FUNCTION __device__ __forceinline__
#define AB_SHARED __shared__
#define AB_THREADS
#define AB_BARRIER __syncthreads();
#define AB_INFINITY __int_as_float(0x7f800000)
#define AB_NAN __int_as_float(0x7fffffff)
#endif

// Numbers 0 ... n - 1, shared out among all threads of a launch.
#define AB_EACH(t, n) \
    for (i64 t = (i64)blockIdx.x * blockDim.x + threadIdx.x; t < (n); t += (i64)gridDim.x * blockDim.x)

// t / n of numbers that are not negative: 32 bits where they suffice, which is several times as fast.
AB_FUNCTION i64 ab_div(i64 t, i64 n) {
    return ((t | n) >> 32) == 0 ? (i64)((unsigned)t / (unsigned)n) : t / n;
}

// A number that came as its bits, since arguments are integers.
AB_FUNCTION double ab_double(i64 bits) {
    union {
        i64 bits;
        double number;
    } both;
    both.bits = bits;
    return both.number;
}

// Functions of one element. float: straight-line arithmetic where that is exact to a few units in the last place.

AB_FUNCTION float ab_exp(float x) { return expf(x); }
AB_FUNCTION double ab_exp(double x) { return exp(x); }

AB_FUNCTION float ab_tanh(float x) {  // near 0 an odd polynomial (Cephes, tanhf), as 1 - e has few digits there
    const float e = expf(-fabsf(x * 2.0f)), d = 1.0f / (1.0f + e), s = x * x;
    float p = 2.06390887954e-2f + s * -5.70498872745e-3f;
    p = -3.33332819422e-1f + s * (1.33314422036e-1f + s * (-5.37397155531e-2f + s * p));
    const float y = (1.0f - e) * d;
    return fabsf(x) < 0.625f ? x * (p * s + 1.0f) : x < 0.0f ? -y : y;
}
AB_FUNCTION double ab_tanh(double x) { return tanh(x); }

template <typename T> AB_FUNCTION T ab_sigmoid(T x) {
    const T e = ab_exp(x < T(0) ? x : -x), d = T(1) / (T(1) + e);
    return x < T(0) ? e * d : d;
}
template <typename T> AB_FUNCTION T ab_sigmoid_slope(T x) {
    const T e = ab_exp(x < T(0) ? x : -x), d = T(1) / (T(1) + e);
    return e * d * d;
}

AB_FUNCTION float ab_log(float x) { return logf(x); }
AB_FUNCTION double ab_log(double x) { return log(x); }
AB_FUNCTION float ab_sqrt(float x) { return sqrtf(x); }
AB_FUNCTION double ab_sqrt(double x) { return sqrt(x); }
AB_FUNCTION float ab_power(float x, float y) { return powf(x, y); }
AB_FUNCTION double ab_power(double x, double y) { return pow(x, y); }
template <typename T> AB_FUNCTION T ab_power(T x, T n) {  // of integers, which wrap round
    u64 y = 1, square = (u64)x;
    for (; n > 0; n >>= 1, square *= square)
        if (n & 1) y *= square;
    return (T)y;
}

template <typename T> AB_FUNCTION T ab_abs(T x) { return x < T(0) ? T(-x) : x; }
AB_FUNCTION float ab_abs(float x) { return fabsf(x); }
AB_FUNCTION double ab_abs(double x) { return fabs(x); }
AB_FUNCTION bool ab_abs(bool x) { return x; }

template <typename T> AB_FUNCTION T ab_relu(T x) { return x < T(0) ? T(0) : x; }
AB_FUNCTION bool ab_relu(bool x) { return x; }

AB_FUNCTION float ab_softplus(float x) { return ab_relu(x) + log1pf(expf(-fabsf(x))); }
AB_FUNCTION double ab_softplus(double x) { return ab_relu(x) + log1p(exp(-fabs(x))); }

template <typename T> AB_FUNCTION T ab_sign(T x) {  // NaN stays
    const T y = x > T(0) ? T(1) : x;
    return x < T(0) ? T(-1) : y;
}
AB_FUNCTION bool ab_sign(bool x) { return x; }

template <typename T> AB_FUNCTION T ab_maximum(T x, T y) {  // NaN wins
    const T z = x >= y ? x : y;
    return x != x ? x : z;
}
template <typename T> AB_FUNCTION T ab_minimum(T x, T y) {
    const T z = x <= y ? x : y;
    return x != x ? x : z;
}

// Division down to integers, as NumPy's: the remainder has the sign of y.
template <typename T> AB_FUNCTION T ab_remainder(T x, T y) {
    if (y == T(0) || y == T(-1)) return T(0);
    const T rest = x % y;
    return rest != T(0) && (y < T(0)) != (rest < T(0)) ? T(rest + y) : rest;
}
template <typename T> AB_FUNCTION T ab_floor_divide(T x, T y) {
    if (y == T(0)) return T(0);
    if (y == T(-1)) return T(u64(0) - u64(x));
    const T whole = x / y;
    return x % y != T(0) && (x < T(0)) != (y < T(0)) ? T(whole - T(1)) : whole;
}
template <typename T> AB_FUNCTION T ab_floor_divide_real(T x, T y, T rest, T ratio) {
    T whole = (x - rest) / y;
    if (rest != T(0) && (y < T(0)) != (rest < T(0))) whole -= T(1);
    T down = floor(whole);
    if (whole - down > T(0.5)) down += T(1);
    if (!(whole != T(0))) down = copysign(T(0), ratio);
    return y != T(0) ? down : ratio;
}
AB_FUNCTION float ab_floor_divide(float x, float y) { return ab_floor_divide_real(x, y, fmodf(x, y), x / y); }
AB_FUNCTION double ab_floor_divide(double x, double y) { return ab_floor_divide_real(x, y, fmod(x, y), x / y); }
template <typename T> AB_FUNCTION T ab_remainder_real(T y, T rest) {
    if (!(y != T(0))) return rest;
    if (!(rest != T(0))) return copysign(T(0), y);
    return (y < T(0)) != (rest < T(0)) ? rest + y : rest;
}
AB_FUNCTION float ab_remainder(float x, float y) { return ab_remainder_real(y, fmodf(x, y)); }
AB_FUNCTION double ab_remainder(double x, double y) { return ab_remainder_real(y, fmod(x, y)); }

AB_FUNCTION float ab_nearest(float x) { return rintf(x); }
AB_FUNCTION double ab_nearest(double x) { return rint(x); }

// The nearest number of float16: 10 bits of the fraction are left, in steps of 2^-24 at least; from 65520 on infinity.
template <typename T, typename U> AB_FUNCTION T ab_half_of(T x, int cut) {
    union {
        T number;
        U bits;
    } both;
    both.number = x;
    both.bits += ((U)1 << (cut - 1)) - 1 + ((both.bits >> cut) & 1);
    both.bits = both.bits >> cut << cut;
    const T in_steps = ab_nearest(x * T(16777216.0)) * T(5.9604644775390625e-8);
    const T y = ab_abs(x) >= T(6.103515625e-5) ? both.number : in_steps;
    if (x != x) return x;
    return ab_abs(y) < T(65536) ? y : (x < T(0) ? -(T)AB_INFINITY : (T)AB_INFINITY);
}
AB_FUNCTION float ab_half(float x) { return ab_half_of<float, unsigned>(x, 13); }
AB_FUNCTION double ab_half(double x) { return ab_half_of<double, u64>(x, 42); }

template <typename T> AB_FUNCTION T ab_invert(T x) { return ~x; }
AB_FUNCTION bool ab_invert(bool x) { return !x; }

template <typename T> AB_FUNCTION T ab_add(T x, T y) { return x + y; }
AB_FUNCTION bool ab_add(bool x, bool y) { return x || y; }

// Random draws: SplitMix64, as ops/random.py.

AB_FUNCTION u64 ab_mix(u64 z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}
AB_FUNCTION u64 ab_bits(i64 stream, i64 draw, i64 element) {
    const u64 key = ab_mix((u64)stream + ((u64)draw + 1ULL) * 0x9E3779B97F4A7C15ULL);
    return ab_mix(key + ((u64)element + 1ULL) * 0xD1B54A32D192ED03ULL);
}
template <typename T> AB_FUNCTION T ab_unit(u64 bits) { return (T)(bits >> 11) * T(1.1102230246251565e-16); }
template <> AB_FUNCTION float ab_unit<float>(u64 bits) { return (float)(bits >> 40) * 5.9604644775390625e-8f; }

template <typename T> AB_FUNCTION T ab_uniform(i64 stream, i64 draw, i64 element) {
    return ab_unit<T>(ab_bits(stream, draw, element));
}
template <typename T> AB_FUNCTION T ab_normal(i64 stream, i64 draw, i64 element) {
    const double u = ab_unit<double>(ab_bits(stream, draw, 2 * element));
    const double v = ab_unit<double>(ab_bits(stream, draw, 2 * element + 1));
    return (T)(sqrt(-2.0 * log1p(-u)) * cos(6.283185307179586 * v));
}

// Row numbers.

AB_FUNCTION i64 ab_bounded(i64 i, i64 n, i64 lowest, i64* faults) {  // non-negative; one out of range is reported, and 0
    if (i >= lowest && i < n) return i < 0 ? i + n : i;
    faults[0] = 1;
    faults[1] = i;
    faults[2] = n;
    faults[3] = lowest;
    return 0;
}
AB_FUNCTION i64 ab_clipped(i64 i, i64 n) { return i < 0 ? 0 : i < n ? i : n - 1; }

// First place of `index`, ascending where divided by `group`, whose number is not below `x`.
AB_FUNCTION i64 ab_first(const i64* index, i64 n, i64 group, i64 x) {
    i64 low = 0, high = n;
    while (low < high) {
        const i64 middle = (low + high) >> 1;
        if (ab_div(index[middle], group) < x) low = middle + 1;
        else high = middle;
    }
    return low;
}
AB_FUNCTION i64 ab_first(const i64* index, const i64* order, i64 n, i64 x) {  // of index[order]
    i64 low = 0, high = n;
    while (low < high) {
        const i64 middle = (low + high) >> 1;
        if (index[order[middle]] < x) low = middle + 1;
        else high = middle;
    }
    return low;
}
