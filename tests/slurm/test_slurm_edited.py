"""A configuration that is edited while its jobs wait in SLURM's queue."""

import json

from chain import CONFIG
from cluster import PATIENCE, wait_for


def test_jobs_that_start_after_an_edit_have_the_settings_with_which_they_were_queued(project):
    with project.running("results/other/seed-1/manifest.json") as snakemake:
        wait_for(lambda: project.jobs("tokenize_and_label") or snakemake.poll() is not None, "a first job")
        project.configure(CONFIG | {"defaults": {**CONFIG["defaults"], "training": {"max_steps": 3, "batch_size": 4}}})
        assert snakemake.wait(PATIENCE) == 0, project.printed()
    settings = json.loads(project.path("results/other/seed-1/manifest.json").read_text())["settings"]
    assert settings["max_steps"] == CONFIG["defaults"]["training"]["max_steps"]
    assert project.would_run(CONFIG, "results/other/seed-1/manifest.json") == set()
