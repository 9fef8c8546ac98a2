// The arithmetic that CUDA has built in and C++ has not.
#pragma once

template <class T>
T __ldg(const T* from) {
    hybrid::emulator::check_aligned(from, alignof(T));
    return *from;
}

template <class To, class From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "bits are kept");
    To bits;
    memcpy(&bits, &value, sizeof(To));
    return bits;
}

inline int __float_as_int(float value) {
    return bits_as<int>(value);
}
inline unsigned __float_as_uint(float value) {
    return bits_as<unsigned>(value);
}
inline float __int_as_float(int bits) {
    return bits_as<float>(bits);
}
inline float __uint_as_float(unsigned bits) {
    return bits_as<float>(bits);
}

// CUDA's min and max of floats take the number where the other is a NaN.
inline int min(int a, int b) {
    return b < a ? b : a;
}
inline int max(int a, int b) {
    return a < b ? b : a;
}
inline unsigned min(unsigned a, unsigned b) {
    return b < a ? b : a;
}
inline unsigned max(unsigned a, unsigned b) {
    return a < b ? b : a;
}
inline int64_t min(int64_t a, int64_t b) {
    return b < a ? b : a;
}
inline int64_t max(int64_t a, int64_t b) {
    return a < b ? b : a;
}
inline float min(float a, float b) {
    return fminf(a, b);
}
inline float max(float a, float b) {
    return fmaxf(a, b);
}

inline float __expf(float x) {
    return expf(x);
}
inline float __logf(float x) {
    return logf(x);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
inline int __float2int_rn(float x) {
    return static_cast<int>(rintf(x));
}
inline int __float2int_rz(float x) {
    return static_cast<int>(x);
}
inline float __int2float_rn(int x) {
    return static_cast<float>(x);
}
inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
inline int __clz(int bits) {
    return bits == 0 ? 32 : __builtin_clz(bits);
}
