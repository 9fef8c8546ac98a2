// A launch: the blocks of a grid one after the other, their memory poisoned before each.
#pragma once

#include <link.h>
#include <sys/mman.h>

#include <vector>

#include "cuda/emulator_block.h"

namespace hybrid::emulator {

// Mirrored by Launch in emulator.py.
struct Launch {
    const void* record;
    char* message;  // [message_bytes], written when the launch fails
    int64_t record_bytes, message_bytes, shared_bytes;
    int32_t grid[3];
    int32_t threads;
};

struct Span {
    unsigned char* from = nullptr;
    size_t nbytes = 0;
};

// This library's thread_local variables in the calling thread: the __shared__ arrays and `active`.
inline Span thread_locals() {
    Span found;
    const auto look = [](dl_phdr_info* library, size_t, void* result) {
        for (int part = 0; part < library->dlpi_phnum; ++part) {
            const auto& header = library->dlpi_phdr[part];
            const auto* from = static_cast<unsigned char*>(library->dlpi_tls_data);
            const auto* ours = reinterpret_cast<unsigned char*>(&active);
            if (header.p_type != PT_TLS || from == nullptr) continue;
            if (ours < from || ours >= from + header.p_memsz) continue;
            *static_cast<Span*>(result) = {const_cast<unsigned char*>(from), header.p_memsz};
            return 1;
        }
        return 0;
    };
    dl_iterate_phdr(look, &found);
    return found;
}

inline void poison_shared(const Span& statics, unsigned char* dynamic_shared, size_t nbytes) {
    Block* const kept = active;
    if (statics.from != nullptr) memset(statics.from, kPoison, statics.nbytes);
    active = kept;
    memset(dynamic_shared, kPoison, nbytes + kFenceBytes);
}

struct Stacks {
    size_t nbytes;
    char* memory;
    explicit Stacks(int count)
        : nbytes((count + 1) * kStackBytes),
          memory(static_cast<char*>(mmap(nullptr, nbytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
    ~Stacks() {
        if (memory != MAP_FAILED) munmap(memory, nbytes);
    }
};

inline void prepare_threads(std::vector<Thread>& threads, char* memory) {
    for (size_t number = 0; number < threads.size(); ++number) {
        Thread& thread = threads[number];
        // The lowest stays empty: what thread 0 writes too much lands there.
        thread.stack = memory + (number + 1) * kStackBytes;
        memcpy(thread.stack, &kStackEnd, sizeof(kStackEnd));
        getcontext(&thread.start);
        thread.start.uc_stack.ss_sp = thread.stack;
        thread.start.uc_stack.ss_size = kStackBytes;
        thread.start.uc_link = nullptr;
        makecontext(&thread.start, live, 0);
    }
}

inline void check_limits(Block& block, size_t shared_bytes) {
    if (block.failed) return;
    for (size_t at = 0; at < kFenceBytes; ++at)
        if (block.dynamic_shared[shared_bytes + at] != kPoison)
            return fault(block, "a thread wrote %zu bytes behind its %zu of dynamic shared memory",
                         at, shared_bytes);
}

inline void run_grid(Block& block, size_t shared_bytes) {
    const Span statics = thread_locals();
    const unsigned* grid = block.grid;
    for (uint64_t number = 0; number < uint64_t(grid[0]) * grid[1] * grid[2]; ++number) {
        block.index[0] = number % grid[0];
        block.index[1] = number / grid[0] % grid[1];
        block.index[2] = number / grid[0] / grid[1];
        poison_shared(statics, block.dynamic_shared, shared_bytes);
        run_block(block);
        check_limits(block, shared_bytes);
        if (block.failed) return;
    }
}

template <class Record>
void call(const void* kernel, const void* record) {
    reinterpret_cast<void (*)(Record)>(const_cast<void*>(kernel))(
        *static_cast<const Record*>(record));
}

// 0, or 1 with the reason in launch.message.
template <class Record>
int run(void (*kernel)(Record), const Launch& launch) {
    std::vector<Thread> threads(launch.threads);
    std::vector<Warp> warps((launch.threads + kLanes - 1) / kLanes);
    std::vector<uint4> dynamic_shared(  // uint4 for its alignment
        (launch.shared_bytes + kFenceBytes) / sizeof(uint4) + 1);
    Block block{};
    block.count = launch.threads;
    block.threads = threads.data();
    block.warps = warps.data();
    block.dynamic_shared = reinterpret_cast<unsigned char*>(dynamic_shared.data());
    block.body = call<Record>;
    block.kernel = reinterpret_cast<const void*>(kernel);
    block.record = launch.record;
    block.message = launch.message;
    block.message_bytes = launch.message_bytes;
    for (int axis = 0; axis < 3; ++axis) block.grid[axis] = launch.grid[axis];
    if (launch.record_bytes != static_cast<int64_t>(sizeof(Record))) {
        fault(block, "the kernel takes a record of %zu bytes and was given %lld", sizeof(Record),
              static_cast<long long>(launch.record_bytes));
        return 1;
    }
    const Stacks stacks(launch.threads);
    if (stacks.memory == MAP_FAILED) {
        fault(block, "no memory for the stacks of %d threads", launch.threads);
        return 1;
    }
    prepare_threads(threads, stacks.memory);
    active = &block;
    run_grid(block, launch.shared_bytes);
    active = nullptr;
    return block.failed ? 1 : 0;
}

}  // namespace hybrid::emulator
