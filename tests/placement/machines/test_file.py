"""Machine files: read strictly, written so that they read the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from placement.errors import RequestError
from placement.machines.choice import described_machine
from placement.machines.estimates import with_contexts
from placement.machines.file import machine_text, read_machine, size_text
from placement.machines.host import SYSTEM_BYTES
from placement.machines.machine import ASSUMED, CPU, Device, DeviceKind, Link, Machine, NumaNode
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds

GIB = 1 << 30
SMALL = '[host]\nram = "64GiB"\n'
RIG = """
about = "two cards"
[host]
cpu = "AMD Ryzen 9 5950X"
cores = 16
threads = 32
ram = "128GiB"
free_ram = "100GiB"
[host.speeds]
read_gb_s = 40
by_threads = [[1, 20.5], [16, 40]]
[[gpu]]
name = "NVIDIA GeForce RTX 3090"
count = 2
memory = "24GiB"
free_memory = "23GiB"
compute_capability = "8.6"
pcie_generation = 4
pcie_width = 8
[[gpu]]
name = "NVIDIA L4"
memory = 24_000_000_000
[gpu.speeds]
copy_gb_s = 270.0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rig.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_into_a_machine(tmp_path: Path) -> None:
    machine = read_machine(written(tmp_path, RIG))
    assert machine.device_names == ("CPU", "CUDA0", "CUDA1", "CUDA2")
    assert (machine.host.total_bytes, machine.host.free_bytes) == (128 * GIB, 100 * GIB)
    assert (machine.physical_cores, machine.usable_cpus) == (16, 32)
    assert [gpu.free_bytes for gpu in machine.gpus] == [23 * GIB, 23 * GIB, 24_000_000_000]
    assert all(gpu.kind is DeviceKind.GPU for gpu in machine.gpus)
    assert machine.links[1] == Link("CUDA1", 4, 8, 4, 8)
    assert machine.links[2] == Link("CUDA2", None, None)
    assert machine.numa_nodes == (NumaNode(0, tuple(range(32)), 128 * GIB, 100 * GIB),)


def test_given_speeds_stand_and_the_others_are_estimated(tmp_path: Path) -> None:
    speeds = read_machine(written(tmp_path, RIG)).speeds
    assert speeds is not None
    assert speeds.source == "rig.toml, partly estimated"
    assert speeds.host.read_gb_s == 40.0
    assert speeds.host.by_threads == ((1, 20.5), (16, 40.0))
    assert speeds.gpus["CUDA2"].copy_gb_s == 270.0
    assert speeds.gpus["CUDA0"].copy_gb_s == pytest.approx(0.88 * 936)
    assert speeds.gpus["CUDA0"].to_gpu_gb_s == pytest.approx(12.5)


def test_the_least_file_has_usual_values(tmp_path: Path) -> None:
    machine = read_machine(written(tmp_path, SMALL))
    assert machine.gpus == ()
    assert machine.host.free_bytes == 64 * GIB - SYSTEM_BYTES
    assert (machine.physical_cores, machine.usable_cpus) == (1, 1)
    assert machine.speeds is not None
    assert machine.speeds.source == "rig.toml, estimated"


def test_two_nodes_have_even_parts_unless_they_say_otherwise(tmp_path: Path) -> None:
    text = '[host]\nram = "64GiB"\ncores = 4\nthreads = 8\n[[host.node]]\n[[host.node]]\n'
    first, second = read_machine(written(tmp_path, text)).numa_nodes
    assert (first.cpus, second.cpus) == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert first.total_bytes == second.total_bytes == 32 * GIB
    assert first.free_bytes == 30 * GIB
    uneven = text.replace("[[host.node]]\n", '[[host.node]]\nram = "48GiB"\ncpus = "0-1,6"\n', 1)
    first, second = read_machine(written(tmp_path, uneven)).numa_nodes
    assert (first.total_bytes, first.cpus) == (48 * GIB, (0, 1, 6))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("host: ram is missing", 'ram = "128GiB"')),
        ('[host]\nram = "64 GX"\n', ("host: ram is '64 GX'", "64MiB")),
        ('[host]\nram = "-1GiB"\n', ("host: ram is '-1GiB'",)),
        ("[host]\nram = 1.5\n", ("host: ram is 1.5",)),
        ("[host]\nram = true\n", ("host: ram is True",)),
        (SMALL + 'free_ram = "65GiB"\n', ("free_ram is '65GiB'", "64.0 GiB")),
        ("[host]\nram = 128\n", ("host: ram is 128", 'ram = "128GiB"')),
        ('[host]\nram = "128"\n', ("host: ram is '128'", 'ram = "128GiB"', "128B")),
        (SMALL + "[[gpu]]\nmemory = 24\n", ("gpu 1: memory is 24", 'memory = "24GiB"')),
        (
            SMALL + '[[host.node]]\nram = "48GiB"\n[[host.node]]\nram = "48GiB"\n',
            ("node 2: ram is '48GiB'", "64.0 GiB"),
        ),
        (
            SMALL + 'cores = 4\n[[host.node]]\ncpus = "0-4"\n',
            ("node 1: cpus is '0-4'", "0 to 3"),
        ),
        (
            SMALL + 'cores = 4\n[[host.node]]\ncpus = "0-2"\n[[host.node]]\ncpus = "2-3"\n',
            ("node 2: cpus is '2-3'", "CPU 2"),
        ),
        (SMALL + "cores = 0\n", ("host: cores is 0", "from 1 to")),
        (SMALL + 'cores = "16"\n', ("host: cores is '16'", "cores = 16")),
        (SMALL + "rams = 1\n", ("unknown key 'rams'", "did you mean ram?")),
        (SMALL + "[hosts]\n", ("unknown key 'hosts'", "did you mean host?")),
        (SMALL + "[host.speeds]\nread_gbs = 4\n", ("host: speeds", "did you mean read_gb_s?")),
        (SMALL + "[host.speeds]\nread_gb_s = -4\n", ("read_gb_s is -4", "above 0")),
        (SMALL + "[host.speeds]\nread_gb_s = nan\n", ("read_gb_s is nan",)),
        (SMALL + "[host.speeds]\nproduct_share = 93\n", ("product_share is 93", "at most 1.5")),
        (SMALL + "[host.speeds]\nby_threads = [[1]]\n", ("by_threads is [[1]]", "[[1, 16.0]")),
        (SMALL + "[host.speeds]\ncopy_gb_s = 4\n", ("unknown key 'copy_gb_s'",)),
        (
            SMALL + "disk_gb_s = 6.5\n",
            ("host: unknown key 'disk_gb_s'", "move the line to [host.speeds]"),
        ),
        (
            SMALL + "[speeds]\nread_gb_s = 40\n",
            ("speeds: unknown key 'read_gb_s'", "move the line to [host.speeds]"),
        ),
        ("by_threads = [[1, 16.0]]\n" + SMALL, ("move the line to [host.speeds]",)),
        (SMALL + "to_gpu_gb_s = 25\n", ("move the line to [gpu.speeds]",)),
        (
            SMALL + '[[gpu]]\nmemory = "1GiB"\nproduct_share = 0.9\n',
            ("gpu 1: unknown key 'product_share'", "[host.speeds] or [gpu.speeds]"),
        ),
        (SMALL + "[[gpu]]\n", ("gpu 1: memory is missing", 'memory = "24GiB"')),
        (SMALL + "[gpu]\n", ("gpu is {}", "[[gpu]]")),
        (
            SMALL + '[[gpu]]\nmemory = "1GiB"\n[[gpu]]\nmemory = "24GiB"\nfree_memory = "25GiB"\n',
            ("gpu 2: free_memory is '25GiB'",),
        ),
        (SMALL + '[[gpu]]\nmemory = "1GiB"\ncount = 0\n', ("count is 0",)),
        (SMALL + '[[gpu]]\nmemory = "1GiB"\ncount = 65\n', ("count is 65",)),
        (SMALL + '[[gpu]]\nmemory = "1GiB"\nnode = 1\n', ("node is 1", "from 0 to 0")),
        (SMALL + '[[gpu]]\nmemory = "1GiB"\ncompute_capability = 8.6\n', ("is 8.6", '"..."')),
        (SMALL + '[[gpu]]\nmemory = "1GiB"\ncompute_capability = "x"\n', ("is 'x'", '"8.6"')),
        (SMALL + '[[host.node]]\ncpus = "a-b"\n', ("node 1: cpus is 'a-b'", "0-31")),
        (SMALL + '[[host.node]]\ncpus = ""\n', ("node 1: cpus is ''", "some node with CPUs")),
        (SMALL + "[speeds]\nerror = 2\n", ("speeds: error is 2", "at most 1")),
        ("host = 5\n", ("host is 5", "[host]")),
        ("this is no toml", ("cannot be read as a machine file",)),
        ("a = 1\na = 2\n", ("cannot be read as a machine file",)),
    ],
)
def test_a_mistake_is_one_error_with_key_value_and_remedy(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(RequestError) as raised:
        read_machine(written(tmp_path, text))
    assert [word for word in words if word not in str(raised.value)] == []
    assert "rig.toml" in str(raised.value)
    assert raised.value.remedies


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * (2 << 20), b"[" * 100_000])
def test_what_is_no_text_or_too_large_or_too_deep_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "rig.toml").write_bytes(content)
    with pytest.raises(RequestError, match="cannot be read"):
        read_machine(tmp_path / "rig.toml")
    with pytest.raises(RequestError, match="cannot be read"):
        read_machine(tmp_path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_machine(tmp_path / "nothing.toml")


def a_machine() -> Machine:
    host = Device(CPU, DeviceKind.CPU, 64 * GIB + 4096, 60 * GIB + 1, 'Zen "5"\\ \u00fc\t')
    gpu = Device(
        "CUDA0",
        DeviceKind.GPU,
        24564 << 20,
        0,
        "NVIDIA GeForce RTX 4090",
        numa_node=1,
        compute_capability="8.9",
    )
    nodes = (
        NumaNode(0, (0, 1, 4, 5), 32 * GIB, 31 * GIB),
        NumaNode(1, (2, 3, 6, 7), 32 * GIB + 4096, 29 * GIB + 1),
    )
    speeds = MachineSpeeds(
        HostSpeeds(40.25, 0.91, 0.5, 12.0, 150.0, ((1, 16.0), (4, 40.25)), ((0, 20.0), (1, 21.0))),
        {
            "CUDA0": GpuSpeeds(
                900.5, 0.7, 0.4, 130.0, 60.0, 20.0, 1500.0, 25.0, 26.0, 24.0, 9.0, 33.0
            )
        },
        "measured 2026-11-21",
        0.15,
    )
    links = (Link("CUDA0", 4, 16, 4, 16),)
    return Machine((host, gpu), links, nodes, 4, 8, speeds=speeds)


def test_what_is_written_reads_the_same(tmp_path: Path) -> None:
    machine = a_machine()
    read = read_machine(written(tmp_path, machine_text(machine, "of a test")))
    assert replace(read, findings=()) == with_contexts(machine)
    assert read.findings[0].value == "of a test"
    again = machine_text(read, "of a test")
    assert again == machine_text(machine, "of a test")


def test_torchs_build_is_written_where_it_counts(tmp_path: Path) -> None:
    host = a_machine().host
    for_cuda = Machine((replace(host, cuda_torch=True),), physical_cores=4, usable_cpus=8)
    assert read_machine(written(tmp_path, machine_text(for_cuda, "a"))).host.cuda_torch is True
    assert "cuda_torch" not in machine_text(replace(for_cuda, devices=(host,)), "b")
    wrong = '[host]\nram = "8GiB"\ncuda_torch = "13.0"\n'
    with pytest.raises(RequestError, match="cuda_torch"):
        read_machine(written(tmp_path, wrong))


def test_a_machine_without_speeds_and_nodes_is_written_too(tmp_path: Path) -> None:
    bare = Machine((a_machine().host,), physical_cores=4, usable_cpus=8)
    text = machine_text(bare, "bare")
    assert "speeds" not in text
    read = read_machine(written(tmp_path, text))
    assert read.host == bare.host
    assert read.usable_cpus == 8


def test_sizes_are_written_exactly() -> None:
    assert [size_text(n) for n in (24 * GIB, 24564 << 20, 1025 << 10, 1001)] == [
        "24GiB",
        "24564MiB",
        "1025KiB",
        "1001B",
    ]


def test_plain_bytes_of_a_whole_size_are_taken(tmp_path: Path) -> None:
    assert read_machine(written(tmp_path, f"[host]\nram = {8 * GIB}\n")).host.total_bytes == 8 * GIB
    few = read_machine(written(tmp_path, '[host]\nram = "900MiB"\nfree_ram = 0\n')).host
    assert (few.total_bytes, few.free_bytes) == (900 << 20, 0)


@pytest.mark.parametrize(
    ("lines", "cores", "words"),
    [
        ('cpu = "AMD Ryzen 9 5950X 16-Core Processor"\nthreads = 32\n', 16, "name of its CPU"),
        ("threads = 24\n", 12, "half of its 24 threads"),
        ("", 1, "one core"),
    ],
)
def test_cores_that_a_file_does_not_give_are_told(
    tmp_path: Path, lines: str, cores: int, words: str
) -> None:
    machine = read_machine(written(tmp_path, SMALL + lines))
    assert machine.physical_cores == cores
    (told,) = [found.value for found in machine.findings if found.what == ASSUMED]
    assert f"{cores} assumed" in told
    assert words in told
    given = read_machine(written(tmp_path, SMALL + lines + "cores = 8\n"))
    assert [found for found in given.findings if found.what == ASSUMED] == []


def test_a_container_is_written_within_its_limits(tmp_path: Path) -> None:
    host = Device(CPU, DeviceKind.CPU, 16 * GIB, 15 * GIB, "Zen")
    nodes = (
        NumaNode(0, tuple(range(8)), 64 * GIB, 60 * GIB),
        NumaNode(1, tuple(range(8, 16)), 64 * GIB, 60 * GIB),
    )
    read = read_machine(written(tmp_path, machine_text(Machine((host,), (), nodes, 2, 4), "c")))
    assert [(node.cpus, node.total_bytes) for node in read.numa_nodes] == [
        ((0, 1), 8 * GIB),
        ((2, 3), 8 * GIB),
    ]


@pytest.mark.parametrize("name", ["", "  ", "."])
def test_an_empty_name_of_a_machine_is_no_file(name: str) -> None:
    with pytest.raises(RequestError, match="names no machine") as raised:
        described_machine(name)
    assert any("1x3090-desktop" in remedy for remedy in raised.value.remedies)


def test_what_nobody_measures_is_read_where_given_and_written_only_then(tmp_path: Path) -> None:
    text = SMALL + "[host.speeds]\ndisk_gb_s = 6.5\nshard_gain = 1.2\n"
    read = read_machine(written(tmp_path, text))
    assert read.speeds is not None
    assert (read.speeds.host.disk_gb_s, read.speeds.host.shard_gain) == (6.5, 1.2)
    assert "disk_gb_s = 6.5" in machine_text(read, "given")
    usual = machine_text(a_machine(), "usual")
    assert "disk_gb_s" not in usual
    assert "shard_gain" not in usual
