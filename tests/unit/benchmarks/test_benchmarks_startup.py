"""What the start-up benchmark times: real dry runs, of the demo and of nothing."""

import re

import startup_bench


def test_the_dry_run_of_the_demo_has_every_stage_and_that_of_nothing_none(tmp_path):
    full, empty = startup_bench.copies(tmp_path)
    shown = startup_bench.dry_run(full, "--configfile", "config/demo.yaml")
    rules = set(re.findall(r"^(\w+) +\d+$", shown, re.M))
    assert {"download", "prepare_questions", "tokenize_and_label", "train", "predict", "postprocess", "score"} <= rules
    assert "download" not in startup_bench.dry_run(empty)


def test_the_imports_timed_are_those_that_the_stages_do():
    for modules in startup_bench.MODULES.values():
        found = startup_bench.python(f"import {modules}, sys; print({{'torch', 'datasets'}} & set(sys.modules))")
        assert found.strip() == "set()"
