// The CPU's side of mailbox.h at the C border: one decode step's routed experts, layer by layer.
#pragma once

#include "../expert_ffn/feed_forward.h"
#include "library.h"
#include "mailbox.h"

namespace hybrid {

// What the CPU keeps of a mailbox.
struct ServedMailbox {
    Mailbox at;
    std::uint32_t number;  // the last crossing answered
    std::int32_t unused;
};

// One layer's experts here, and the mailbox of the GPU that has the layer.
struct ServedLayer {
    const Experts* experts;
    ServedMailbox* mailbox;
    double waited_s, computed_s;  // out: until the GPU posted, and until y was answered
};

// One step. records of kernels/native/records.py are the same.
struct ServedStep {
    ServedLayer* layers;              // [count] in the order in which the GPUs post
    ServedMailbox* const* mailboxes;  // [mailbox_count] all that a failure abandons
    std::int32_t count, mailbox_count;
    std::int32_t tokens, tier, precision, threads;
    std::int32_t next;  // in and out: the first layer not answered
    std::int32_t unused;
    double limit_s;   // the GPU may stay silent before it is an error
    double silent_s;  // in and out: it has been, for `next`
    void* workspace;
    std::int64_t workspace_bytes;
};

}  // namespace hybrid

// Beside the numbers of the pool, which are positive.
enum HybridServeResult : std::int32_t {
    kServeDone = 0,
    kServePaused = -1,  // nothing posted for a while: call again, after a look at signals
    kServeSilent = -2,  // nothing posted for limit_s
    kServeGaveUp = -3,  // the GPU's own limit passed
};

// Bytes of workspace that layers 0 .. count - 1 need at most, for steps of 1 to `tokens` tokens.
HYBRID_EXPORT std::int64_t hybrid_serve_bytes(const hybrid::ServedLayer* layers, std::int32_t count,
                                              std::int32_t tier, std::int32_t precision,
                                              std::int32_t tokens, std::int32_t threads);

// Answers the step's crossings from `next` on; the calling thread is worker 0 of the pool. Comes
// back at least every 0.2 s of waiting, however long a step takes. Any result but done and paused
// has abandoned the step.
HYBRID_EXPORT std::int32_t hybrid_serve(hybrid::ServedStep* step);

// Ends every wait of the step's GPUs at once; what they compute from then on is garbage.
HYBRID_EXPORT void hybrid_abandon(const hybrid::ServedStep* step);
