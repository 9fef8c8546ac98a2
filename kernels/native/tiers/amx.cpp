#define HYBRID_TIER tier_amx
#define HYBRID_AMX
#include "functions.h"

const hybrid::Functions hybrid::amx_functions = hybrid::tier_amx::functions_as(hybrid::Tier::amx);
