#include <cmath>

#include "../router/router.h"
#include "floats_border.h"

namespace hybrid {
namespace {

constexpr float kLeastSum = 0x1p-14f;  // least normal half: nothing is divided by less

void softmax(const float* logits, int experts, float* probability) {
    float most = logits[0];
    for (int e = 1; e < experts; ++e) most = std::fmax(most, logits[e]);
    double sum = 0;
    for (int e = 0; e < experts; ++e) {
        probability[e] = std::exp(logits[e] - most);
        sum += static_cast<double>(probability[e]);
    }
    for (int e = 0; e < experts; ++e) {
        probability[e] = static_cast<float>(static_cast<double>(probability[e]) / sum);
    }
}

void sigmoid(const float* logits, int experts, float* probability) {
    for (int e = 0; e < experts; ++e) probability[e] = 1.0f / (1.0f + std::exp(-logits[e]));
}

float worth_of(const float* score, int members, bool best_only) {
    float first = score[0], second = -INFINITY;
    for (int i = 1; i < members; ++i) {
        second = std::fmax(second, std::fmin(first, score[i]));
        first = std::fmax(first, score[i]);
    }
    return best_only || members == 1 ? first : first + second;
}

// Whether fewer than `used` others come before group g, of equal ones the lower.
bool is_used(const float* worth, int groups, int g, int used) {
    int before = 0;
    for (int other = 0; other < groups; ++other) {
        before += worth[other] > worth[g] || (worth[other] == worth[g] && other < g);
    }
    return before < used;
}

// Keeps the `used` best so far in order.
int insert(const float* score, int expert, int kept, int used, std::int32_t* chosen) {
    if (kept == used && !(score[expert] > score[chosen[used - 1]])) return kept;
    int at = kept < used ? kept++ : used - 1;
    for (; at > 0 && score[expert] > score[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
    chosen[at] = expert;
    return kept;
}

void choose(const RouterRules& rules, const float* score, float* worth, std::int32_t* chosen) {
    const int members = rules.experts / rules.groups;
    for (int g = 0; g < rules.groups; ++g) {
        worth[g] = worth_of(score + g * members, members, rules.best_of_group);
    }
    int kept = 0;
    for (int g = 0; g < rules.groups; ++g) {
        if (!is_used(worth, rules.groups, g, rules.groups_used)) continue;
        for (int e = g * members; e < (g + 1) * members; ++e) {
            kept = insert(score, e, kept, rules.used, chosen);
        }
    }
}

}  // namespace

void choose_experts(const RouterRules& rules, const float* logits, const float* bias,
                    float* scratch, std::int32_t* chosen, float* share) {
    float* probability = scratch;
    float* score = bias ? scratch + rules.experts : scratch;
    (rules.sigmoid ? sigmoid : softmax)(logits, rules.experts, probability);
    if (bias) {
        for (int e = 0; e < rules.experts; ++e) score[e] = probability[e] + bias[e];
    }
    choose(rules, score, scratch + 2 * rules.experts, chosen);
    float sum = 0;
    for (int k = 0; k < rules.used; ++k) sum += share[k] = probability[chosen[k]];
    const float divisor = rules.normalise ? (sum < kLeastSum ? kLeastSum : sum) : 1.0f;
    for (int k = 0; k < rules.used; ++k) share[k] = share[k] / divisor * rules.scale;
}

}  // namespace hybrid

std::size_t hybrid_router_scratch(std::int32_t experts, std::int32_t groups) {
    hybrid::RouterRules rules{};
    rules.experts = experts;
    rules.groups = groups;
    return hybrid::router_scratch(rules);
}

void hybrid_choose_experts(const std::int32_t* counts, const std::int32_t* ways, float scale,
                           const float* logits, const float* bias, std::size_t tokens,
                           float* scratch, std::int32_t* chosen, float* share) {
    const hybrid::RouterRules rules{counts[0],    counts[1],    counts[2],    counts[3],
                                    ways[0] != 0, ways[1] != 0, ways[2] != 0, scale};
    for (std::size_t t = 0; t < tokens; ++t) {
        const auto used = static_cast<std::size_t>(rules.used);
        hybrid::choose_experts(rules, logits + t * static_cast<std::size_t>(rules.experts), bias,
                               scratch, chosen + t * used, share + t * used);
    }
}
