// The vocabulary in which vector code is written once for all tiers, chosen by the compiler's
// flags.
//
//     Bytes      64 bytes: the numbers of 64 weights, or 64 activations
//     Signed     64 magnitudes and their signs, for tiers that multiply unsigned by signed bytes
//     Words      16-bit lanes beside Bytes: sums of two neighbouring products, or their scales
//     Scales     one 16-bit scale for each 16 of 256 weights
//     Sums       32-bit accumulators
//     Floats8    eight floats: one for each block of 32 among 256 weights
//     Lanes      as many floats as the tier likes, kLanes; Half: half that many
//
// Every tier is one file of tiers/, compiled by itself with its own flags, and all of this stands
// in that tier's namespace: no instruction of one tier can leak into another through an inline
// function, and no function of the standard library's templates is used here for the same reason.
#pragma once

#if !defined(HYBRID_TIER)
#error "HYBRID_TIER names the namespace of the tier that is compiled"
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512VNNI__)
#include "lanes_avx512.h"
#elif defined(__AVX2__)
#include "lanes_avx2.h"
#else
#include "lanes_scalar.h"
#endif
