#define HYBRID_TIER tier_scalar
#include "functions.h"

const hybrid::Functions hybrid::scalar_functions =
    hybrid::tier_scalar::functions_as(hybrid::Tier::scalar);
