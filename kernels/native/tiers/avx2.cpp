#define HYBRID_TIER tier_avx2
#include "functions.h"

const hybrid::Functions hybrid::avx2_functions =
    hybrid::tier_avx2::functions_as(hybrid::Tier::avx2);
