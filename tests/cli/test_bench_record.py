"""The same for machines: JSON and CSV."""

import csv
import io
import json

from hybrid.cli.bench_record import COMMON, CSV_COLUMNS, FACTS
from tests.cli.bench_results import measured


def test_json_has_every_field_whatever_was_loaded():
    found = json.loads(json.dumps(measured().record()))
    assert {*COMMON, "schema", "version", "interrupted", "ram_read_gb_s"} <= set(found)
    assert found["model"] == {"path": "model.gguf"}
    assert [run["placement"] for run in found["placements"]] == [1, 2, 3]
    for run in found["placements"]:
        assert {*FACTS, "rules", "error"} <= set(run)
    assert found["placements"][2]["error"] == {
        "cause": "too large",
        "details": ["1 GiB is free"],
        "remedies": ["a smaller -c"],
    }
    assert [test["placement"] for test in found["tests"]] == [1, 2, 1, 2, 1, 2, 1]


def test_csv_has_a_line_for_each_test_and_each_failure():
    text = measured().csv_text()
    assert text.splitlines()[0] == ",".join(CSV_COLUMNS)
    *tests, failed = csv.DictReader(io.StringIO(text))
    assert len(tests) == 7
    of_gpu = tests[3]
    assert (of_gpu["rules"], of_gpu["test"], float(of_gpu["tok_s"])) == (".*=CUDA0", "tg32", 20.0)
    assert (of_gpu["limit_memory"], of_gpu["limit_is_measured"]) == ("CUDA0", "False")
    assert (tests[0]["limit_tok_s"], tests[0]["error"]) == ("", "")
    assert (failed["placement"], failed["error"], failed["tok_s"]) == ("3", "too large", "")
