#define HYBRID_TIER tier_amx
#include "functions.h"

const hybrid::Functions hybrid::amx_functions = hybrid::tier_amx::functions_as(hybrid::Tier::amx);
