#include "cuda/device.h"

namespace hybrid {

struct StampRecord {
    uint64_t* time;      // null: no stamp
    const void* chosen;  // [count] Number
    int32_t* usage;      // [experts]
    int32_t count;       // 0: nobody counts
    int32_t unused;
};

// The successor may start at once and waits for this one, which waits for all before it.
template <int THREADS, class Number>
__global__ void stamp(const StampRecord record) {
    let_next_start();
    wait_for_previous();
    const int first = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    if (first == 0 && record.time != nullptr) *record.time = global_timer_ns();
    const Number* const chosen = static_cast<const Number*>(record.chosen);
    const int all = static_cast<int>(gridDim.x) * THREADS;
    for (int at = first; at < record.count; at += all)
        atomic_add(record.usage + static_cast<int>(chosen[at]), 1);
}

}  // namespace hybrid
