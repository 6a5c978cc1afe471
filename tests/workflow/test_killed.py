"""A run elsewhere, under other circumstances and killed on its way, ends with the bytes of an undisturbed one."""

import random

from chain import Project
from killing import SEED, Moment, from_nothing, killed, leftovers, results_of

TARGET = "results/small/seed-1/mills/validation/n_best/metrics.json"
ABROAD = {"LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "77"}


def test_killed_three_times_elsewhere_it_ends_with_the_same_bytes(finished, tmp_path):
    whole, draw = results_of(finished), random.Random(SEED)
    there = from_nothing(finished, tmp_path / "Größe und Maß")
    project = Project(there.folder, [*finished.prefix, "sh", "-c", 'umask 077; exec "$0" "$@"'])
    moments = [
        Moment("train", operation=draw.randint(1, 60)),  # among them those of a checkpoint, and of the final model
        Moment("snakemake", operation=draw.randint(8, 20)),
        Moment("predict", draw.uniform(0, 2)),
    ]
    print(moments)
    for moment in moments:
        assert killed(project, moment, TARGET)
        if moment is moments[0]:
            refused = project.snakemake(TARGET)
            assert refused.returncode == 1 and "cannot be locked" in refused.stdout and "--unlock" in refused.stdout
        assert not there.path(TARGET).exists()
        assert project.snakemake("--unlock").returncode == 0
    done = project.snakemake(TARGET, **ABROAD)
    assert done.returncode == 0, done.stdout
    found = results_of(there)
    assert {TARGET, "results/small/seed-1/model/model.safetensors", "results/small/seed-1/manifest.json"} < found.keys()
    assert found == {name: whole[name] for name in found} and not leftovers(there)
    private = [path for folder in ("results", "resources") for path in there.path(folder).rglob("*")]
    assert private and not any(path.stat().st_mode & 0o077 for path in private)
