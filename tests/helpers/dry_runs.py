"""Dry runs of Snakemake without its start: a process that has imported it forks one for each, as good as a new one.

Half of a dry run's time is Python's and Snakemake's own imports; the tables of what reruns when take a hundred.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SERVER = """
import json, os, sys
import snakemake.cli, snakemake.api, snakemake.workflow, snakemake.dag, snakemake.scheduling.job_scheduler

def child(folder, arguments, variables, output):
    os.chdir(folder)
    os.environ.update(variables, PWD=folder)
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1), os.dup2(stream, 2)
    sys.argv = ["snakemake", *arguments]
    code = 1
    try:
        snakemake.cli.main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    if not (process := os.fork()):
        child(**asked)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@cache
def _server() -> subprocess.Popen:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTEST_", "COV_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept, cwd="/"
    )
    atexit.register(process.kill)
    return process


def dry_run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and output of `snakemake ARGUMENTS` in a folder, with more environment variables.

    The caller gives `-n` among the arguments, or knows that no stage gets as far as to run.
    """
    server = _server()
    with tempfile.NamedTemporaryFile() as output:
        asked = {"folder": str(folder), "arguments": arguments, "variables": variables, "output": output.name}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return code, Path(output.name).read_text()
