#define HYBRID_TIER tier_avx512
#include "functions.h"

const hybrid::Functions hybrid::avx512_functions =
    hybrid::tier_avx512::functions_as(hybrid::Tier::avx512);
