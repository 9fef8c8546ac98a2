"""What `doctor` and `plan` say about NUMA nodes."""

import json
import mmap

from hybrid.cli.policy_trials import TRIAL_BYTES, try_policies
from placement.machines.machine import Machine, NumaNode
from tests.runtime.machines import GIB, pretend_nodes

MIB = 1 << 20


def test_doctor_tries_every_policy_of_host_memory(command):
    facts = json.loads(command("doctor", "--json", "--no-measure").out)
    nodes = [n["index"] for n in facts["machine"]["numa_nodes"] if n["total_bytes"]]
    assert len(facts["memory"]) == (1 if len(nodes) < 2 else 3 + len(nodes))
    for trial in facts["memory"]:
        pages = trial["pages_per_node"]
        assert pages is None or sum(pages.values()) * mmap.PAGESIZE == TRIAL_BYTES
    assert "64.0 MiB by --numa" in command("doctor", "--no-measure").out


def test_a_policy_that_was_refused_stands_in_its_row():
    nodes = tuple(NumaNode(n, (n,), GIB, GIB) for n in (0, 1023))
    trials = try_policies(Machine((), numa_nodes=nodes), 4 * MIB)
    names = ["interleave", "shard on node0", "shard on node1023", "local", "off"]
    assert [trial.policy for trial in trials] == names
    assert "shard over node1023 not set" in trials[2].row()[-1]


def test_a_plan_says_which_node_gets_how_much(command, monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB)
    text = command("plan", "demo", "--device", "none").out
    assert "numa      interleave over 2 nodes: node0 7.0 MiB, node1 7.0 MiB\n" in text
    told = json.loads(command("plan", "demo", "--device", "none", "--numa", "local", "--json").out)
    assert told["numa"] == {"policy": "local", "node_bytes": {}}
    outcome = command("plan", "demo", "--device", "none", "--numa", "shard")
    assert "--numa shard: experts of layers 1-4 are interleaved" in outcome.err
