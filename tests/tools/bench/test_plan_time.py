"""The bench of `hybrid plan`: what it starts, and what it says last."""

import json

from tools.bench.plan_time import GPUS, dearest_imports, main, plan_words


def test_it_times_a_plan_of_deepseek_r1_on_sixteen_gpus(capsys):
    main(["--runs", "1", "--", "-ot", "exps=CPU"])
    lines = capsys.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    assert (last["bench"], last["gpus"]) == ("plan_time", GPUS)
    assert 0 < last["median_s"]["as given"] < 10
    assert any(line.startswith("as given") for line in lines)


def test_the_dearest_imports_come_first(tmp_path):
    rows = dearest_imports(["-c", "import json"])
    assert rows == sorted(rows, reverse=True)
    assert all(own_us >= 0 and name for own_us, name in rows)


def test_its_machine_has_as_many_gpus(tmp_path):
    words = plan_words(tmp_path / "r1.gguf", ("--json",))
    sizes = words[words.index("--simulate") + 1]
    assert len(sizes.split(",")) == GPUS
    assert words[-1] == "--json"
