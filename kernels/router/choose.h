// One warp applies the rules of rules.py to the logits of one token.
#pragma once

#include "cuda/device.h"

namespace hybrid {

constexpr int kMostExperts = 512;
constexpr int kMostGroups = 64;
constexpr float kLeastSum = 1.0f / 16384;  // least normal float16

struct Rules {
    int32_t experts, used, groups, groups_used;
    int32_t sigmoid;        // else softmax
    int32_t best_of_group;  // a group's score is its best entry, else the sum of its two best
    int32_t normalise;
    float scale;
};

struct Choice {
    const float* bias;  // [experts] or null
    int32_t* chosen;    // [tokens, used]
    float* share;       // [tokens, used]
};

// In shared memory, one for a token. An expert stands at place(expert): lanes that walk through
// groups of 32 side by side would meet in one bank.
struct Scores {
    float probability[kMostExperts + kMostExperts / kWarp];
    float score[kMostExperts + kMostExperts / kWarp];
    float worth[kMostGroups];
};

DEVICE int place(int expert) {
    return expert + expert / kWarp;
}

// A number that is none stands above all others, as in torch.
DEVICE bool above(float a, float b) {
    return a > b || (a != a && b == b);
}

// Whole numbers in the order of the floats, all above 0.
DEVICE uint32_t rank_bits(float value) {
    if (value != value) return 0xffffffffu;
    const uint32_t bits = float_bits(value + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE void score_experts(const Rules& rules, const float* logits, const float* bias,
                          Scores& scores) {
    float most = bits_float(0xff800000u), sum = 0;
    if (!rules.sigmoid) {
        for (int e = lane_index(); e < rules.experts; e += kWarp) most = fmaxf(most, logits[e]);
        most = warp_max(most);
    }
    for (int e = lane_index(); e < rules.experts; e += kWarp) {
        const float p = rules.sigmoid ? 1 / (1 + expf(-logits[e])) : expf(logits[e] - most);
        scores.probability[place(e)] = p;
        sum += p;
    }
    sum = rules.sigmoid ? 1 : warp_sum(sum);
    for (int e = lane_index(); e < rules.experts; e += kWarp) {
        const float p = scores.probability[place(e)] / sum;
        scores.probability[place(e)] = p;
        scores.score[place(e)] = bias ? p + bias[e] : p;
    }
    __syncwarp();
}

DEVICE float worth_of_group(const Rules& rules, int first, int size, const Scores& scores) {
    float best = scores.score[place(first)], second = bits_float(0xff800000u);
    for (int e = first + 1; e < first + size; ++e) {
        const float score = scores.score[place(e)];
        if (above(score, best)) {
            second = best;
            best = score;
        } else if (above(score, second)) {
            second = score;
        }
    }
    return rules.best_of_group || size == 1 ? best : best + second;
}

// The scores outside the best groups become -inf.
DEVICE void drop_groups(const Rules& rules, Scores& scores) {
    const int size = rules.experts / rules.groups;
    for (int g = lane_index(); g < rules.groups; g += kWarp) {
        scores.worth[g] = worth_of_group(rules, g * size, size, scores);
    }
    __syncwarp();
    for (int g = lane_index(); g < rules.groups; g += kWarp) {
        const float worth = scores.worth[g];
        int rank = 0;
        for (int other = 0; other < rules.groups; ++other) {
            const bool earlier = other < g && !above(worth, scores.worth[other]);
            rank += above(scores.worth[other], worth) || earlier;
        }
        if (rank < rules.groups_used) continue;
        for (int e = g * size; e < (g + 1) * size; ++e) {
            scores.score[place(e)] = bits_float(0xff800000u);
        }
    }
    __syncwarp();
}

// A lane's best expert that is not taken, the lower of equals; rank 0 when all are taken.
struct Best {
    uint32_t rank;
    int32_t expert;
};

DEVICE Best best_of_lane(const Rules& rules, const Scores& scores, uint32_t taken) {
    Best best = {0, 0};
    for (int i = 0, e = lane_index(); e < rules.experts; ++i, e += kWarp) {
        if (taken >> i & 1) continue;
        const uint32_t rank = rank_bits(scores.score[place(e)]);
        if (rank > best.rank) best = {rank, e};
    }
    return best;
}

// An expert of a token, in a lane below rules.used.
struct Chosen {
    int32_t expert;
    float share;
};

// All lanes of one warp call it for one token.
DEVICE Chosen choose_experts(const Rules& rules, const Choice& choice, const float* logits,
                             int token, Scores& scores) {
    score_experts(rules, logits, choice.bias, scores);
    if (rules.groups > 1) drop_groups(rules, scores);
    uint32_t taken = 0;
    Best best = best_of_lane(rules, scores, taken);
    int mine = 0;
    for (int slot = 0; slot < rules.used; ++slot) {
        const bool leads = best.rank == warp_greatest(best.rank);
        const uint32_t before = static_cast<uint32_t>(kMostExperts - best.expert);
        const int expert = kMostExperts - static_cast<int>(warp_greatest(leads ? before : 0));
        if (lane_index() == slot) mine = expert;
        if (lane_index() == expert % kWarp) {
            taken |= 1u << expert / kWarp;
            best = best_of_lane(rules, scores, taken);
        }
    }
    const bool used = lane_index() < rules.used;
    float share = used ? scores.probability[place(mine)] : 0.0f;
    if (rules.normalise) {
        const float sum = warp_sum(share);
        share /= sum < kLeastSum ? kLeastSum : sum;
    }
    const Chosen chosen = {mine, share * rules.scale};
    if (used) {
        choice.chosen[token * rules.used + lane_index()] = chosen.expert;
        choice.share[token * rules.used + lane_index()] = chosen.share;
    }
    return chosen;
}

}  // namespace hybrid
