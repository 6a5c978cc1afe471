"""What make refuses before it changes anything."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_folder_with_a_space_in_its_path_is_refused_before_anything_is_installed(tmp_path):
    folder = tmp_path / "a b"
    shutil.copytree(ROOT / "envs", folder / "envs")
    for file in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / file, folder)
    # a Python that fails: make must not even have asked for its version
    command = ["make", "--no-print-directory", "setup", "PYTHON=false"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    message = f"Snakemake cannot start Python from a path with a space: move this folder, {folder}\n"
    assert (done.returncode, done.stdout) == (2, message)
    assert not (folder / ".venv").exists()
