// Which tokens use the expert that a slot names.
#pragma once

#include "cuda/device.h"

namespace hybrid {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMostTokens = 8;
constexpr int kMostUsed = 16;  // experts of a token
constexpr int kMostSlots = kMostTokens * kMostUsed;

struct Users {
    int32_t count;
    int32_t token[kMostTokens];  // rising
    int32_t row[kMostTokens];    // of hidden: the token's first slot that names the expert
    uint32_t slots[kMostSlots / kWarp];
};

DEVICE bool names(const Users& users, int slot) {
    return users.slots[slot / kWarp] >> slot % kWarp & 1;
}

DEVICE void everybody(int tokens, Users& users) {
    const int token = static_cast<int>(threadIdx.x);
    if (token < tokens) users.token[token] = users.row[token] = token;
    if (token == 0) users.count = tokens;
    __syncthreads();
}

// One warp: each lane looks at the slots of its token.
DEVICE void list_tokens(int tokens, int used, Users& users) {
    int first = -1;
    for (int i = used - 1; lane_index() < tokens && i >= 0; --i) {
        const int slot = lane_index() * used + i;
        if (names(users, slot)) first = slot;
    }
    const unsigned with = warp_ballot(first >= 0);
    if (lane_index() == 0) users.count = __popc(with);
    if (first < 0) return;
    const int at = __popc(with & ((1u << lane_index()) - 1));
    users.token[at] = lane_index();
    users.row[at] = first;
}

// Who names the expert of `slot`; false unless it is the first slot that does. All threads call it.
DEVICE bool find_users(const int32_t* chosen, int tokens, int used, int slot, Users& users) {
    if (warp_index() == 0) {
        const int expert = chosen[slot];
        for (int word = 0; word < kMostSlots / kWarp; ++word) {
            const int other = word * kWarp + lane_index();
            const bool same = other < tokens * used && chosen[other] == expert;
            const unsigned lanes = warp_ballot(same);
            if (lane_index() == 0) users.slots[word] = lanes;
        }
        __syncwarp();
        list_tokens(tokens, used, users);
    }
    __syncthreads();
    return users.row[0] == slot;
}

}  // namespace hybrid
