// The ops in the scalar tier without Python: `ops_test NAME` runs one case and prints nothing when
// it holds, by one worker and by several. Built by tests/kernels/test_native_ops.py with
// sanitizers.
#include <algorithm>

#include "../latent_block/block.h"
#include "ops_cases.h"

namespace ops_test {
namespace {

using hybrid::BlockNeeds;
using hybrid::BlockPass;
using hybrid::CacheRows;
using hybrid::Experts;
using hybrid::LatentBlock;
using hybrid::Matrix;

constexpr int kFormats = 64;  // more than there are
constexpr int kWidth = 96, kHeads = 3, kNope = 32, kRope = 6, kValue = 32, kLatent = 64;

// Query through a latent or not, both layouts of the key, attention absorbed up to few, some, many.
LatentBlock latent_block(Weights& w, int absorb_up_to, int query_latent) {
    LatentBlock b{};
    b.width = kWidth, b.heads = kHeads, b.nope = kNope, b.rope = kRope;
    b.value = kValue, b.latent = kLatent, b.query_latent = query_latent;
    b.key_transposed = query_latent ? 1 : 0;
    b.absorb_up_to = absorb_up_to, b.expand_up_to = 1000;
    b.epsilon = 1e-6f, b.score_scale = 0.16f;
    b.attention_norm = w.norm(kWidth), b.feed_forward_norm = w.norm(kWidth);
    b.latent_norm = w.norm(kLatent);
    if (query_latent) {
        b.query_norm = w.norm(query_latent);
        b.query_down = w.matrix(query_latent, kWidth);
    }
    b.query = w.matrix(kHeads * (kNope + kRope), query_latent ? query_latent : kWidth);
    b.compress = w.matrix(kLatent + kRope, kWidth);
    b.output = w.matrix(kWidth, kHeads * kValue);
    b.key = query_latent ? w.heads(kHeads, kLatent, kNope) : w.heads(kHeads, kNope, kLatent);
    b.value_up = w.heads(kHeads, kValue, kLatent);
    return b;
}

void add_dense(LatentBlock& b, Weights& w, int length) {
    b.gate = w.matrix(length, kWidth), b.up = w.matrix(length, kWidth);
    b.down = w.matrix(kWidth, length);
}

void add_routed(LatentBlock& b, Weights& w, hybrid::RouterRules rules, int parts) {
    b.rules = rules;
    b.router = w.matrix(rules.experts, kWidth, kF32);
    if (rules.sigmoid) b.router_bias = w.norm(rules.experts);
    b.experts = w.experts(0, rules.experts, rules.used, kWidth, 64, parts);
}

// Dense, routed beside a shared expert, routed by groups alone. Three: tails are used anew.
struct Chain {
    static constexpr int kBlocks = 3;
    static constexpr int kCacheFormats[kBlocks] = {kF16, kF32, kQ8};
    static constexpr int kCacheColumns[kBlocks] = {kLatent + kRope, kLatent + kRope, 96};

    Weights weights;
    LatentBlock blocks[kBlocks];

    Chain() {
        for (int number = 0; number < kBlocks; ++number) {
            const int absorb_up_to[] = {2, 8, 1000}, query_latent[] = {32, 0, 32};
            blocks[number] = latent_block(weights, absorb_up_to[number], query_latent[number]);
        }
        add_dense(blocks[0], weights, 160);
        add_dense(blocks[1], weights, 32);
        add_routed(blocks[1], weights, {5, 2, 1, 1, false, false, false, 1}, 2);
        add_routed(blocks[2], weights, {12, 4, 4, 2, true, false, true, 2.5f}, 1);
    }

    // A pass over all blocks; hidden and caches are replaced.
    void pass(Floats& hidden, std::vector<Bytes>& caches, int start, int precision, int threads) {
        const int tokens = static_cast<int>(hidden.size()) / kWidth;
        const auto turns = static_cast<std::size_t>(tokens * kRope / 2);
        BlockNeeds most{0, 0};
        const LatentBlock* pointers[kBlocks];
        CacheRows rows[kBlocks];
        for (int number = 0; number < kBlocks; ++number) {
            BlockNeeds needs;
            pointers[number] = &blocks[number];
            hybrid_latent_block_needs(&blocks[number], 0, precision, tokens, start + tokens,
                                      threads, &needs);
            most.shared_bytes = std::max(most.shared_bytes, needs.shared_bytes);
            most.own_bytes = std::max(most.own_bytes, needs.own_bytes);
            rows[number] = {caches[number].data(),
                            row_bytes(kCacheFormats[number], kCacheColumns[number]),
                            kCacheFormats[number], kLatent, kRope};
        }
        const Workspace workspace(most.shared_bytes);
        const Floats cosine(turns, 0.8f), sine(turns, 0.6f);
        CHECK(hybrid_pool_reserve(static_cast<std::size_t>(most.own_bytes)) == kPoolOk);
        const BlockPass of{
            hidden.data(),   cosine.data(),   sine.data(), tokens, start, 0, precision, threads, 0,
            workspace.first, workspace.bytes, nullptr,     nullptr};
        CHECK(hybrid_latent_blocks(pointers, rows, kBlocks, &of) == kPoolOk);
        check_finite(hidden);
    }

    // The output of the last of two passes, the first of `start` tokens, and the caches after it.
    Bytes run(const Floats& input, int start, int precision, int threads) {
        const std::size_t earlier = static_cast<std::size_t>(start) * kWidth;
        const auto seen = input.size() / kWidth;
        std::vector<Bytes> caches;
        for (int number = 0; number < kBlocks; ++number) {
            const std::size_t row = row_bytes(kCacheFormats[number], kCacheColumns[number]);
            caches.emplace_back(seen * row, std::uint8_t{0xFF});
        }
        const auto middle = input.begin() + static_cast<std::ptrdiff_t>(earlier);
        Floats before(input.begin(), middle), hidden(middle, input.end());
        if (start) pass(before, caches, 0, precision, threads);
        pass(hidden, caches, start, precision, threads);
        Bytes all(hidden.size() * sizeof(float));
        std::memcpy(all.data(), hidden.data(), all.size());
        for (const Bytes& cache : caches) all.insert(all.end(), cache.begin(), cache.end());
        return all;
    }
};

void test_blocks() {
    Chain chain;
    for (int tokens : {1, 3, 20}) {
        for (int start : {0, 5}) {
            const Floats input = random_floats(static_cast<std::size_t>((start + tokens) * kWidth));
            for (int precision : {0, 1}) {
                by_any_workers(
                    [&](int threads) { return chain.run(input, start, precision, threads); });
            }
        }
    }
}

// out after experts of `chosen` are added to zeros, by any number of workers.
Floats experts_sum(const Experts& experts, const Floats& x, const std::vector<std::int32_t>& chosen,
                   const Floats& share, int precision) {
    const int tokens = static_cast<int>(x.size()) / kWidth;
    return by_any_workers([&](int threads) {
        const Workspace workspace(hybrid_expert_ffn_bytes(0, precision, &experts, tokens, threads));
        Floats out(x.size());
        CHECK(hybrid_expert_ffn(0, precision, threads, &experts, x.data(), tokens, chosen.data(),
                                share.data(), out.data(), workspace.first,
                                workspace.bytes) == kPoolOk);
        check_finite(out);
        return out;
    });
}

// Experts 2 .. 6 are here, 0, 1 and 7 are not.
void test_experts() {
    for (int parts : {1, 2}) {
        Weights weights;
        const Experts experts = weights.experts(2, 5, 3, kWidth, 64, parts);
        for (int tokens : {1, 9}) {
            const auto pairs = static_cast<std::size_t>(3 * tokens);
            const Floats x = random_floats(static_cast<std::size_t>(tokens * kWidth));
            std::vector<std::int32_t> chosen(pairs);
            for (std::size_t pair = 0; pair < pairs; ++pair) {
                chosen[pair] = static_cast<std::int32_t>((pair * 5 + 4) % 8);
            }
            for (int precision : {0, 1}) {
                experts_sum(experts, x, chosen, random_floats(pairs, 0.5f, 0.5f), precision);
            }
        }
    }
}

// A token that names an expert twice gets the sum of both shares.
void test_twice() {
    for (int parts : {1, 2}) {
        Weights weights;
        const Experts experts = weights.experts(0, 4, 3, kWidth, 64, parts);
        for (int tokens : {1, 2, 9}) {
            const Floats x = random_floats(static_cast<std::size_t>(tokens * kWidth));
            std::vector<std::int32_t> twice, once;
            Floats shares, sums;
            for (int t = 0; t < tokens; ++t) {
                for (int expert : {2, t % 2, 2}) twice.push_back(expert);
                for (int expert : {2, t % 2, 3}) once.push_back(expert);
                for (float share : {0.5f, 0.25f, 0.125f}) shares.push_back(share);
                for (float share : {0.625f, 0.25f, 0.0f}) sums.push_back(share);
            }
            const Floats got = experts_sum(experts, x, twice, shares, 1);
            const Floats expected = experts_sum(experts, x, once, sums, 1);
            for (std::size_t i = 0; i < got.size(); ++i) {
                CHECK(std::abs(got[i] - expected[i]) < 1e-5f * (1 + std::abs(expected[i])));
            }
        }
    }
}

// y of `rows` odd rows; those of x lie apart.
Floats linear(const Matrix& matrix, int tokens, int precision) {
    const int stride = matrix.columns + 3;
    const Floats x =
        random_floats(static_cast<std::size_t>((tokens - 1) * stride + matrix.columns));
    return by_any_workers([&](int threads) {
        const Workspace workspace(hybrid_linear_bytes(0, precision, &matrix, tokens, threads));
        Floats y(static_cast<std::size_t>(tokens * matrix.rows));
        CHECK(hybrid_linear(0, precision, threads, &matrix, x.data(), stride, tokens, y.data(),
                            workspace.first, workspace.bytes) == kPoolOk);
        return y;
    });
}

void test_linear() {
    Weights weights;
    for (int rows : {1, 37}) {
        for (const Matrix& matrix : {weights.matrix(rows, 96), weights.matrix(rows, 288),
                                     weights.matrix(rows, 33, kF32)}) {
            for (int tokens : {1, 3, 20}) {
                for (int precision : {0, 1}) check_finite(linear(matrix, tokens, precision));
            }
        }
    }
}

// Groups of rows with room between them.
Floats decoded(int format, const Bytes& blocks, int rows, int columns) {
    const std::size_t row = row_bytes(format, columns), group = 3 * row + 5;
    Bytes apart(static_cast<std::size_t>((rows - 1) / 3) * group +
                static_cast<std::size_t>((rows - 1) % 3 + 1) * row);
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
        std::memcpy(apart.data() + r / 3 * group + r % 3 * row, blocks.data() + r * row, row);
    }
    return by_any_workers([&](int threads) {
        Floats out(static_cast<std::size_t>(rows * columns));
        CHECK(hybrid_dequantize(0, threads, format, apart.data(), group, 3, row,
                                static_cast<std::size_t>(rows), static_cast<std::size_t>(columns),
                                out.data()) == kPoolOk);
        return out;
    });
}

void test_dequantize() {
    constexpr int kRows = 37, kColumns = 96;
    const Bytes blocks = random_rows(kQ8, kRows, kColumns);
    const Floats got = decoded(kQ8, blocks, kRows, kColumns);
    for (std::size_t i = 0; i < got.size(); ++i) {
        const std::uint8_t* block = blocks.data() + i / 32 * 34;
        const int fraction = block[0] + 256 * (block[1] & 3);
        const auto weight = static_cast<std::int8_t>(block[2 + i % 32]);
        CHECK(got[i] == std::ldexp(1024.0f + static_cast<float>(fraction), -21) * weight);
    }
}

// Any bytes whatever are weights; NaN among them.
void test_formats() {
    for (int format = 0; format < kFormats; ++format) {
        const int columns = 2 * hybrid_block_weights(format);
        if (columns == 0) continue;
        Weights weights;
        decoded(format, random_rows(format, 5, columns), 5, columns);
        const Matrix matrix = weights.matrix(5, columns, format);
        for (int tokens : {1, 20}) {
            for (int precision : {0, 1}) linear(matrix, tokens, precision);
        }
    }
}

struct Case {
    const char* name;
    void (*run)();
};

const Case kCases[] = {
    {"blocks", test_blocks}, {"experts", test_experts},       {"twice", test_twice},
    {"linear", test_linear}, {"dequantize", test_dequantize}, {"formats", test_formats},
    {"serve", test_serve}};

}  // namespace
}  // namespace ops_test

int main(int count, char** arguments) {
    for (const auto& one : ops_test::kCases) {
        if (count == 1) std::puts(one.name);
        if (count == 2 && std::strcmp(one.name, arguments[1]) == 0) return one.run(), 0;
    }
    return count == 1 ? 0 : 2;
}
