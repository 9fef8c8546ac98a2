#define HYBRID_TIER tier_avx512_bf16
#include "functions.h"

const hybrid::Functions hybrid::avx512_bf16_functions =
    hybrid::tier_avx512_bf16::functions_as(hybrid::Tier::avx512_bf16);
