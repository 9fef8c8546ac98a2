#include "block_work.h"

namespace hybrid {

void BlockWork::normalise(const float* x, const float* weight, const Inputs& inputs) {
    auto* rows = const_cast<float*>(inputs.x().first);
    const std::size_t width = inputs.x().columns;
    each(inputs.pieces(), [&](int begin, int end) {
        for (int t = begin * kTokenTile; t < least(end * kTokenTile, pass.tokens); ++t) {
            const std::size_t at = static_cast<std::size_t>(t) * width;
            tier.floats.rms_norm(x + at, weight, width, block.epsilon, rows + at);
        }
        inputs.fill(tier, begin, end);
    });
}

void BlockWork::multiply_all(const Inputs& inputs, const Matrix& first, float* first_out,
                             const Matrix& second, float* second_out) {
    const int units = units_of(first).count();
    const int more = second.present() ? units_of(second).count() : 0;
    share(worker, tail(), units + more, [&](int begin, int end) {
        multiply_units(inputs, first, first_out, begin, least(end, units));
        multiply_units(inputs, second, second_out, begin < units ? 0 : begin - units, end - units);
    });
}

void BlockWork::multiply_units(const Inputs& inputs, const Matrix& matrix, float* out, int begin,
                               int end) {
    if (begin >= end) return;
    const RowUnits units = units_of(matrix);
    inputs.multiply(arithmetic, matrix, units.row(begin), units.row(end), own,
                    {out, static_cast<std::size_t>(matrix.rows)});
}

}  // namespace hybrid
