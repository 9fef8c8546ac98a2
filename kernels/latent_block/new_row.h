// The cache row of a token: its latent normed, its key rotated, in the format of the cache.
#pragma once

#include "latent_block/rotate.h"

namespace hybrid {

// ggml's numbers of the formats that a cache can have.
constexpr int kCacheF32 = 0, kCacheF16 = 1, kCacheQ8_0 = 8, kCacheBF16 = 30;

struct NewRows {
    const float* kv;      // [tokens, latent + rope]
    const float* norm;    // [latent]
    const int64_t* rows;  // [tokens]: which rows of the cache
    uint8_t* cache;       // [capacity, row_bytes]
    int64_t row_bytes;
    float epsilon;
    int32_t latent;
    int32_t format;
};

// d = max|x| / 127 as float16, then 32 numbers, halves away from zero; a warp for a block.
DEVICE void store_q8_0(const float* row, int groups, uint8_t* out) {
    for (int group = warp_index(); group < groups; group += warps_of_block()) {
        const float x = row[group * 32 + lane_index()];
        const float d = warp_max(fabsf(x)) / 127.0f;
        const float inverse = d == 0.0f ? 0.0f : 1.0f / d;
        uint8_t* block = out + group * 34;
        if (lane_index() == 0) *reinterpret_cast<uint16_t*>(block) = float_to_half(d);
        block[2 + lane_index()] = static_cast<uint8_t>(static_cast<int>(roundf(x * inverse)));
    }
}

// `row` has zeros behind `length` up to a multiple of 32.
DEVICE void store_row(const float* row, int length, int format, uint8_t* out) {
    if (format == kCacheQ8_0) {
        store_q8_0(row, (length + 31) / 32, out);
        return;
    }
    for (int c = threadIdx.x; c < length; c += blockDim.x) {
        if (format == kCacheF32) {
            reinterpret_cast<float*>(out)[c] = row[c];
        } else {
            reinterpret_cast<uint16_t*>(out)[c] =
                format == kCacheF16 ? float_to_half(row[c]) : float_to_bfloat(row[c]);
        }
    }
}

// All threads of a block; `row` is shared memory of latent + rope floats, padded to 32.
DEVICE void write_new_row(const NewRows& job, const Angles& angles, int token, float* row) {
    const int latent = job.latent, length = latent + angles.rope;
    const float* kv = job.kv + static_cast<int64_t>(token) * length;
    for (int c = 32 * static_cast<int>(threadIdx.x); c < latent; c += 32 * blockDim.x)
        prefetch_line(job.norm + c);
    wait_for_previous();
    let_next_start();
    const int64_t place = job.rows[token];
    float sum = 0;
    for (int c = threadIdx.x; c < latent; c += blockDim.x) {
        row[c] = kv[c];
        sum += row[c] * row[c];
    }
    for (int c = latent + 2 * static_cast<int>(threadIdx.x); c < length; c += 2 * blockDim.x) {
        const float2 turned = angles.rotate(kv[c], kv[c + 1], token, (c - latent) / 2);
        row[c] = turned.x;
        row[c + 1] = turned.y;
    }
    for (int c = length + static_cast<int>(threadIdx.x); c < (length + 31) / 32 * 32;
         c += blockDim.x)
        row[c] = 0;
    const float factor = rsqrtf(block_sum(sum) / static_cast<float>(latent) + job.epsilon);
    for (int c = threadIdx.x; c < latent; c += blockDim.x) row[c] = row[c] * factor * job.norm[c];
    __syncthreads();
    store_row(row, length, job.format, job.cache + place * job.row_bytes);
}

}  // namespace hybrid
