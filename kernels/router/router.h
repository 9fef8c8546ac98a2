// A token's experts and their shares, as plain code: some hundred numbers are no work for vectors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hybrid {

// `RouterRules` of rules.py, which has checked that they can be obeyed.
struct RouterRules {
    std::int32_t experts, used;
    std::int32_t groups, groups_used;
    bool sigmoid;        // else softmax
    bool best_of_group;  // a group's score is its best entry, else the sum of its two best
    bool normalise;
    float scale;
};

constexpr std::size_t router_scratch(const RouterRules& rules) {
    return static_cast<std::size_t>(2 * rules.experts + rules.groups);
}

// One token.
//   logits   [experts]
//   bias     [experts] or null
//   scratch  router_scratch() floats
//   chosen   [used], best first; of equal scores the lower number
//   share    [used]
void choose_experts(const RouterRules& rules, const float* logits, const float* bias,
                    float* scratch, std::int32_t* chosen, float* share);

}  // namespace hybrid
