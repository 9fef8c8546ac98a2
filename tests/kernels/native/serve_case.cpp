// The CPU's side of the mailbox with a thread that plays the GPU: for ops_test.cpp.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "../latent_block/block.h"
#include "../mailbox/serve.h"
#include "ops_cases.h"

namespace ops_test {
namespace {

using hybrid::Mailbox;
using hybrid::ServedLayer;
using hybrid::ServedMailbox;
using hybrid::ServedStep;
using Number = std::atomic<std::uint32_t>;

constexpr int kWidth = 96, kLength = 64, kExperts = 5, kUsed = 3, kTokens = 2, kLayers = 3;
constexpr std::uint32_t kFirst = 0xFFFFFFFE;  // the numbers wrap around in the first step

Number& number(std::uint32_t* at) {
    return *reinterpret_cast<Number*>(at);
}

void post_word(std::uint64_t& word, std::uint64_t bits, std::uint32_t number) {
    reinterpret_cast<std::atomic<std::uint64_t>*>(&word)->store(
        static_cast<std::uint64_t>(number) << 32 | bits, std::memory_order_relaxed);
}

// A mailbox, each part an allocation of its own.
struct Box {
    std::vector<std::uint32_t> from_gpu{0}, posted{kFirst};
    std::vector<std::uint32_t> from_cpu =
        std::vector<std::uint32_t>(hybrid::kLines * hybrid::kWordsOfLine);
    Floats x = Floats(kTokens * kWidth), y = x;
    std::vector<std::uint64_t> choice = std::vector<std::uint64_t>(kTokens * kUsed * 2);
    ServedMailbox served{};

    Box() {
        static_assert(kWidth <= hybrid::kStretch);
        for (int line = 0; line < hybrid::kLines; ++line)
            from_cpu[static_cast<std::size_t>(line * hybrid::kWordsOfLine)] = kFirst;
        served.at = {from_gpu.data(), from_cpu.data(),
                     posted.data(),   x.data(),
                     choice.data(),   y.data(),
                     nullptr,         0,
                     kWidth,          kUsed};
        served.number = kFirst;
    }
};

// The GPU: each layer's y is the next one's x.
Floats play(Box& box, int layers) {
    Floats h = random_floats(box.x.size());
    for (int layer = 0; layer < layers; ++layer) {
        std::copy(h.begin(), h.end(), box.x.begin());
        const std::uint32_t next = number(&box.posted[0]).load(std::memory_order_relaxed) + 1;
        for (std::size_t i = 0; i < box.choice.size(); i += 2) {
            const float half = 0.5f;
            std::uint32_t bits = 0;
            std::memcpy(&bits, &half, sizeof bits);
            post_word(box.choice[i], (i / 2 * 7 + static_cast<std::size_t>(layer)) % 8, next);
            post_word(box.choice[i + 1], bits, next);
        }
        number(&box.posted[0]).store(next, std::memory_order_release);
        while (number(&box.from_cpu[0]).load(std::memory_order_acquire) != next) {
            if (number(&box.from_cpu[1]).load(std::memory_order_acquire) != 0) return h;
            std::this_thread::yield();
        }
        for (std::size_t i = 0; i < h.size(); ++i) h[i] += box.y[i];
    }
    return h;
}

// Ends by its last answer or by an error.
std::int32_t serve(ServedStep& step) {
    std::int32_t result = kServePaused;
    for (step.next = 0, step.silent_s = 0; result == kServePaused;) result = hybrid_serve(&step);
    return result;
}

}  // namespace

void test_serve() {
    Weights weights;
    const hybrid::Experts experts = weights.experts(1, kExperts, kUsed, kWidth, kLength, 2);
    Box box;
    ServedMailbox* mailboxes[] = {&box.served};
    ServedLayer layers[kLayers];
    for (ServedLayer& layer : layers) layer = {&experts, &box.served, 0, 0};
    start(kWorkers);
    const Workspace workspace(hybrid_serve_bytes(layers, kLayers, 0, 1, kTokens, kWorkers));
    ServedStep step{layers, mailboxes,       kLayers,        1, kTokens, 0, 1, kWorkers, 0, 0, 10.0,
                    0,      workspace.first, workspace.bytes};
    for (int round = 0; round < 20; ++round) {
        Floats h;
        std::thread gpu([&] { h = play(box, kLayers); });
        CHECK(serve(step) == kServeDone);
        gpu.join();
        check_finite(h);
    }
    CHECK(box.served.number == kFirst + 20 * kLayers);
    CHECK(layers[0].computed_s > 0);

    // One layer short: the service abandons, which ends a wait that nobody answers any more.
    step.limit_s = 0.3;
    std::thread gpu([&] { play(box, kLayers - 1); });
    CHECK(serve(step) == kServeSilent);
    CHECK(step.next == kLayers - 1);
    gpu.join();
    play(box, 1);
}

}  // namespace ops_test
