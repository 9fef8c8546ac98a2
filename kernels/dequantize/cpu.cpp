#include "library.h"
#include "pool.h"
#include "tier.h"

namespace hybrid {
namespace {

constexpr int kUnitRows = 16;

struct DequantizeJob {
    const FormatFunctions& format;
    const std::uint8_t* blocks;
    std::size_t group_stride_bytes, group_rows, row_stride_bytes, rows, columns;
    float* out;
    Tail tail{};
};

void run_dequantize(Worker& worker, void* context) {
    auto& job = *static_cast<DequantizeJob*>(context);
    const int units = static_cast<int>((job.rows + kUnitRows - 1) / kUnitRows);
    share(worker, job.tail, units, [&](int begin, int end) {
        const auto first = static_cast<std::size_t>(begin) * kUnitRows;
        const auto last = static_cast<std::size_t>(end) * kUnitRows;
        for (std::size_t r = first; r < (last < job.rows ? last : job.rows); ++r) {
            job.format.decode(job.blocks + r / job.group_rows * job.group_stride_bytes +
                                  r % job.group_rows * job.row_stride_bytes,
                              job.columns, job.out + r * job.columns);
        }
    });
}

}  // namespace
}  // namespace hybrid

std::int32_t hybrid_dequantize(std::int32_t tier, std::int32_t threads, std::int32_t format,
                               const void* blocks, std::size_t group_stride_bytes,
                               std::size_t group_rows, std::size_t row_stride_bytes,
                               std::size_t rows, std::size_t columns, float* out) {
    return hybrid::run_kept<hybrid::DequantizeJob>(
        threads, hybrid::run_dequantize, *hybrid::format_of(*hybrid::functions_of(tier), format),
        static_cast<const std::uint8_t*>(blocks), group_stride_bytes, group_rows, row_stride_bytes,
        rows, columns, out);
}
