#include "library.h"
#include "pool.h"
#include "product_job.h"

namespace hybrid {
namespace {

struct LinearJob {
    Arithmetic arithmetic;
    Matrix matrix;
    Tokens x;
    Outputs y;
    JobMemory memory;
    Tail fill{}, rows{};
};

void run_linear(Worker& worker, void* context) {
    auto& job = *static_cast<LinearJob*>(context);
    Memory shared = job.memory.shared(worker), own = job.memory.own(worker);
    Inputs inputs(job.x);
    inputs.reserve(shared, job.arithmetic, job.matrix);
    share(worker, job.fill, inputs.pieces(),
          [&](int begin, int end) { inputs.fill(job.arithmetic.tier, begin, end); });
    worker.barrier();
    const RowUnits rows(job.matrix.rows, job.x.count);
    share(worker, job.rows, rows.count(), [&](int begin, int end) {
        inputs.multiply(job.arithmetic, job.matrix, rows.row(begin), rows.row(end), own, job.y);
    });
}

}  // namespace
}  // namespace hybrid

std::int64_t hybrid_linear_bytes(std::int32_t tier, std::int32_t precision,
                                 const hybrid::Matrix* matrix, std::int32_t tokens,
                                 std::int32_t threads) {
    const auto arithmetic = hybrid::arithmetic_of(tier, precision);
    return hybrid::JobMemory::bytes(hybrid::inputs_bytes(arithmetic, *matrix, tokens, 1),
                                    hybrid::scratch_bytes(arithmetic, *matrix), threads);
}

std::int32_t hybrid_linear(std::int32_t tier, std::int32_t precision, std::int32_t threads,
                           const hybrid::Matrix* matrix, const float* x, std::int64_t x_stride,
                           std::int32_t tokens, float* y, void* workspace,
                           std::int64_t workspace_bytes) {
    const auto arithmetic = hybrid::arithmetic_of(tier, precision);
    const hybrid::Tokens tokens_of_x{x, static_cast<std::size_t>(x_stride),
                                     static_cast<std::size_t>(matrix->columns), nullptr, tokens};
    return hybrid::run_kept<hybrid::LinearJob>(
        threads, hybrid::run_linear, arithmetic, *matrix, tokens_of_x,
        hybrid::Outputs{y, static_cast<std::size_t>(matrix->rows)},
        hybrid::JobMemory(workspace, workspace_bytes, hybrid::scratch_bytes(arithmetic, *matrix)));
}
