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

}  // namespace hybrid
