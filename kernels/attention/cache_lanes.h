// Rows of the latent cache: to floats and back, in each format a user may choose.
#pragma once

#include "formats_small.h"
#include "lanes_math.h"
#include "tier.h"

namespace hybrid::HYBRID_TIER {

// torch's rounding: ties to even, every NaN the same one.
inline std::uint16_t bf16_of_float(float value) {
    const std::uint32_t bits = bits_of_float(value);
    const std::uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return static_cast<std::uint16_t>(value == value ? rounded : 0x7FC0u);
}

inline std::uint16_t f16_of_float(float value) {
    std::uint16_t halves[kLanes];
    store_f16(all_lanes(value), halves);
    return halves[0];
}

inline void write_f16(const float* x, std::size_t width, std::uint8_t* out) {
    std::size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) store_f16(load(x + i), out + 2 * i);
    if (i < width) {
        std::uint16_t halves[kLanes];
        store_f16(load_first(x + i, width - i), halves);
        std::memcpy(out + 2 * i, halves, 2 * (width - i));
    }
}

// 32 values in the order of ggml's scalar encoder: quotients by a reciprocal, halves away from 0.
inline void write_q8_0(const float* x, Q8_0* out) {
    float most = 0;
    for (int i = 0; i < 32; ++i) {
        const float size = x[i] < 0 ? -x[i] : x[i];
        most = most < size ? size : most;
    }
    const float scale = most / 127.0f;
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    const std::uint16_t half = f16_of_float(scale);
    std::memcpy(&out->d, &half, sizeof half);
    for (int i = 0; i < 32; ++i) {
        const float quotient = x[i] * inverse;
        float size = quotient < 0 ? -quotient : quotient;
        size = size < 127.5f ? size : 127.0f;  // infinities and NaN must not reach the conversion
        const int whole = static_cast<int>(size);
        const int rounded = whole + (size - static_cast<float>(whole) >= 0.5f);
        out->signed_bytes[i] = static_cast<std::int8_t>(quotient < 0 ? -rounded : rounded);
    }
}

inline void write_q8_0_row(const float* x, std::size_t width, Q8_0* out) {
    for (; width >= 32; width -= 32, x += 32) write_q8_0(x, out++);
    if (width) {
        float padded[32] = {};
        std::memcpy(padded, x, width * sizeof(float));
        write_q8_0(padded, out);
    }
}

inline void write_cache_row(std::int32_t format, const float* x, std::size_t width, void* out) {
    auto* bytes = static_cast<std::uint8_t*>(out);
    if (format == F16::kId) {
        write_f16(x, width, bytes);
    } else if (format == BF16::kId) {
        for (std::size_t i = 0; i < width; ++i) {
            const std::uint16_t word = bf16_of_float(x[i]);
            std::memcpy(bytes + 2 * i, &word, sizeof word);
        }
    } else if (format == Q8_0::kId) {
        write_q8_0_row(x, width, static_cast<Q8_0*>(out));
    } else {
        std::memcpy(out, x, width * sizeof(float));
    }
}

struct ReadF32 {
    static Lanes lanes(const std::uint8_t* row, std::size_t at) {
        Lanes out;
        std::memcpy(&out, row + 4 * at, sizeof out);
        return out;
    }
    static constexpr std::size_t kBytes = 4;
};

struct ReadF16 {
    static Lanes lanes(const std::uint8_t* row, std::size_t at) { return load_f16(row + 2 * at); }
    static constexpr std::size_t kBytes = 2;
};

struct ReadBF16 {
    static Lanes lanes(const std::uint8_t* row, std::size_t at) { return load_bf16(row + 2 * at); }
    static constexpr std::size_t kBytes = 2;
};

template <class Read>
void read_float_row(const std::uint8_t* row, std::size_t width, float* out) {
    std::size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) store(Read::lanes(row, i), out + i);
    if (i < width) {
        std::uint8_t rest[kLanes * Read::kBytes] = {};
        std::memcpy(rest, row + i * Read::kBytes, (width - i) * Read::kBytes);
        store_first(Read::lanes(rest, 0), out + i, width - i);
    }
}

inline void read_q8_0_row(const Q8_0* blocks, std::size_t width, float* out) {
    for (std::size_t first = 0; first < width; first += 32, ++blocks) {
        const Lanes scale = all_lanes(half_number(blocks->d));
        for (std::size_t i = 0; i < 32 && first + i < width; i += kLanes) {
            const Lanes values = multiply(scale, load_int8(blocks->signed_bytes + i));
            const std::size_t rest = width - first - i;
            rest < kLanes ? store_first(values, out + first + i, rest)
                          : store(values, out + first + i);
        }
    }
}

inline void read_cache_row(std::int32_t format, const std::uint8_t* row, std::size_t width,
                           float* out) {
    if (format == F16::kId) {
        read_float_row<ReadF16>(row, width, out);
    } else if (format == BF16::kId) {
        read_float_row<ReadBF16>(row, width, out);
    } else if (format == Q8_0::kId) {
        read_q8_0_row(reinterpret_cast<const Q8_0*>(row), width, out);
    } else {
        read_float_row<ReadF32>(row, width, out);
    }
}

inline void read_cache_rows(const CacheRows& rows, std::size_t begin, std::size_t end, float* out,
                            std::size_t out_stride) {
    const std::size_t width = rows.latent + rows.rope;
    for (std::size_t r = begin; r < end; ++r, out += out_stride) {
        read_cache_row(rows.format, rows.first + r * rows.stride_bytes, width, out);
        if (width < out_stride) std::memset(out + width, 0, (out_stride - width) * sizeof(float));
    }
}

inline std::size_t cache_row_bytes(const CacheRows& rows) {
    const std::size_t width = rows.latent + rows.rope;
    if (rows.format == Q8_0::kId) return whole(width, 32) / 32 * sizeof(Q8_0);
    return width * (rows.format == F32::kId ? 4 : 2);
}

}  // namespace hybrid::HYBRID_TIER
