// Activations beside planar weights: rounded to int8 once per block, in shared memory.
//
//     round_into<kTokens>(shared, x, columns, tokens, norm, epsilon);  // all threads of the block
//     Rounded x(shared, columns, token);
//     sum += dot32<Format>(codes, x.group(group));
//
// Of 32 neighbours d = max|x| / 127 and number = round half away (x / d), as ggml rounds, but d
// stays float32. Numbers 0-15 and 16-31 of each 32 stand apart: a warp that reads 32 groups in a
// row then meets no bank of shared memory twice. An infinite or NaN x gives NaN.
#pragma once

#include "planar/rounded.h"

namespace hybrid {

// Shared memory of one token; columns is a multiple of 32.
DEVICE int rounded_bytes(int columns) {
    return (columns / 32 + 1) / 2 * 80;
}

// A token's row in shared memory.
struct Rounded {
    uint4* first;
    uint4* last;
    float2* factors;  // d; the bits of the sums of the numbers 0-15 and 16-31, 16 each
    int together;     // groups that a lane reads at once: the first of each stand in front, then
    int apart;        // the second ones, so many behind

    __device__ __forceinline__ Rounded(void* shared, int columns, int token, int at_once = 1)
        : together(at_once), apart(columns / (32 * at_once)) {
        unsigned char* begin = static_cast<unsigned char*>(shared) + token * rounded_bytes(columns);
        const int groups = columns / 32;
        first = reinterpret_cast<uint4*>(begin);
        last = first + groups;
        factors = reinterpret_cast<float2*>(last + groups);
    }
    // Where a group stands.
    __device__ __forceinline__ int place(int group) const {
        return group / together + group % together * apart;
    }
    __device__ __forceinline__ RoundedGroup group(int g) const {
        const float2 both = factors[g];
        return {first[g], last[g], both.x, float_bits(both.y)};
    }
};

// Σ_j weight_j x_j of 32 weights.
template <class Format>
DEVICE float dot32(const Codes& codes, const RoundedGroup& x) {
    const Halves32 sums = dot_halves(codes.q, x);
    float sum;
    if constexpr (Format::kScales == 1) {
        sum = x.scale * (codes.scale[0] * static_cast<float>(sums.first + sums.last));
    } else {
        sum = x.scale * (codes.scale[0] * static_cast<float>(sums.first) +
                         codes.scale[1] * static_cast<float>(sums.last));
    }
    if constexpr (Format::kMinima == 1) sum -= codes.minimum[0] * x.sum();
    if constexpr (Format::kMinima == 2)
        sum -= x.scale * (codes.minimum[0] * static_cast<float>(x.sum_first()) +
                          codes.minimum[1] * static_cast<float>(x.sum_last()));
    return sum;
}

// The same of what load() fetched, in integers as far as they go.
template <class Format>
DEVICE float dot_loaded(const typename Format::Raw& raw, int group, const RoundedGroup& x) {
    if constexpr (Format::kWhole) {
        return Format::dot(raw, group, x);
    } else {
        return dot32<Format>(Format::decode(raw, group), x);
    }
}

// The same with the format's book in shared memory, where it has one.
template <class Format>
DEVICE float dot_booked(const typename Format::Raw& raw, int group, const RoundedGroup& x,
                        const uint8_t* book) {
    if constexpr (Format::kBookBytes > 0) {
        return Format::dot(raw, group, x, book);
    } else {
        return dot_loaded<Format>(raw, group, x);
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

// Signed bytes of four quotients, halves away from zero. A NaN's byte does not matter: its d is a
// NaN too. Sizes are rounded by two sums that drop what lies behind their last bit: no number just
// below a half becomes one, and the integer stands in the lowest bits.
DEVICE int rounded_four(const float4& x, float inverse) {
    constexpr float kIntegers = 8388608.0f;
    const float quotients[4] = {x.x * inverse, x.y * inverse, x.z * inverse, x.w * inverse};
    uint32_t bits[4], sizes[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        bits[i] = float_bits(quotients[i]);
        const float size = add_toward_zero(bits_float(bits[i] & 0x7fffffffu), 0.5f);
        sizes[i] = float_bits(add_toward_zero(size, kIntegers));
    }
    const uint32_t size = byte_permute(byte_permute(sizes[0], sizes[1], 0x0040),
                                       byte_permute(sizes[2], sizes[3], 0x0040), 0x5410);
    const uint32_t negative = byte_permute(byte_permute(bits[0], bits[1], 0x00fb),
                                           byte_permute(bits[2], bits[3], 0x00fb), 0x5410);
    const uint32_t turned = size ^ negative;  // and one more, without a carry into the next byte
    return static_cast<int>(((turned & 0x7f7f7f7fu) + (negative & kOnes)) ^ (turned & 0x80808080u));
}

constexpr float kLeastNormal = 1.17549435e-38f;

// x / 127 to the last bit but for subnormal quotients, without the branches that a division takes;
// an infinite x gives NaN.
DEVICE float over_127(float x) {
    constexpr float kInverse = 1.0f / 127.0f;
    const float quotient = x * kInverse;
    return fmaf(fmaf(-127.0f, quotient, x), kInverse, quotient);
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
    const float d = over_127(bits_float(most));
    const float inverse = d < kLeastNormal ? 0.0f : reciprocal(d);
    const int word = most < 0x7f800000u ? rounded_four(x, inverse) : 0;
    int sum = dp4a(word, kOnes, 0);
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    const uint32_t sums = byte_permute(sum, shuffle_xor(sum, 4), 0x5410);
    const int place = out.place(group);
    int* words = reinterpret_cast<int*>((lane < 4 ? out.first : out.last) + place);
    words[lane % 4] = word;
    if (lane == 0) out.factors[place] = make_float2(d, bits_float(sums));
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

// A token's row of floats in shared memory, for weights that are plain floats; padded with zeros.
DEVICE int float_bytes(int columns) {
    return (columns + 7) / 8 * 32;
}

DEVICE float* floats_of(void* shared, int columns, int token) {
    return static_cast<float*>(shared) + token * (float_bytes(columns) / 4);
}

// Whole fours of one row, of which a thread has several under way.
DEVICE void copy_fours(float* out, const float* row, int columns, const float* weight,
                       float factor) {
#pragma unroll 4
    for (int at = 4 * threadIdx.x; at < columns; at += 4 * blockDim.x) {
        float4 four = *reinterpret_cast<const float4*>(row + at);
        if (weight != nullptr) {
            const float4 times = *reinterpret_cast<const float4*>(weight + at);
            four = make_float4(four.x * (factor * times.x), four.y * (factor * times.y),
                               four.z * (factor * times.z), four.w * (factor * times.w));
        }
        *reinterpret_cast<float4*>(out + at) = four;
    }
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
        if (columns % 8 == 0) {
            copy_fours(out, row, columns, weight, factor);
            continue;
        }
        for (int c = threadIdx.x; c < padded; c += blockDim.x) {
            const float times = weight != nullptr && c < columns ? factor * weight[c] : 1.0f;
            out[c] = c < columns ? row[c] * times : 0.0f;
        }
    }
    __syncthreads();
}

}  // namespace hybrid
