"""The host's figures from trees of /sys and /proc that the test writes."""

import mmap
from types import SimpleNamespace

import pytest

from hybrid.live.snapshot import HostView
from hybrid.live.sources.host import HUGE_EVERY_S, HostSource, load_psutil
from hybrid.live.sources.readings import NodeReading

MIB = 1 << 20


class Times(tuple):
    """As psutil's: fields by place and by name."""

    __slots__ = ()

    def __new__(cls, user, idle, iowait=0.0, guest=0.0):
        return super().__new__(cls, (user, idle, iowait, guest))

    idle = property(lambda self: self[1])
    iowait = property(lambda self: self[2])
    guest = property(lambda self: self[3])


class Psutil:
    Error = type("Error", (Exception,), {})

    def __init__(self, *cores):
        self.cores = list(cores)

    def cpu_times(self, percpu):
        assert percpu
        return self.cores


@pytest.fixture
def proc(tmp_path):
    own = tmp_path / "proc" / "self"
    own.mkdir(parents=True)
    (own / "stat").write_text("12 (a name) with) S 1 1 1 0 -1 0 5 0 77 0 9 9\n")
    (own / "statm").write_text("1000 250 30 1 0 200 0\n")
    (own / "io").write_text("rchar: 5\nwchar: 6\nread_bytes: 4096\nwrite_bytes: 1\n")
    (own / "smaps_rollup").write_text(
        "00400000-7fff0000 ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\n"
        "AnonHugePages:      2048 kB\nShmemPmdMapped:        0 kB\nPrivate_Hugetlb:    1024 kB\n"
    )
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal: 1024 kB\nMemFree: 100 kB\nMemAvailable: 624 kB\n"
    )
    return tmp_path / "proc"


@pytest.fixture
def sysfs(tmp_path):
    for node, free in ((0, 512), (1, 256)):
        folder = tmp_path / "sys/devices/system/node" / f"node{node}"
        folder.mkdir(parents=True)
        (folder / "meminfo").write_text(
            f"Node {node} MemTotal: 1024 kB\nNode {node} MemFree: {free} kB\n"
            f"Node {node} FilePages: 200 kB\nNode {node} Shmem: 100 kB\n"
        )
    (tmp_path / "sys/devices/system/cpu").mkdir()
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-3\n")
    return tmp_path / "sys"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def source(sysfs, proc, clock, psutil=None, nodes=None, cpus=(0, 1, 2, 3)):
    nodes = {0: (0, 1), 1: (2, 3)} if nodes is None else nodes
    return HostSource(nodes, cpus, psutil, sysfs=sysfs, proc=proc, clock=clock)


def test_the_process_s_figures_come_from_proc(sysfs, proc, clock):
    view = source(sysfs, proc, clock).read().view
    assert view.resident_bytes == 250 * mmap.PAGESIZE
    assert view.major_faults == 77
    assert view.huge_bytes == 3 * MIB
    assert (view.major_faults_s, view.disc_read_bytes_s) == (None, None)  # rates come later


def test_rates_are_between_readings(sysfs, proc, clock):
    its = source(sysfs, proc, clock)
    its.read()
    clock.now += 2.0
    (proc / "self/stat").write_text("12 (a) S 1 1 1 0 -1 0 5 0 87 0 9 9\n")
    (proc / "self/io").write_text("read_bytes: 12288\n")
    view = its.read().view
    assert view.major_faults_s == pytest.approx(5.0)
    assert view.disc_read_bytes_s == pytest.approx(4096.0)


def test_ram_in_use_is_neither_free_nor_to_be_dropped(sysfs, proc, clock):
    reading = source(sysfs, proc, clock).read()
    assert reading.used_bytes == 400 << 10
    assert [reading.nodes[n].used_bytes for n in (0, 1)] == [412 << 10, 668 << 10]
    assert reading.nodes[1].total_bytes == 1024 << 10


def test_a_core_s_load_is_its_time_that_was_not_idle(sysfs, proc, clock):
    psutil = Psutil(*[Times(100.0, 100.0)] * 4)
    its = source(sysfs, proc, clock, psutil, cpus=(0, 1, 3))
    first = its.read()
    assert first.view.load_share is None
    assert first.nodes[0].core_load == ()
    psutil.cores = [
        Times(101.0, 100.0),
        Times(100.5, 100.25, iowait=0.25),
        Times(900.0, 100.0),  # not ours to use
        Times(101.0, 100.0, guest=1.0),  # a guest's second is in user already
    ]
    second = its.read()
    assert second.nodes[0].core_load == pytest.approx((1.0, 0.5))
    assert second.nodes[1].core_load == pytest.approx((1.0,))
    assert second.view.load_share == pytest.approx(2.5 / 3)


def test_loads_are_of_the_cores_that_are_online(sysfs, proc, clock):
    (sysfs / "devices/system/cpu/online").write_text("0,2-3\n")
    psutil = Psutil(*[Times(100.0, 100.0)] * 3)
    its = source(sysfs, proc, clock, psutil)
    its.read()
    psutil.cores = [Times(100.0, 101.0), Times(101.0, 100.0), Times(101.0, 101.0)]
    reading = its.read()
    assert reading.nodes[0].core_load == (0.0,)
    assert reading.nodes[1].core_load == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize("online", ["0-1\n", "0-7\n", None])
def test_cores_that_cannot_be_told_apart_have_no_load(sysfs, proc, clock, online):
    path = sysfs / "devices/system/cpu/online"
    path.unlink()
    if online is not None:
        path.write_text(online)
    psutil = Psutil(*[Times(100.0, 100.0)] * 4)
    its = source(sysfs, proc, clock, psutil)
    its.read()
    psutil.cores = [Times(101.0, 100.0)] * 4
    assert its.read().view.load_share is None


def test_clocks_that_stand_still_or_go_back_give_no_load_beyond_its_bounds(sysfs, proc, clock):
    psutil = Psutil(*[Times(100.0, 100.0)] * 4)
    its = source(sysfs, proc, clock, psutil)
    its.read()
    assert its.read().view.load_share is None
    psutil.cores = [Times(102.0, 99.0)] * 4
    assert its.read().nodes[0].core_load == (1.0, 1.0)


def test_page_tables_are_walked_seldom(sysfs, proc, clock):
    its = source(sysfs, proc, clock)
    its.read()
    (proc / "self/smaps_rollup").write_text("AnonHugePages: 4096 kB\n")
    clock.now += HUGE_EVERY_S - 1.0
    assert its.read().view.huge_bytes == 3 * MIB
    clock.now += 2.0
    assert its.read().view.huge_bytes == 4 * MIB


def test_walks_that_take_long_are_rarer_still(sysfs, proc, clock, monkeypatch):
    its = source(sysfs, proc, clock)
    real = its._proc

    class Slow:
        def __truediv__(self, name):
            if "smaps" in name:
                clock.now += 1.0
            return real / name

    its._proc = Slow()
    its.read()
    (proc / "self/smaps_rollup").write_text("AnonHugePages: 4096 kB\n")
    clock.now += 100.0
    assert its.read().view.huge_bytes == 3 * MIB
    clock.now += 150.0
    assert its.read().view.huge_bytes == 4 * MIB


def test_without_any_source_all_is_none(tmp_path, clock):
    its = source(tmp_path, tmp_path, clock, psutil=None)
    for _ in range(2):
        reading = its.read()
        clock.now += 1.0
    assert reading.view == HostView()
    assert reading.used_bytes is None
    assert reading.nodes == {0: NodeReading(), 1: NodeReading()}


def test_files_of_another_form_are_none(sysfs, proc, clock):
    for name in ("stat", "statm", "io", "smaps_rollup"):
        (proc / "self" / name).write_text("nothing\n")
    assert source(sysfs, proc, clock).read().view == HostView()


def test_a_psutil_that_fails_is_as_none(sysfs, proc, clock):

    def refused(percpu):
        raise PermissionError

    broken = SimpleNamespace(Error=Psutil.Error, cpu_times=refused)
    assert source(sysfs, proc, clock, broken).read().view.load_share is None


def test_a_host_without_listed_nodes_is_one(tmp_path, proc, clock):
    (tmp_path / "devices/system/cpu").mkdir(parents=True)
    (tmp_path / "devices/system/cpu/online").write_text("0-1\n")
    psutil = Psutil(Times(1.0, 1.0), Times(1.0, 1.0))
    its = source(tmp_path, proc, clock, psutil, nodes={}, cpus=(0, 1))
    its.read()
    psutil.cores = [Times(2.0, 1.0), Times(1.0, 2.0)]
    nodes = its.read().nodes
    assert nodes == {0: NodeReading(1024 << 10, 400 << 10, (1.0, 0.0))}


def test_this_machine_s_own_figures_are_within_reason(clock):
    psutil = load_psutil()
    assert psutil is not None
    its = HostSource({}, (0,), psutil)
    reading = its.read()
    assert reading.view.resident_bytes > MIB
    assert reading.used_bytes > MIB
