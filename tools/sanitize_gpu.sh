#!/usr/bin/env bash
# NVIDIA's compute-sanitizer over small GPU cases: no access outside of memory, no leaked error.
#
#   tools/sanitize_gpu.sh              memcheck
#   tools/sanitize_gpu.sh racecheck    another of its tools: racecheck, initcheck, synccheck
#
# Exit status: 0 clean, 1 something found or failed, 2 nothing to run it with.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=${1:-memcheck}
found=99 # what compute-sanitizer exits with when it has found something
sanitizer=
for place in "$(command -v compute-sanitizer || true)" \
    "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" \
    /usr/local/cuda*/compute-sanitizer/compute-sanitizer; do
    if [[ -x $place ]]; then
        sanitizer=$place
        break
    fi
done
if [[ -z $sanitizer ]]; then
    echo "compute-sanitizer is not here: it comes with NVIDIA's CUDA toolkit" \
        "(Debian and Ubuntu: apt install cuda-sanitizer-13-0 from NVIDIA's repository; conda install" \
        "-c nvidia cuda-sanitizer-api), or set CUDA_HOME to a toolkit" >&2
    exit 2
fi

python=python
if [[ -x .venv/bin/python ]]; then
    python=.venv/bin/python
fi
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "no CUDA device: there is nothing for compute-sanitizer to watch" >&2
    exit 2
fi

# Kernels run many times slower: the limits of the mailbox are not what is tested here. torch's
# pool is off, so that each tensor is an allocation whose ends are known.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
cases=(
    tests/runtime/gpu/test_cuda_small.py
    tests/kernels/test_router_gpu.py
    tests/kernels/test_step_gpu.py
)
# A launch ends under compute-sanitizer before it returns: a kernel that waits for the CPU, which
# answers when the launch has returned, would wait for ever.
waiting=tests/runtime/gpu/test_cuda_small.py::test_prompts_and_steps_of_every_size_agree_with_the_cpu[experts
status=0
"$sanitizer" --tool "$tool" --error-exitcode "$found" --launch-timeout 0 --target-processes all \
    "$python" -m pytest -q -m gpu --deselect "$waiting" "${cases[@]}" || status=$?
if [[ $status == "$found" ]]; then
    echo "compute-sanitizer has found something: look for ========= above" >&2
fi
[[ $status == 0 ]] && echo "$tool: clean" || exit 1
