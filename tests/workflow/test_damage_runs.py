"""A file between the stages that was damaged since: named before it is used, and made anew. All kinds: tests/faults."""

import re
import subprocess

FOLDER = "results/small/seed-1/mills/validation/n_best"


def test_a_flipped_bit_is_named_before_use_and_the_command_told_makes_the_file_anew(twin):
    answers, metrics = (twin.path(FOLDER, name) for name in ("answers.json", "metrics.json"))
    before = answers.read_bytes(), metrics.read_bytes()
    metrics.unlink()
    answers.write_bytes(before[0][:-9] + bytes([before[0][-9] ^ 4]) + before[0][-8:])
    target = f"{FOLDER}/metrics.json"
    done = twin.snakemake(target)
    assert done.returncode == 1 and f"ERROR {FOLDER}/answers.json: answers.json has other bytes" in done.stdout
    assert not metrics.exists()
    anew = re.search(r"made anew: (rm -r .*) and run again; to take it as it is", done.stdout)[1]
    subprocess.run(anew, shell=True, cwd=twin.folder, check=True)
    done = twin.snakemake(target)
    assert done.returncode == 0, done.stdout
    assert (answers.read_bytes(), metrics.read_bytes()) == before
