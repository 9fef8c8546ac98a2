// Bounds of the memory that a pass over a block takes: each piece that its phases take, summed.

#include <initializer_list>

#include "attend.h"

namespace hybrid {
namespace {

std::size_t inputs_bytes(const Arithmetic& arithmetic, std::initializer_list<Matrix> matrices,
                         int tokens) {
    std::size_t bytes = 0;
    for (const Matrix& matrix : matrices) bytes += inputs_bytes(arithmetic, matrix, tokens, 1);
    return bytes;
}

FeedForward::Needs feed_forward_needs(const LatentBlock& b, const Arithmetic& arithmetic,
                                      int tokens) {
    FeedForward::Needs needs = FeedForward::needs(arithmetic, b.gate, b.up, b.down, tokens);
    if (!b.router.present()) return needs;
    const FeedForward::Needs routed = FeedForward::needs(arithmetic, b.experts, tokens);
    const std::size_t choice =
        static_cast<std::size_t>(tokens) * (static_cast<std::size_t>(b.rules.experts) * 4 +
                                            static_cast<std::size_t>(b.rules.used) * 8) +
        router_scratch(b.rules) * 4;
    return {needs.shared + routed.shared + choice + 256, needs.own + routed.own + choice + 256};
}

// A head's key matrix as expanded attention takes it.
Matrix turned_key(const LatentBlock& b) {
    if (!b.key_transposed) return b.key.first;
    return {&b, static_cast<std::int64_t>(b.latent) * 4, kF32, b.nope, b.latent, 0};
}

// Partial results of absorbed attention, runs of rows times queries; never less than fewer tokens
// take. The last group of heads may have room for heads that are not there.
std::size_t most_partials(const LatentBlock& b, int tokens, int workers) {
    const int few = workers * least(tokens, kFewTokens - 1) * 2 * b.heads;
    if (tokens < kFewTokens) return static_cast<std::size_t>(few);
    const int groups = least(b.heads, workers);
    const int runs = (workers + groups - 1) / groups;
    const int many = runs * tokens * (b.heads + (b.heads + groups - 1) / groups);
    return static_cast<std::size_t>(few > many ? few : many);
}

// Of one worker: a single token's own inputs, and the widest scratch of a phase.
std::size_t own_bytes(const LatentBlock& b, const Arithmetic& arithmetic, int tokens, int seen,
                      int workers) {
    const auto count = static_cast<std::size_t>(tokens), width = static_cast<std::size_t>(b.width);
    std::size_t bytes = 4096;
    const auto floats = [&](std::size_t values) { bytes += values * sizeof(float) + 64; };
    std::size_t scratch = 0;
    for (const Matrix* matrix : {&b.query_down, &b.query, &b.compress, &b.output, &b.router,
                                 &b.key.first, &b.value_up.first}) {
        const std::size_t here = scratch_bytes(arithmetic, *matrix);
        scratch = here > scratch ? here : scratch;
    }
    bytes += scratch + inputs_bytes(arithmetic, {b.key.first, b.value_up.first}, tokens);
    floats(RowUnits::most_values(tokens));
    floats(count * (static_cast<std::size_t>(b.latent) + kValueRow));
    floats(absorbed_scratch(static_cast<std::size_t>(b.latent + b.rope)));
    if (tokens == 1) {
        floats(2 * width + static_cast<std::size_t>(b.query_latent));
        bytes +=
            inputs_bytes(arithmetic, {b.query_down, b.query, b.compress, b.output, b.router}, 1);
    }
    if (!absorbs(b, tokens, seen)) {
        const auto nope = static_cast<std::size_t>(b.nope);
        const auto value = static_cast<std::size_t>(b.value);
        const auto latent = static_cast<std::size_t>(b.latent);
        floats(static_cast<std::size_t>(seen) * (nope + value) + 32);
        floats(nope * (latent + 1) + 32);
        floats(expanded_scratch(nope + static_cast<std::size_t>(b.rope), value, count));
        bytes += scratch_bytes(arithmetic, turned_key(b));
    }
    return bytes + static_cast<std::size_t>(workers) * sizeof(PartialAttention) +
           feed_forward_needs(b, arithmetic, tokens).own;
}

// What a pass of `tokens` tokens that sees `seen` rows takes of the shared memory, each piece.
std::size_t shared_bytes(const LatentBlock& b, const Arithmetic& arithmetic, int tokens, int seen,
                         int workers) {
    const auto count = static_cast<std::size_t>(tokens), rows = static_cast<std::size_t>(seen);
    const auto heads = static_cast<std::size_t>(b.heads), width = static_cast<std::size_t>(b.width);
    const auto cached = static_cast<std::size_t>(b.latent + b.rope);
    const auto value_row = whole(static_cast<std::size_t>(b.latent), kValueRow);
    std::size_t bytes = 0;
    const auto floats = [&](std::size_t values) { bytes += values * sizeof(float) + 64; };
    floats(count * cached);
    floats(count * static_cast<std::size_t>(b.query.rows + 2 * b.query_latent) + 32);
    floats(2 * count * width + 16);
    floats(count * heads * static_cast<std::size_t>(b.value));
    bytes +=
        inputs_bytes(arithmetic, {b.query_down, b.query, b.compress, b.output, b.router}, tokens);
    if (!absorbs(b, tokens, seen)) {
        floats(rows * cached);
        bytes += inputs_bytes(arithmetic, {b.value_up.first, turned_key(b)}, seen);
    } else {
        floats(count * heads * cached);
        floats(most_partials(b, tokens, workers) * (value_row + 2));
    }
    return bytes + feed_forward_needs(b, arithmetic, tokens).shared;
}

}  // namespace
}  // namespace hybrid

void hybrid_latent_block_needs(const hybrid::LatentBlock* block, std::int32_t tier,
                               std::int32_t precision, std::int32_t tokens, std::int32_t seen,
                               std::int32_t threads, hybrid::BlockNeeds* needs) {
    const auto arithmetic = hybrid::arithmetic_of(tier, precision);
    const int workers = threads > 0 ? threads : hybrid_pool_workers();
    *needs = {
        static_cast<std::int64_t>(hybrid::shared_bytes(*block, arithmetic, tokens, seen, workers)),
        static_cast<std::int64_t>(hybrid::own_bytes(*block, arithmetic, tokens, seen, workers))};
}
