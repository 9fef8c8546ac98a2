// The tile unit: eight registers of up to 16 rows of 64 bytes, named by number.
//
// Written as assembler, since GCC's own macros do not say what memory they read. With
// HYBRID_EMULATE_AMX the same functions are plain loops, so that processors without the unit can
// run the code above them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace hybrid::HYBRID_TIER {

// What LDTILECFG reads.
struct alignas(64) TileShapes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};

    TileShapes() {
        for (int i = 0; i < 8; ++i) row_bytes[i] = 64, rows[i] = 16;
    }
};

#if defined(HYBRID_EMULATE_AMX)

struct EmulatedTiles {
    std::uint8_t byte[8][16][64];
    TileShapes shapes;
    bool configured;
};
inline thread_local EmulatedTiles emulated;

inline void configure_tiles(const TileShapes& shapes) {
    emulated.shapes = shapes;
    emulated.configured = true;
    std::memset(emulated.byte, 0, sizeof emulated.byte);
}

inline void release_tiles() {
    emulated.configured = false;
}

inline void demand(bool holds) {
    if (!holds || !emulated.configured) __builtin_trap();
}

template <int kTile>
void load_tile(const void* first, std::size_t stride) {
    demand(true);
    for (int r = 0; r < emulated.shapes.rows[kTile]; ++r) {
        std::memset(emulated.byte[kTile][r], 0, 64);
        std::memcpy(emulated.byte[kTile][r], static_cast<const char*>(first) + r * stride,
                    emulated.shapes.row_bytes[kTile]);
    }
}

template <int kTile>
void store_tile(void* first, std::size_t stride) {
    demand(true);
    for (int r = 0; r < emulated.shapes.rows[kTile]; ++r) {
        std::memcpy(static_cast<char*>(first) + r * stride, emulated.byte[kTile][r],
                    emulated.shapes.row_bytes[kTile]);
    }
}

inline float product_of_bf16(const std::uint8_t* a, const std::uint8_t* b) {
    float sum = 0;
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t x = (a[2 * i] | a[2 * i + 1] << 8u) << 16u;
        const std::uint32_t y = (b[2 * i] | b[2 * i + 1] << 8u) << 16u;
        float first, last;
        std::memcpy(&first, &x, 4);
        std::memcpy(&last, &y, 4);
        sum += first * last;
    }
    return sum;
}

// sums[m][n] += sum over k of weights[m][k] * activations[k][n], where k counts 32 bits.
inline void emulate_product(int sums, int weights, int activations) {
    const TileShapes& shapes = emulated.shapes;
    const int ks = shapes.row_bytes[weights] / 4;
    demand(shapes.rows[activations] == ks && shapes.rows[sums] == shapes.rows[weights]);
    for (int m = 0; m < shapes.rows[sums]; ++m) {
        for (int n = 0; n < shapes.row_bytes[sums] / 4; ++n) {
            float lane;
            std::memcpy(&lane, emulated.byte[sums][m] + 4 * n, 4);
            for (int k = 0; k < ks; ++k) {
                lane += product_of_bf16(emulated.byte[weights][m] + 4 * k,
                                        emulated.byte[activations][k] + 4 * n);
            }
            std::memcpy(emulated.byte[sums][m] + 4 * n, &lane, 4);
        }
    }
}

template <int kSums, int kWeights, int kActivations>
void add_bf16_products() {
    emulate_product(kSums, kWeights, kActivations);
}

#else

inline void configure_tiles(const TileShapes& shapes) {
    __asm__ volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
}

inline void release_tiles() {
    __asm__ volatile("tilerelease" ::: "memory");
}

template <int kTile>
void load_tile(const void* first, std::size_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(first), "r"(stride), "i"(kTile)
                     : "memory");
}

template <int kTile>
void store_tile(void* first, std::size_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(first), "r"(stride), "i"(kTile)
                     : "memory");
}

template <int kSums, int kWeights, int kActivations>
void add_bf16_products() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kWeights),
                     "i"(kActivations));
}

#endif

// Between end() and the next begin() the processor has no tiles to save.
struct TileUnit {
    static constexpr int kSlabs = 2;  // it multiplies while the vector units unpack
    static void begin() { configure_tiles(TileShapes()); }
    static void end() { release_tiles(); }
};

}  // namespace hybrid::HYBRID_TIER
