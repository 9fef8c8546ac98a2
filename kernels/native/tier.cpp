#include "tier.h"

#if defined(__x86_64__) && !defined(HYBRID_ONLY_SCALAR)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace hybrid {
namespace {

#if defined(__x86_64__) && !defined(HYBRID_ONLY_SCALAR)

// Tile data is off until a process asks for it; threads started later inherit the permission.
bool amx_permitted() {
#if defined(HYBRID_EMULATE_AMX)
    return true;
#elif defined(__linux__)
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl of Linux 5.16
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kAll = kBf16 | kTile;
    if ((d & kAll) != kAll) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

// The compiler's own check looks at what the operating system saves as well.
bool runs(Tier tier) {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    switch (tier) {
        case Tier::scalar:
            return true;
        case Tier::avx2:
            return avx2;
        case Tier::avx512:
            return avx512;
        case Tier::avx512_bf16:
            return bf16;
        case Tier::amx:
            return bf16 && amx_permitted();
    }
    return false;
}

const Functions* const kTables[kTiers] = {&scalar_functions, &avx2_functions, &avx512_functions,
                                          &avx512_bf16_functions, &amx_functions};

#else

bool runs(Tier tier) {
    return tier == Tier::scalar;
}

const Functions* const kTables[kTiers] = {&scalar_functions};

#endif

struct Found {
    const Functions* tables[kTiers] = {};
    const Functions* best = &scalar_functions;

    Found() {
        for (int tier = 0; tier < kTiers; ++tier) {
            if (!runs(static_cast<Tier>(tier))) continue;
            tables[tier] = kTables[tier];
            best = kTables[tier];
        }
    }
};

const Found kFound;  // asked once, when the library is loaded

}  // namespace

const Functions* functions_of(int tier) {
    if (tier == kBestTier) return kFound.best;
    return tier >= 0 && tier < kTiers ? kFound.tables[tier] : nullptr;
}

const FormatFunctions* format_of(const Functions& functions, std::int32_t format) {
    for (int i = 0; i < functions.format_count; ++i) {
        if (functions.formats[i].format == format) return functions.formats + i;
    }
    return nullptr;
}

}  // namespace hybrid
