"""How the workflow stands, from records, logs and SLURM's words as they are at some moment, hostile ones too."""

import json
import os
import platform
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qa.common.files import write_json
from qa.common.progress import ProgressState
from qa.jobs import job_records, slurm, slurm_accounting, status
from qa.jobs.job_records import JobRecord

PROGRESS = ProgressState("train", 1200, 8250, "steps", 2.1, 3357.0, "33.5 samples/s, loss 1.250", "")


class Slurm:
    """Stands for SLURM's commands: what each prints, and how often each was called."""

    def __init__(self):
        self.queue, self.accounts, self.calls = "", None, []

    def ask(self, *command, **options):
        self.calls.append(command[0])
        return {"squeue": self.queue, "sacct": self.accounts}[command[0]]

    def add(self, job, state, comment, reason="None", folder=None, submitted=600, started=None, ended=None):
        times = [moment(after) if after is not None else "N/A" for after in (submitted, started, ended)]
        folder = folder or Path.cwd()
        self.queue += "|".join([job, state, *times, reason, str(folder), comment]) + "\n"


def moment(before):
    """A time so many seconds before now, as SLURM writes it."""
    return (datetime.now(UTC) - timedelta(seconds=before)).astimezone().strftime("%Y-%m-%dT%H:%M:%S")


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    """SLURM's words, free to change, and a working directory of its own."""
    cluster = Slurm()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "ask", cluster.ask)
    return cluster


def record(
    rule="train", names=("small", "seed-1"), state="running", job=None, began=300, ended=None, text="", at=None, **more
):
    """Write a record of an attempt that began so many seconds ago, its progress `at` and its log."""
    keys = ("run", "variant", "dataset", "split", "decoding")
    log = Path("logs", rule, *names).with_suffix(".log")
    now = datetime.now(UTC)
    started = now - timedelta(seconds=began)
    end = None if ended is None else (now - timedelta(seconds=ended)).isoformat()
    made = JobRecord(rule, dict(zip(keys, names, strict=False)), str(log), started.isoformat(), state, end)
    made.node, made.process = platform.node(), job_records._process(os.getpid())
    made.slurm = {"job": job} if job else {}
    if job:
        made.node = "gpu1"
    for name, value in more.items():
        setattr(made, name, value)
    write_json(job_records.path_of(made), asdict(made))
    if at:
        written = at.written or now.isoformat()
        write_json(job_records.progress_file(made), asdict(replace(at, written=written)))
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def told(capsys, *arguments):
    assert status.main([*arguments]) == 0
    return capsys.readouterr().out


def only_job():
    ((job,), _) = status.status()
    return job


def test_where_nothing_ran_it_says_so_in_one_line_and_asks_nobody(cluster, capsys):
    assert told(capsys) == "no job has begun or is queued here\n"
    assert cluster.calls == []


def test_a_local_job_at_work_shows_its_progress_process_and_log(cluster, capsys):
    record(at=PROGRESS)
    lines = told(capsys).splitlines()
    assert lines[0] == "1 running, 0 queued, 0 failed, 0 completed"
    assert lines[3].split()[:5] == ["train", "small", "seed-1", "running", "process"]
    assert lines[3].split()[5] == str(os.getpid()) and " 5 min" in lines[3]
    assert lines[4] == "    1,200/8,250 steps, 2.1 steps/s, 55 min 57 s left, 33.5 samples/s, loss 1.250"
    assert lines[5] == "    log: logs/train/small/seed-1.log" and len(lines) == 6
    assert cluster.calls == []


def test_progress_of_another_part_keeps_its_name_and_an_old_line_its_age(capsys):
    written = (datetime.now(UTC) - timedelta(seconds=200)).isoformat()
    record(at=replace(PROGRESS, label="validate", written=written))
    assert "    validate: 1,200/8,250 steps" in (text := told(capsys)) and "(3 min ago)" in text


def test_a_job_whose_process_has_gone_is_killed_and_its_last_lines_are_shown(capsys):
    record(process="1:1", text="10:00:00 train: INFO training\n", at=PROGRESS)
    text = told(capsys)
    assert (
        "0 running, 0 queued, 1 failed" in text and "killed" in text and "      | 10:00:00 train: INFO training" in text
    )


def test_a_job_of_another_machine_without_slurm_is_running_with_a_question_mark():
    record(node="elsewhere")
    assert only_job().state == "running?" and only_job().group == "running"


def test_of_a_traceback_only_the_error_and_its_place_are_shown(capsys):
    trace = "Traceback (most recent call last):\n" + "".join(
        f'  File "/x/{n}.py", line {n}, in f\n    g()\n' for n in range(30)
    )
    record(
        state="failed", ended=60, text=f"10:00:01 train: ERROR RuntimeError: no luck\n{trace}RuntimeError: no luck\n"
    )
    shown = [line.strip() for line in told(capsys).splitlines() if line.startswith("      |")]
    assert shown == [
        "| 10:00:01 train: ERROR RuntimeError: no luck",
        '|   File "/x/29.py", line 29, in f',
        "|     g()",
        "| RuntimeError: no luck",
    ]


def test_finished_jobs_have_a_line_a_stage_and_with_all_one_each(capsys):
    for seed in (1, 2, 3):
        record("train", ("small", f"seed-{seed}"), "completed", began=400, ended=100 * seed)
    record("score", ("small", "seed-1", "mills", "validation", "n_best"), "completed", began=50, ended=49)
    lines = told(capsys).splitlines()
    assert lines[0] == "0 running, 0 queued, 0 failed, 4 completed" and lines[2].split()[0] == "done"
    assert [line.split()[:4] for line in lines[3:]] == [["train", "3", "5", "min"], ["score", "1", "1", "s"]]
    listed = told(capsys, "--all").splitlines()
    assert sum(line.startswith("train  small  seed-") for line in listed) == 3 and len(listed) == 7
    assert any(line.split()[:4] == ["score", "small", "seed-1", "mills/validation/n_best"] for line in listed)


def test_only_the_last_attempt_counts(capsys):
    record(state="failed", began=900, ended=800, text="no luck\n")
    record(state="completed", began=300, ended=200)
    assert told(capsys).startswith("0 running, 0 queued, 0 failed, 1 completed")


def test_a_slurm_job_at_work_shows_its_number_and_costs_one_call(cluster, capsys):
    record(job="12", at=PROGRESS)
    cluster.add("12", "RUNNING", "rule_train_wildcards_small_seed-1", started=310)
    text = told(capsys)
    assert "running  SLURM 12" in text and "1,200/8,250 steps" in text and text.startswith("1 running")
    assert cluster.calls == ["squeue"]


def test_a_job_that_waits_is_named_by_its_comment_with_slurms_reason(cluster, capsys):
    Path("logs/slurm").mkdir(parents=True)
    cluster.add("13", "PENDING", "rule_train_wildcards_my_run_seed-2", "Priority")
    cluster.add("14", "PENDING", "rule_predict_wildcards_r_seed-2_mills_validation", "Resources")
    cluster.add("15", "PENDING", "rule_tokenize_and_label_wildcards_mills_train_two-eb683d43", "Dependency")
    cluster.add("16", "PENDING", "something of the user's own", folder="/elsewhere")
    lines = [" ".join(line.split()) for line in told(capsys).splitlines()]
    assert lines[0] == "0 running, 3 queued, 0 failed, 0 completed"
    assert lines[3].startswith("train my_run seed-2 queued (Priority) SLURM 13 10 min")
    assert lines[4].startswith("predict r seed-2 mills_validation queued (Resources) SLURM 14")
    assert lines[5].startswith("tokenize_and_label mills_train_two-eb683d43 queued (Dependency) SLURM 15")


def test_a_next_attempt_in_the_queue_stands_for_the_job_in_place_of_the_one_before(cluster):
    record("predict", ("small", "seed-1", "mills", "validation"), "interrupted", "12", 4000, 500)
    cluster.add("12", "FAILED", "rule_predict_wildcards_small_seed-1_mills_validation", started=4000, ended=500)
    cluster.add("17", "PENDING", "rule_predict_wildcards_small_seed-1_mills_validation", "Priority", submitted=400)
    job = only_job()
    assert (job.state, job.slurm_job, job.item, job.reason) == ("queued", "17", "mills/validation", "Priority")


def test_a_requeued_job_is_queued_and_then_starting_until_it_has_a_record(cluster):
    record(job="12", began=4000)
    cluster.add("12", "PENDING", "rule_train_wildcards_small_seed-1", "BeginTime", submitted=400)
    assert (only_job().state, only_job().slurm_job) == ("queued", "12")
    cluster.queue = ""
    cluster.add("12", "RUNNING", "rule_train_wildcards_small_seed-1", submitted=400, started=5)
    assert only_job().state == "starting"
    cluster.queue = ""
    cluster.add("12", "RUNNING", "rule_train_wildcards_small_seed-1", submitted=400, started=30)
    record(job="12", began=20)
    assert only_job().state == "running"


def test_a_job_that_ended_before_its_stage_began_shows_slurms_log(cluster, capsys):
    log = Path("logs/slurm/rule_train/small_seed-1/18.log")
    log.parent.mkdir(parents=True)
    log.write_text("ModuleNotFoundError: No module named 'qa'\n")
    cluster.add("18", "FAILED", "rule_train_wildcards_small_seed-1", started=100, ended=90)
    text = told(capsys)
    assert "FAILED  SLURM 18" in text and f"log: {log}" in text and "| ModuleNotFoundError" in text
    record(job="19", began=50)
    cluster.add("19", "RUNNING", "rule_train_wildcards_small_seed-1", submitted=60, started=55)
    assert only_job().state == "running"


def test_how_a_killed_job_ended_is_asked_of_accounting_by_one_call(cluster, capsys):
    record(job="12", began=300)
    record("predict", ("small", "seed-1"), job="13", began=200)
    for job, state, started in (("12", "TIMEOUT", 301), ("13", "OUT_OF_MEMORY", 201)):
        row = "|".join([job, state, moment(400), moment(started), moment(100), ""])
        cluster.accounts = f"{cluster.accounts or ''}{row}\n"
    text = told(capsys)
    assert "TIMEOUT" in text and "OUT_OF_MEMORY" in text and text.startswith("0 running, 0 queued, 2 failed")
    assert cluster.calls == ["squeue", "sacct"]


def test_many_jobs_cost_no_more_calls(cluster):
    for seed in range(300):
        record(names=("small", f"seed-{seed}"), job=str(100 + seed))
    cluster.accounts = ""
    status.status()
    assert cluster.calls == ["squeue", "sacct"]
    assert len(status._starts([str(n) for n in range(300)], [])) == 0


def test_while_slurm_does_not_answer_states_are_unknown_and_that_is_said(cluster, capsys):
    record(job="12", at=PROGRESS)
    cluster.queue = None
    text = told(capsys)
    assert "squeue does not answer" in text.splitlines()[0] and "unknown" in text and "1,200/8,250 steps" in text
    assert cluster.calls == ["squeue"]


ODD = ["", "12", "12|RUNNING|N/A|N/A", "|||||||", "12|PENDING|N/A|N/A|N/A|None||c", "a|b|c|d|e|f|g|h"]


@pytest.mark.parametrize("line", ODD)
def test_a_cut_or_strange_answer_of_squeue_is_left_out(line, cluster, capsys):
    Path("logs/slurm").mkdir(parents=True)
    cluster.queue = line
    assert told(capsys) == "no job has begun or is queued here\n"


HOSTILE = {
    "half": '{"rule": "tr',
    "empty": "",
    "list": "[1]",
    "deep": "[" * 100_000,
    "types": {"rule": 5},
    "wildcards": {"wildcards": ["small"]},
    "values": {"wildcards": {"run": {"a": 1}}},
    "time": {"started": "2026-11-22T22:21:50"},
    "end": {"ended": "yesterday"},
    "process": {"process": "x"},
    "slurm": {"slurm": {"job": 5}},
    "asked": {"asked": [1]},
    "log": {"log": "/etc/passwd"},
    "nothing": {"log": ""},
    "climbing": {"log": "logs/../../secret.log"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_that_is_none_is_skipped_and_the_others_are_shown(name, capsys, caplog):
    record(at=PROGRESS)
    (good,) = job_records.FOLDER.rglob("*.json")
    value = HOSTILE[name]
    text = value if isinstance(value, str) else json.dumps(json.loads(good.read_text()) | value)
    good.with_name(f"{name}.json").write_text(text)
    assert told(capsys).splitlines()[0] == "1 running, 0 queued, 0 failed, 0 completed"
    assert f"{name}.json: no record of a job" in caplog.text


def test_names_and_logs_cannot_steer_the_terminal(cluster, capsys):
    evil = "\x1b[2J\x1b]0;title\x07 bars:  10%|█ \r 20%|██ \x00" + "x" * 500
    record("train", ("run-" + "y" * 90, "seed-1"), "failed", ended=9, text=f"{evil}\n")
    record("predict", ("a\x1b[31mb", "seed-1", "d" * 70, "s" * 70), "failed", ended=8)
    Path("logs/slurm").mkdir(parents=True)
    cluster.add("12" * 20, "PENDING", "rule_\x1b[31m" + "z" * 300, "r" * 200)
    text = told(capsys, "--all")
    assert all(line.isprintable() for line in text.split("\n"))
    assert "█" in text and "[2J" not in text


def test_of_many_failures_the_latest_are_shown_and_a_few_explained(capsys):
    for seed in range(60):
        record(names=("small", f"seed-{seed}"), state="failed", ended=100 + seed, text=f"no luck {seed}\n")
    text = told(capsys)
    assert text.startswith("0 running, 0 queued, 60 failed") and "and 40 more that failed: --all" in text
    assert [f"| no luck {seed}\n" in text for seed in (0, 3, 4)] == [True, True, False]
    assert "seed-59 " not in text and "seed-59 " in told(capsys, "--all")


def test_json_tells_all_of_each_job(cluster, capsys):
    record(job="12", at=PROGRESS)
    record("score", ("small", "seed-1", "mills", "validation", "n_best"), "completed", began=50, ended=40)
    cluster.add("12", "RUNNING", "rule_train_wildcards_small_seed-1", started=310)
    found = json.loads(told(capsys, "--json"))
    running, done = sorted(found["jobs"], key=lambda job: job["group"], reverse=True)
    assert (running["stage"], running["run"], running["variant"], running["state"]) == (
        "train",
        "small",
        "seed-1",
        "running",
    )
    assert running["slurm_job"] == "12" and running["log"] == "logs/train/small/seed-1.log"
    assert running["progress"]["done"] == 1200 and running["progress"]["seconds_left"] == 3357.0
    assert (done["group"], done["item"], round(done["seconds"])) == ("completed", "mills/validation/n_best", 10)
    assert found["hindrance"] == "" and slurm_accounting.moment(moment(1)) is not None
