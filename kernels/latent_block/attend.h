// The two forms of a block's attention, each called by every worker.
//   queries   [tokens][heads][nope + rope], the part with positions not rotated yet; expanded
//             attention rotates it in place
//   returns   [tokens][heads * value], of the shared memory; readable by all
#pragma once

#include "block_work.h"

namespace hybrid {

constexpr int kFewTokens = 4;  // tokens from which absorbed attention is cut by heads first

inline bool absorbs(const LatentBlock& block, int tokens, int seen) {
    return tokens <= block.absorb_up_to || seen > block.expand_up_to;
}

const float* attend_absorbed(BlockWork& work, const float* queries);
const float* attend_expanded(BlockWork& work, float* queries);

}  // namespace hybrid
