// Which rows of a matrix a warp's lanes work on, and how they come.
#pragma once

#include "planar/formats.h"
#include "planar/pairs_iq.h"
#include "planar/pairs_k.h"

namespace hybrid {

constexpr int kRows = 2;

// Which rows a lane works on, and with whom: 2^bits lanes of each of 2^warp_bits warps share a row.
struct Share {
    int bits, warp_bits;
    int all_lanes, place;  // of a row; this one's among them

    __device__ __forceinline__ Share(int of_lanes, int of_warps)
        : bits(of_lanes),
          warp_bits(of_warps),
          all_lanes(unfolded(1 << (of_lanes + of_warps))),
          place(unfolded(lane() + ((warp_index() & ((1 << of_warps) - 1)) << of_lanes))) {}

    __device__ __forceinline__ int lanes() const { return 1 << bits; }
    __device__ __forceinline__ int lane() const { return lane_index() & (lanes() - 1); }
    __device__ __forceinline__ int rows_of_warp() const { return kRows * kWarp >> bits; }
    // Warps that share rows, of which a block has so many.
    __device__ __forceinline__ int team() const { return warp_index() >> warp_bits; }
    __device__ __forceinline__ int teams() const { return warps_of_block() >> warp_bits; }
    __device__ __forceinline__ int row(int tile, int r) const {
        return tile * rows_of_warp() + r * (kWarp >> bits) + (lane_index() >> bits);
    }
};

// The rows of a tile, as Format reads them; behind the matrix its last one.
template <class Format, bool kPairs>
struct RowsOfTile {
    using Raw = typename Format::Raw;
    decltype(Format::row(Matrix(), 0)) of[kRows];

    __device__ __forceinline__ explicit RowsOfTile(const Matrix&) {}
    __device__ __forceinline__ void find(const Matrix& weight, const Share& share, int tile) {
#pragma unroll
        for (int r = 0; r < kRows; ++r)
            of[r] = Format::row(weight, min(share.row(tile, r), weight.rows - 1));
    }
    __device__ __forceinline__ Raw read(int r, int at) const { return Format::read(of[r], at); }
};

template <class Format>
struct RowsOfTile<Format, true> {
    using Raw = typename Pairs<Format>::Words;
    typename Pairs<Format>::Planes planes;
    uint32_t unit[kRows];

    __device__ __forceinline__ explicit RowsOfTile(const Matrix& weight) : planes(weight) {}
    __device__ __forceinline__ void find(const Matrix& weight, const Share& share, int tile) {
        const uint32_t first = static_cast<uint32_t>(weight.first_row);
#pragma unroll
        for (int r = 0; r < kRows; ++r)
            unit[r] = (first + min(share.row(tile, r), weight.rows - 1)) * (weight.columns / 32);
    }
    __device__ __forceinline__ Raw read(int r, int at) const {
        return Pairs<Format>::read(planes, unit[r] + Pairs<Format>::kGroups * at);
    }
};

constexpr int kMostPlanes = 5;

// What stands in the planes of a row.
struct PlaneWidths {
    int32_t bytes[kMostPlanes];  // of each plane, 0 behind the last
    int32_t rows_ahead;          // that a block of threads has fetched before it needs them
};

// The first of the rows `row` to `end` come into the second cache while x is waited for and what
// registers have is multiplied. All threads of the block call it.
DEVICE void fetch_ahead(const Matrix& weight, const PlaneWidths& widths, int row, int end) {
    const int plane = static_cast<int>(threadIdx.x);
    const int rows = min(min(end, weight.rows) - row, widths.rows_ahead);
    if (plane >= kMostPlanes || rows <= 0) return;
    int64_t before = 0, width = 0;
#pragma unroll
    for (int i = 0; i < kMostPlanes; ++i) {
        before += i < plane ? widths.bytes[i] : 0;
        width = i == plane ? widths.bytes[i] : width;
    }
    const int64_t first = weight.total_rows * before + (weight.first_row + row) * width;
    const int64_t begin = first & -16, nbytes = (first + rows * width & -16) - begin;
    if (nbytes > 0) fetch_stretch(weight.data + begin, static_cast<uint32_t>(nbytes));
}

}  // namespace hybrid
