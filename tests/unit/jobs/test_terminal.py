"""What the terminal shows: short reasons in a dry run, one cause of a failure, little after Ctrl-C."""

import io
import logging
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from hooks import terminal

REASON = "Missing output files: a; Input files updated by another job: " + ", ".join(f"f{n}" for n in range(900))


@pytest.fixture
def logger(request):
    """A logger with Snakemake's handlers of a terminal and of a log file."""
    settings = {"quiet": set(), "debug_dag": False, "verbose": False, "printshellcmds": False, "dryrun": request.param}
    made = SimpleNamespace(terminal=io.StringIO(), log=io.StringIO(), logger=logging.Logger("snakemake"))
    shown = ColorizingTextHandler(stream=made.terminal, formatter=DefaultFormatter(), filter=DefaultFilter(**settings))
    kept = logging.StreamHandler(made.log)
    kept.setFormatter(DefaultFormatter())
    made.logger.addHandler(shown)
    made.logger.addHandler(kept)
    before = signal.getsignal(signal.SIGINT), sys.excepthook
    made.formatter = terminal.prepare(made.logger)
    yield made
    signal.signal(signal.SIGINT, before[0])
    sys.excepthook = before[1]


def start_job(made):
    extra = {"event": LogEvent.JOB_INFO, "jobid": 3, "rule_msg": "Fine-tuning", "reason": REASON}
    made.logger.info(None, extra=extra)


@pytest.mark.parametrize("logger", [True], indirect=True)
def test_a_dry_run_names_the_first_files_of_each_reason(logger):
    start_job(logger)
    assert "Missing output files: a; Input files updated by another job: f0" in logger.terminal.getvalue()
    assert "and 895 more" in logger.terminal.getvalue() and "f5" not in logger.terminal.getvalue()


@pytest.mark.parametrize("logger", [False], indirect=True)
def test_a_run_leaves_reasons_to_the_log(logger):
    start_job(logger)
    assert "Fine-tuning" in logger.terminal.getvalue() and "Missing" not in logger.terminal.getvalue()
    assert REASON in logger.log.getvalue()


@pytest.mark.parametrize("logger", [False], indirect=True)
def test_a_failure_has_one_cause_and_no_place_in_rule_files(logger):
    def error(text):
        logger.logger.error(text, extra={"event": LogEvent.ERROR, "exception": "x"})

    error("RuleException:\nCalledProcessError in file \"train.smk\", line 3:\nCommand 'python' returned 1.")
    error('WorkflowError in file "common.smk", line 58:\nno such file: a b\n  File "common.smk", line 74, in <module>')
    bug = 'Traceback (most recent call last):\n  File "api.py", line 3, in <module>\nOSError: busy'
    error(bug)
    job = {"jobid": 3, "rule_name": "train", "rule_msg": None, "log": ["logs/a.log"], "input": ["f"], "output": ["g"]}
    extra = {"event": LogEvent.JOB_ERROR, "conda_env": None, "shellcmd": None, "aux": {}, "indent": False}
    logger.logger.error(None, extra=extra | job)
    first, *traceback, _, last = logger.terminal.getvalue().splitlines()
    assert (first, last) == ("no such file: a b", "Error in rule train, log: logs/a.log")
    assert traceback == bug.splitlines()
    assert all(part in logger.log.getvalue() for part in ("CalledProcessError", "common.smk", "output: g"))


@pytest.mark.parametrize(("logger", "told"), [(False, "\nno record of train"), (True, "")], indirect=["logger"])
def test_where_nothing_is_to_be_done_a_run_warns_of_lost_records_as_snakemakes_dry_run_does(logger, told):
    logger.formatter.unrecorded = lambda: "no record of train"
    logger.logger.info("Nothing to be done (all requested files are present and up to date).")
    assert logger.terminal.getvalue().strip().endswith(f"up to date).{told}")


@pytest.mark.parametrize("logger", [False], indirect=True)
def test_after_ctrl_c_errors_are_in_the_log_only(logger):
    with pytest.raises(KeyboardInterrupt):
        logger.formatter.on_interrupt(signal.SIGINT, None)
    logger.formatter.on_interrupt(signal.SIGINT, None)  # the second is for the jobs
    logger.logger.error("RuleException", extra={"event": LogEvent.ERROR, "exception": "RuleException"})
    assert logger.terminal.getvalue() == "" and "RuleException" in logger.log.getvalue()


def test_ctrl_c_before_the_first_job_prints_one_line():
    code = (
        "import logging, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from hooks import terminal\n"
        "terminal.prepare(logging.getLogger())\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True)
    assert done.returncode == -signal.SIGINT and done.stderr == b"Stopped by Ctrl-C.\n"
