// Activations beside planar weights: rounded to int8 once per block, in shared memory.
//
//     round_into<kTokens>(shared, x, columns, tokens, norm, epsilon);    // all threads of the
//     block Rounded x(shared, columns, token); sum += dot32<Format>(codes, x.group(group));
//
// Of 32 neighbours d = max|x| / 127 and number = round half away (x / d), as ggml rounds, but d
// stays float32. Numbers 0-15 and 16-31 of each 32 stand apart: a warp that reads 32 groups in a
// row then meets no bank of shared memory twice. An infinite or NaN x gives NaN.
#pragma once

#include "planar/matrix.h"

namespace hybrid {

struct RoundedGroup {
    uint4 first, last;  // numbers 0-15, 16-31
    float scale;        // d
    float sum;          // d times the sum of the numbers
};

// Shared memory of one token; columns is a multiple of 32.
DEVICE int rounded_bytes(int columns) {
    return (columns / 32 + 1) / 2 * 80;
}

// A token's row in shared memory.
struct Rounded {
    uint4* first;
    uint4* last;
    float2* factors;  // d, d times sum

    __device__ __forceinline__ Rounded(void* shared, int columns, int token) {
        unsigned char* begin = static_cast<unsigned char*>(shared) + token * rounded_bytes(columns);
        const int groups = columns / 32;
        first = reinterpret_cast<uint4*>(begin);
        last = first + groups;
        factors = reinterpret_cast<float2*>(last + groups);
    }
    __device__ __forceinline__ RoundedGroup group(int g) const {
        const float2 both = factors[g];
        return {first[g], last[g], both.x, both.y};
    }
};

// Σ_j weight_j x_j of 32 weights.
template <class Format>
DEVICE float dot32(const Codes& codes, const RoundedGroup& x) {
    int low = 0, high = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        low = dp4a(codes.q[i], static_cast<int>(word_of(x.first, i)), low);
        high = dp4a(codes.q[i + 4], static_cast<int>(word_of(x.last, i)), high);
    }
    float sum;
    if constexpr (Format::kScales == 1) {
        sum = x.scale * (codes.scale[0] * static_cast<float>(low + high));
    } else {
        sum = x.scale * (codes.scale[0] * static_cast<float>(low) +
                         codes.scale[1] * static_cast<float>(high));
    }
    if constexpr (Format::kMinima == 1) sum -= codes.minimum[0] * x.sum;
    if constexpr (Format::kMinima == 2) {
        int sums[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            sums[0] = dp4a(static_cast<int>(word_of(x.first, i)), kOnes, sums[0]);
            sums[1] = dp4a(static_cast<int>(word_of(x.last, i)), kOnes, sums[1]);
        }
        sum -= x.scale * (codes.minimum[0] * static_cast<float>(sums[0]) +
                          codes.minimum[1] * static_cast<float>(sums[1]));
    }
    return sum;
}

// The same of what load() fetched.
template <class Format>
DEVICE float dot_loaded(const typename Format::Raw& raw, int group, const RoundedGroup& x) {
    if constexpr (Format::kTable) {
        int lower = 0, upper = 0, more_lower = 0, more_upper = 0;  // no product waits for another
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const uint32_t word = word_of(raw.n4, i);
            dot_nonlinear(word, static_cast<int>(word_of(x.first, i)), lower, upper);
            dot_nonlinear(word >> 16, static_cast<int>(word_of(x.last, i)), more_lower, more_upper);
        }
        const int sum = lower + upper + (more_lower + more_upper);
        return x.scale * (Format::factor(raw, group) * static_cast<float>(sum));
    } else {
        return dot32<Format>(Format::decode(raw, group), x);
    }
}

// How a block's warps share out tokens to sum squares: `parts` warps a token, or a warp in turn
// several tokens. The sums stay in shared memory.
struct Norm {
    const float* weight;  // or null: no norm
    const float* sums;    // [tokens][parts]
    float epsilon;
    int columns, parts;

    __device__ __forceinline__ float factor(int token) const {
        if (weight == nullptr) return 1.0f;
        float sum = 0.0f;
        for (int part = 0; part < parts; ++part) sum += sums[token * parts + part];
        return rsqrtf(sum / static_cast<float>(columns) + epsilon);
    }
};

DEVICE float sum_of_squares(const float* row, int columns, int first, int step) {
    float sum = 0.0f;
    if (columns % 4 != 0) {
        for (int c = first; c < columns; c += step) sum += row[c] * row[c];
        return sum;
    }
#pragma unroll 2
    for (int c = first; c < columns / 4; c += step) {
        const float4 x = reinterpret_cast<const float4*>(row)[c];
        sum += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    }
    return sum;
}

// All threads of the block call it; ends with __syncthreads where there is a norm.
DEVICE Norm norm_of(const float* x, int columns, int tokens, const float* weight, float epsilon) {
    __shared__ float sums[kWarp];
    const int parts = max(warps_of_block() / tokens, 1);
    if (weight != nullptr) {
        const int part = warp_index() % parts, apart = max(warps_of_block() / parts, 1);
        for (int token = warp_index() / parts; token < tokens; token += apart) {
            const float* row = x + static_cast<int64_t>(token) * columns;
            const float sum =
                warp_sum(sum_of_squares(row, columns, part * kWarp + lane_index(), parts * kWarp));
            if (lane_index() == 0) sums[token * parts + part] = sum;
        }
        __syncthreads();
    }
    return {weight, sums, epsilon, columns, parts};
}

// Signed bytes of four quotients. A NaN's byte does not matter: its d is a NaN too.
DEVICE int rounded_four(const float4& x, float inverse) {
    const int numbers[4] = {
        static_cast<int>(roundf(x.x * inverse)), static_cast<int>(roundf(x.y * inverse)),
        static_cast<int>(roundf(x.z * inverse)), static_cast<int>(roundf(x.w * inverse))};
    return (numbers[0] & 255) | (numbers[1] & 255) << 8 | (numbers[2] & 255) << 16 |
           static_cast<int>(static_cast<uint32_t>(numbers[3]) << 24);
}

DEVICE uint32_t size_bits(float x) {
    return float_bits(x) & 0x7fffffffu;
}

// Eight lanes round a group, four values each; all lanes of the warp call it. Where two eights have
// the same group, both write the same.
DEVICE void round_group(const Rounded& out, int group, const float4& x) {
    const int lane = lane_index() % 8;
    // Sizes are compared as integers: so NaN is larger than infinity and is not lost.
    uint32_t most = max(max(size_bits(x.x), size_bits(x.y)), max(size_bits(x.z), size_bits(x.w)));
#pragma unroll
    for (int lanes = 4; lanes > 0; lanes /= 2) most = max(most, shuffle_xor(most, lanes));
    const float d = bits_float(most) / 127.0f;
    const int word = most < 0x7f800000u ? rounded_four(x, d == 0.0f ? 0.0f : 1.0f / d) : 0;
    int sum = dp4a(word, kOnes, 0);
#pragma unroll
    for (int lanes = 4; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
    int* words = reinterpret_cast<int*>((lane < 4 ? out.first : out.last) + group);
    words[lane % 4] = word;
    if (lane == 0) out.factors[group] = make_float2(d, d * static_cast<float>(sum));
}

// x̂ = x or rms_norm(x) norm of `tokens` rows, rounded, kTokens rounded_bytes(columns) of shared
// memory.
//
// x        [tokens, columns], aligned to 16 bytes; columns a multiple of 32
// weight   [columns] of the norm, or null
// tokens   1 to kTokens, at most 32
//
// All threads of the block call it, blockDim.x a multiple of 32; ends with __syncthreads.
template <int kTokens = 1>
DEVICE void round_into(void* shared, const float* x, int columns, int tokens, const float* weight,
                       float epsilon) {
    const Norm norm = norm_of(x, columns, tokens, weight, epsilon);
    const int step = static_cast<int>(blockDim.x) / 8, groups = columns / 32;
    const int last = tokens * groups - 1;
#pragma unroll 1
    for (int first = 0; first <= last; first += step) {
        const int item = min(first + static_cast<int>(threadIdx.x) / 8, last);
        const int token = kTokens == 1 ? 0 : item / groups, group = item - token * groups;
        const int at = group * 32 + lane_index() % 8 * 4;
        const float* row = x + static_cast<int64_t>(token) * columns;
        float4 four = *reinterpret_cast<const float4*>(row + at);
        if (weight != nullptr) {
            const float4 times = *reinterpret_cast<const float4*>(weight + at);
            const float factor = norm.factor(token);
            four = make_float4(four.x * factor * times.x, four.y * factor * times.y,
                               four.z * factor * times.z, four.w * factor * times.w);
        }
        round_group(Rounded(shared, columns, token), group, four);
    }
    __syncthreads();
}

// The norm's weights of the first values that each thread rounds: on their way before x is there.
struct NormAhead {
    static constexpr int kFours = 2;
    float4 times[kFours];

    __device__ __forceinline__ void load(const float* weight, int columns) {
        if (weight == nullptr) return;
        const int step = static_cast<int>(blockDim.x), fours = columns / 4;
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
            const int at = min(static_cast<int>(threadIdx.x) + i * step, fours - 1);
            const uint4 words = load16(weight + 4 * at);
            times[i] = make_float4(bits_float(words.x), bits_float(words.y), bits_float(words.z),
                                   bits_float(words.w));
        }
        for (int at = static_cast<int>(threadIdx.x) + kFours * step; at < fours; at += step)
            if (at % 8 == 0) prefetch_line(weight + 4 * at);
    }
};

DEVICE float squares(const float4& x) {
    return x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
}

DEVICE float4 scaled(const float4& x, const float4& times, float factor) {
    return make_float4(x.x * factor * times.x, x.y * factor * times.y, x.z * factor * times.z,
                       x.w * factor * times.w);
}

// round_into for one token, which reads most of x once. `ahead` was loaded with the same weight.
DEVICE void round_one(void* shared, const float* x, int columns, const float* weight,
                      float epsilon, const NormAhead& ahead) {
    constexpr int kFours = NormAhead::kFours;
    const int thread = threadIdx.x, step = static_cast<int>(blockDim.x), fours = columns / 4;
    const float4* row = reinterpret_cast<const float4*>(x);
    float4 held[kFours];
#pragma unroll
    for (int i = 0; i < kFours; ++i) held[i] = row[min(thread + i * step, fours - 1)];
    float factor = 1.0f;
    if (weight != nullptr) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kFours; ++i) sum += thread + i * step < fours ? squares(held[i]) : 0.0f;
        for (int at = thread + kFours * step; at < fours; at += step) sum += squares(row[at]);
        factor = rsqrtf(block_sum(sum) / static_cast<float>(columns) + epsilon);
    }
    // Eights past the last group round it once more, each lane its own four of it.
    const Rounded out(shared, columns, 0);
    const int last = fours - 8 + thread % 8;
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
        if (i * step >= fours) break;
        const bool inside = thread + i * step < fours;
        const int at = inside ? thread + i * step : last;
        float4 four = inside ? held[i] : row[at];
        if (weight != nullptr) {
            const float4 times =
                inside ? ahead.times[i] : reinterpret_cast<const float4*>(weight)[at];
            four = scaled(four, times, factor);
        }
        round_group(out, at / 8, four);
    }
#pragma unroll 2
    for (int first = kFours * step; first < fours; first += step) {
        const int at = first + thread < fours ? first + thread : last;
        float4 four = row[at];
        if (weight != nullptr)
            four = scaled(four, reinterpret_cast<const float4*>(weight)[at], factor);
        round_group(out, at / 8, four);
    }
    __syncthreads();
}

// A token's row of floats in shared memory, for weights that are plain floats; padded with zeros.
DEVICE int float_bytes(int columns) {
    return (columns + 7) / 8 * 32;
}

DEVICE float* floats_of(void* shared, int columns, int token) {
    return static_cast<float*>(shared) + token * (float_bytes(columns) / 4);
}

// As round_into, but x̂ stays float32, and columns are any number.
template <int kTokens = 1>
DEVICE void copy_into(void* shared, const float* x, int columns, int tokens, const float* weight,
                      float epsilon) {
    const Norm norm = norm_of(x, columns, tokens, weight, epsilon);
    const int padded = float_bytes(columns) / 4;
#pragma unroll 1
    for (int token = 0; token < min(tokens, kTokens); ++token) {
        float* out = floats_of(shared, columns, token);
        const float* row = x + static_cast<int64_t>(token) * columns;
        const float factor = norm.factor(token);
        for (int c = threadIdx.x; c < padded; c += blockDim.x) {
            const float times = weight != nullptr && c < columns ? factor * weight[c] : 1.0f;
            out[c] = c < columns ? row[c] * times : 0.0f;
        }
    }
    __syncthreads();
}

}  // namespace hybrid
