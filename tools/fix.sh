#!/usr/bin/env bash
# Rewrites files as the formatters want them. What it cannot mend, tools/check.sh names.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v ruff >/dev/null; then
    PATH="$PWD/.venv/bin:$PATH"
fi
ruff check --fix --exit-zero .
ruff format .
find kernels tests tools \( -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' \) -exec clang-format -i {} +
