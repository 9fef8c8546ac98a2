import json

RUN = ("run", "demo", "-p", "Once upon a time", "-n", "10", "-c", "64", "-s", "1")


def test_a_run_prints_its_audit_after_loading_and_at_the_end(command):
    outcome = command(*RUN, "--audit", "--device", "none")
    assert outcome.code == 0
    assert outcome.err.count("audit") == 2
    tables = outcome.err.split("audit")
    assert "decode @" not in tables[1]
    assert "decode @" in tables[2]
    assert "prompt @ 0" in tables[2]
    assert "CPU" in tables[2]


def test_the_audit_is_part_of_the_json(command):
    outcome = command(*RUN, "--audit", "--json", "--simulate", "CUDA0=64MiB")
    audit = json.loads(outcome.out)["audit"]
    lines = {(line["device"], line["category"]): line for line in audit["memory"]}
    for device in ("CPU", "CUDA0"):
        line = lines[device, "weights"]
        assert line["planned_bytes"] == line["actual_bytes"] > 0
    assert lines["CUDA0", "cache"]["actual_bytes"] == lines["CUDA0", "cache"]["planned_bytes"]
    assert {line["what"] for line in audit["speed"]} == {"prompt", "decode"}


def test_without_the_flag_nothing_is_audited(command):
    outcome = command(*RUN, "--json")
    assert "audit" not in json.loads(outcome.out)
    assert "audit" not in outcome.err


def test_a_bench_audits_each_test(command):
    line = ("bench", "demo", "-p", "16", "-n", "10", "-d", "0,32", "-r", "1", "--audit", "--json")
    audit = json.loads(command(*line).out.splitlines()[-1])["audit"]
    found = [(line["what"], line["depth"], line["tokens"]) for line in audit["speed"]]
    assert sorted(found) == [
        ("decode", 5, 10),
        ("decode", 37, 10),
        ("prompt", 0, 16),
        ("prompt", 32, 16),
    ]


def test_a_plan_emits_a_command_line_of_either_program(command):
    flags = ("plan", "demo", "--simulate", "CUDA0=128MiB", "-ot", "exps=CPU", "-c", "256")
    ours = command(*flags, "--emit", "llama.cpp")
    assert ours.code == 0
    assert ours.out.startswith("llama-server -m demo -ngl 6 \\\n   -ot '^blk")
    assert "-mla 3" in command(*flags, "--emit", "ik").out
    refused = command(*flags[:4], "-ot", "exps#0-3=CUDA0", "--emit", "ik")
    assert (refused.code, "cannot place experts 0-3" in refused.err) == (1, True)
