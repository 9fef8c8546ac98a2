#!/usr/bin/env bash
# Everything that has to be clean, in order of speed. Changes nothing; stops at the first failure.
#
#   tools/check.sh          all of it
#   tools/check.sh fast     without the tests: what runs before a commit
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v ruff >/dev/null; then
    PATH="$PWD/.venv/bin:$PATH"
fi
if ! command -v ruff >/dev/null; then
    echo "the checkers are not installed: run 'make test' once" >&2
    exit 1
fi

step() {
    printf '\n== %s\n' "$*"
    "$@" || { printf '\nfailed: %s\n' "$*" >&2; exit 1; }
}

cpp_files=$(find kernels tests tools -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu')  # no blanks in our names; macOS has no mapfile

step ruff format --check .
step ruff check .
step mypy
if [[ -n $cpp_files ]]; then
    step clang-format --dry-run --Werror $cpp_files
fi
if [[ ${1:-} != fast ]]; then
    step python -m pytest -n 2  # more at once would slow down those that measure
fi
