"""What a user has to keep to oneself stands in no file that the workflow writes, and others may read none of them."""

import stat
from pathlib import Path

import small_hub
from chain import CONFIG, SECRETS, copy_of
from stand_in_hub import StandInHub

WRITTEN = ("results", "logs", "checkpoints", "resources", ".snakemake")


def written(folder: Path) -> list[Path]:
    return [path for part in WRITTEN for path in (folder / part).rglob("*") if not path.is_symlink()]


def tellers(folder: Path) -> list[Path]:
    """The files that say a secret, in whatever they are written."""
    secrets = {value.encode(form) for value in SECRETS.values() for form in ("utf-8", "utf-16-le")}
    return [path for path in written(folder) if path.is_file() and any(s in path.read_bytes() for s in secrets)]


def test_neither_token_nor_address_stands_in_anything_that_a_run_writes(finished):
    files = [path for path in written(finished.folder) if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".json", ".log", ".html", ".parquet", ".csv", ".tsv", ".safetensors", ".arrow"} <= kinds
    assert tellers(finished.folder) == []
    said = finished.path("first-run.txt").read_text()
    assert not [name for name, value in SECRETS.items() if value in said]


def test_nobody_may_read_what_a_user_makes_who_lets_nobody(finished):
    own = finished.path(".snakemake")  # Snakemake gives some of its notes rights of its own, and later tests add more
    made = [path for path in written(finished.folder) if path.exists() and own not in path.parents]
    open_to_others = [path for path in made if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    assert len(made) > 100 and open_to_others == []


def test_a_hub_that_repeats_the_token_in_its_refusal_is_not_quoted(tmp_path):
    project = copy_of(tmp_path)
    body = f'{{"error": "the token {SECRETS["HF_TOKEN"]} of {SECRETS["EMAIL"]} may not"}}'.encode()
    source = {"repo": "someone/tiny", "revision": small_hub.COMMIT}
    with StandInHub() as hub:
        hub.add_repo("model", "someone/tiny", small_hub.COMMIT, small_hub.MODEL)
        hub.fail("*/config.json", status=500, times=1, body=body)
        hub.fail("*/config.json", status=403, body=body)
        config = {**CONFIG, "models": {**CONFIG["models"], "one": source}}
        where = {"HF_ENDPOINT": hub.url, **SECRETS}
        done = project.snakemake("resources/models/one", config=project.configure(config), **where)
    statuses = [request.status for request in hub.requests if request.path.endswith("/config.json")]
    assert statuses[0] == 500 and statuses[-1] == 403
    assert done.returncode != 0 and "refuses access (status 403)" in done.stdout, done.stdout
    assert tellers(tmp_path) == [] and not [value for value in SECRETS.values() if value in done.stdout]
