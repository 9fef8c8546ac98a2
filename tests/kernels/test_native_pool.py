"""The pool in C++, plain and under sanitizers (`native/pool_test.cpp`), and as Python sees it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernels.errors import KernelInputError, WorkerFailed
from kernels.native import pool
from kernels.native.library import library

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "kernels" / "native"
SOURCES = [
    *(NATIVE / f"{name}.cpp" for name in ("crew", "pool", "pool_border", "pool_jobs")),
    ROOT / "tests" / "kernels" / "native" / "pool_test.cpp",
]
BUILDS = {
    "plain": ["-O2"],
    "thread": ["-O1", "-fsanitize=thread"],
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
CASES = ["jobs", "barriers", "units", "pieces", "workers", "callers", "exceptions", "nested"]
CASES += ["ended", "stalled", "cycles", "asleep", "read"]

# A child of a process with threads has records of threads that it does not have, which the
# sanitizers take for leaks and for living threads; and they make a race of speed meaningless.
PLAIN_CASES = ["fork", "crowded"]


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Build -> the program, or why there is none."""
    folder, made = tmp_path_factory.mktemp("pool"), {}
    compiler = shutil.which("c++")

    def program(build):
        if compiler is None:
            pytest.skip("no C++ compiler")
        if build not in made:
            made[build] = compile_program(compiler, folder / build, BUILDS[build])
        if isinstance(made[build], str):
            pytest.skip(made[build])
        return made[build]

    return program


def compile_program(compiler, path, flags):
    empty = path.with_suffix(".cpp")
    empty.write_text("int main() {}")
    base = [compiler, "-std=c++17", "-g", "-pthread", *flags]
    tried = subprocess.run([*base, empty, "-o", path], capture_output=True, timeout=60)
    if tried.returncode or subprocess.run([path], capture_output=True, timeout=60).returncode:
        return f"{compiler} cannot build and run with {' '.join(flags)}"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run([*base, *warnings, f"-I{NATIVE}", *SOURCES, "-o", path], check=True, timeout=300)
    return path


@pytest.mark.parametrize(
    ("build", "case"),
    [(build, case) for build in BUILDS for case in CASES]
    + [("plain", case) for case in PLAIN_CASES],
)
def test_the_pool_keeps_its_promises(programs, build, case):
    # Running out of memory is one of the cases, and no error of the program.
    options = {f"{kind}_OPTIONS": "allocator_may_return_null=1" for kind in ("ASAN", "TSAN")}
    run = subprocess.run(
        [programs(build), case], capture_output=True, text=True, timeout=60, env=options
    )
    assert run.returncode == 0, run.stderr


def test_no_case_of_the_program_is_left_out(programs):
    run = subprocess.run([programs("plain")], capture_output=True, text=True, check=True)
    assert sorted(run.stdout.split()) == sorted(CASES + PLAIN_CASES)


OPENING = """
import os, signal, sys, time
from kernels.errors import WorkerFailed
from kernels.native import pool
from kernels.native.library import library

def fault(*numbers):
    pool.check(library().hybrid_pool_try_fault(*numbers))
"""


def in_python(code, **arguments):
    """The code in a process of its own, so that a broken pool stays there."""
    command = [sys.executable, "-W", "error", "-c", OPENING + code]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, **arguments
    )


@pytest.fixture
def three_workers():
    pool.start([-1, -1, -1], [0, 1, 0])
    yield
    pool.stop()


def test_a_pool_grows_and_never_shrinks(three_workers):
    assert pool.threads() == 3
    pool.start([-1] * 5, [0] * 5)
    assert pool.threads() == 5
    pool.start([-1], [0])
    assert pool.threads() == 5
    pool.stop()
    assert pool.threads() == 1


@pytest.mark.parametrize(("cpus", "nodes"), [([], []), ([0], [0, 0]), ([-1] * 1024, [0] * 1024)])
def test_lists_that_do_not_fit_are_refused(cpus, nodes):
    with pytest.raises(KernelInputError, match="for 1 to 1023 workers"):
        pool.start(cpus, nodes)


def test_a_worker_that_throws_is_named_with_its_words_and_the_next_job_runs(three_workers):
    with pytest.raises(WorkerFailed, match=r"worker 2 .* failed: thrown on purpose; .* again"):
        pool.check(library().hybrid_pool_try_fault(1, 2, 3, 0))
    pool.check(library().hybrid_pool_try_fault(0, 0, 3, 0))


def test_more_threads_than_workers_are_a_callers_mistake(three_workers):
    with pytest.raises(KernelInputError, match="more threads than the 3 of the pool"):
        pool.check(library().hybrid_pool_try_fault(0, 0, 4, 0))


def test_scratch_that_the_machine_does_not_have_is_an_error_and_no_end(three_workers):
    with pytest.raises(WorkerFailed, match=r"no RAM for the scratch .* try fewer"):
        pool.reserve(1 << 62)
    pool.reserve(1 << 16)


def test_the_pool_reads_ram(three_workers):
    assert 0.1 < pool.read_gb_s(2, 1 << 24) < 10_000


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_refused(seconds):
    with pytest.raises(KernelInputError):
        pool.set_timeout(seconds)


BROKEN = """
pool.start([-1, -1, -1], [0, 0, 0])
pool.set_timeout(0.3)
begin = time.monotonic()
for attempt in range(2):
    try:
        fault({fault}, 2, 3, 30.0)
    except WorkerFailed as error:
        print(error)
print(time.monotonic() - begin < 20)
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (3, "the thread of worker 2 of the pool ended within a job"),
        (4, "worker 2 of the thread pool did not answer in time"),
    ],
    ids=["ended", "stalled"],
)
def test_a_lost_worker_is_an_error_now_and_at_once_ever_after(fault, said):
    run = in_python(BROKEN.format(fault=fault))
    assert run.returncode == 0, run.stderr
    first, second, in_time = run.stdout.splitlines()
    assert first == second
    assert first.startswith(said)
    assert "start the program again" in first
    assert in_time == "True"


INTERRUPTED = """
pool.start([-1, -1], [0, 0])
begin = time.monotonic()
try:
    print("started", flush=True)
    fault(4, 1, 2, 2.5)
    time.sleep(60)
except KeyboardInterrupt:
    print(time.monotonic() - begin >= 2.5)
fault(0, 0, 2, 0.0)
"""


@pytest.mark.skipif(os.name != "posix", reason="no signals on this system")
def test_an_interrupt_during_a_job_arrives_after_it_and_the_program_ends_well():
    with subprocess.Popen(
        [sys.executable, "-c", OPENING + INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout.readline() == "started\n"
        time.sleep(1.0)  # into the job
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=30)[0] == "True\n"
        assert running.returncode == 0


FORKED = """
import multiprocessing

def child(queue):
    fault(0, 0, 3, 0.0)
    queue.put((pool.threads(), len(os.listdir("/proc/self/task"))))

pool.start([-1, -1, -1], [0, 0, 0])
fault(0, 0, 3, 0.0)
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=child, args=(queue,))
process.start()
print(*queue.get())
process.join()
fault(0, 0, 3, 0.0)
sys.exit(process.exitcode)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_a_forked_child_gets_workers_of_its_own():
    # Python warns of a fork with threads; here that is what is tried.
    run = in_python(FORKED, env={**os.environ, "PYTHONWARNINGS": "", "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == "3"


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_program_ends_while_its_workers_wait(ending):
    code = "pool.start([-1] * 4, [0] * 4)\nfault(0, 0, 4, 0.0)\n" + ending
    expected = {"": 0, "sys.exit(3)": 3}.get(ending, -signal.SIGTERM)
    assert in_python(code).returncode == expected


ENDS_BESIDE_A_CALLER = """
import threading

def call():
    while True:
        fault(0, 0, 3, 0.0)

pool.start([-1, -1, -1], [0, 0, 0])
threading.Thread(target=call, daemon=True).start()
time.sleep(0.3)
"""


def test_a_program_ends_while_another_thread_runs_jobs():
    run = in_python(ENDS_BESIDE_A_CALLER)
    assert (run.returncode, run.stderr) == (0, "")
