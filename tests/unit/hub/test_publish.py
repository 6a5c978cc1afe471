"""Publishing a package: planned without a network, uploaded to a hub as planned, and each refusal in one sentence."""

import logging
import shutil
import socket

import pytest
from huggingface_hub import constants

from qa.common.files import read_json, sha256_of_file
from qa.hub import publish
from qa.hub.download import fetch_model
from small_hub import MODEL, refusal

TOKEN = "hf_secretOfTheStandIn"
REPO = "someone/mills"
CARD = b"---\nlicense: mit\npipeline_tag: question-answering\n---\n\n# Mills\n"
FILES = MODEL | {"README.md": CARD, "qa_settings.json": b"{}"}


@pytest.fixture
def hub(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # read by the client when it is imported
    hub.writers[TOKEN] = {"someone"}
    return hub


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "results" / "small" / "seed-1" / "package"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / ".snakemake_timestamp").write_bytes(b"")
    return folder


def planned(package, private=True, repo=REPO):
    return publish.plan({str(package): {"repo": repo, "private": private}}, package.parent / "publish_plan.json")


@pytest.fixture
def plan(package):
    planned(package)
    return package.parent / "publish_plan.json"


def published(package, plan):
    return publish.publish(plan, package.parent / "published.json")[str(package)]


def test_a_plan_lists_where_to_and_every_file_with_size_and_hash_without_any_network(package, monkeypatch, caplog):
    monkeypatch.setattr(socket, "socket", lambda *given, **more: pytest.fail("a plan uses no network"))
    with caplog.at_level(logging.INFO):
        found = planned(package)
    assert found == read_json(package.parent / "publish_plan.json")
    made = found[str(package)]
    assert (made["repo"], made["private"]) == (REPO, True)
    assert made["files"] == {
        name: {"sha256": sha256_of_file(package / name), "size": len(content)}
        for name, content in sorted(FILES.items())
    }
    assert f"{REPO} (private)" in caplog.text and "model.safetensors" in caplog.text and "bytes" in caplog.text


@pytest.mark.parametrize("name", ["training_args.bin", "modeling.py"])
def test_pickles_and_code_are_never_planned(name, package):
    (package / name).write_bytes(b"x")
    assert name in refusal(planned, package)
    assert not (package.parent / "publish_plan.json").exists()


def test_a_package_is_published_as_planned_and_comes_back_the_same(hub, package, plan, tmp_path):
    done = published(package, plan)
    assert read_json(package.parent / "published.json") == {str(package): done}
    assert done["commit_url"] == f"{hub.url}/{REPO}/commit/{done['revision']}"
    assert done["files"] == read_json(plan)[str(package)]["files"] and done["private"]
    there = hub._repos["model", REPO, done["revision"]]
    assert there.files == FILES and there.private
    source = fetch_model({"repo": REPO, "revision": done["revision"]}, tmp_path / "back")
    assert source["license"] == "mit"
    assert (tmp_path / "back/model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_publishing_again_sends_large_files_only_when_they_have_changed(hub, package, plan):
    first = published(package, plan)
    (package / "README.md").write_bytes(CARD + b"More.\n")
    planned(package)
    second = published(package, plan)
    assert second["revision"] != first["revision"] and len(hub.asked("/lfs/*", "PUT")) == 1
    assert hub._repos["model", REPO, "main"].files["README.md"].endswith(b"More.\n")


def test_what_was_published_is_not_sent_again_when_a_later_package_fails(hub, package, tmp_path):
    later = tmp_path / "results" / "large" / "seed-1" / "package"
    shutil.copytree(package, later)
    targets = {package: REPO, later: "another/mills"}
    plan, target = tmp_path / "publish_plan.json", tmp_path / "published.json"
    publish.plan({str(folder): {"repo": repo, "private": True} for folder, repo in targets.items()}, plan)
    assert "another/mills" in refusal(publish.publish, plan, target) and not target.exists()
    hub.writers[TOKEN].add("another")
    done = publish.publish(plan, target)
    assert {entry["repo"] for entry in done.values()} == set(targets.values())
    assert len(hub.asked(f"/api/models/{REPO}/commit/*", "POST")) == len(hub.asked("*/commit/*", "POST")) - 1 == 1
    assert done[str(package)]["commit_url"].startswith(f"{hub.url}/{REPO}/commit/")


def test_a_package_that_changed_after_its_plan_is_refused_before_any_request(hub, package, plan):
    (package / "README.md").write_bytes(b"other")
    assert "README.md is not what" in refusal(published, package, plan)
    assert not hub.requests


def test_the_token_goes_to_the_hub_alone_and_stands_in_no_file_or_message(hub, package, plan, caplog):
    with caplog.at_level(logging.DEBUG):
        published(package, plan)
    assert all("authorization" not in request.headers for request in hub.asked("/lfs/*", "PUT"))
    texts = [path.read_bytes() for path in package.parent.rglob("*.json")]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("qa")]
    assert ours and not any(TOKEN in text for text in [*ours, *map(repr, texts)])


def test_without_a_token_it_says_so_before_any_request(hub, package, plan, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    assert "no token" in refusal(published, package, plan) and not hub.requests


@pytest.mark.parametrize(
    ("namespaces", "said"), [(None, "does not accept the token"), ({"another"}, "may not write there")]
)
def test_a_token_that_may_not_is_told_from_one_that_is_wrong(namespaces, said, hub, package, plan):
    hub.writers = {TOKEN: namespaces} if namespaces else {}
    message = refusal(published, package, plan)
    assert said in message and REPO in message and TOKEN not in message
    assert not (package.parent / "published.json").exists() and not hub.stored


def test_a_public_repository_is_refused_where_it_must_be_private(hub, package, plan):
    hub.add_repo("model", REPO, "main", {}, "0" * 40)
    assert "is public already" in refusal(published, package, plan)
    assert not hub.asked("*/commit/*", "POST") and not hub.stored


def test_a_public_repository_is_written_where_it_may_be_public(hub, package, plan):
    hub.add_repo("model", REPO, "main", {"kept.txt": b"x"}, "0" * 40)
    planned(package, private=False)
    published(package, plan)
    assert hub._repos["model", REPO, "main"].files == FILES | {"kept.txt": b"x"}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("*/preupload/*", 403, "may not write there"),
        ("*/commit/*", 400, "status 400"),
        ("*/commit/*", 413, "status 413"),
        ("/lfs/*", 403, "may not write there"),
    ],
)
def test_a_refusal_on_the_way_is_one_sentence_and_leaves_no_record(path, status, said, hub, package, plan):
    hub.fail(path, status=status)
    message = refusal(published, package, plan)
    assert said in message and "Signature" not in message
    assert not (package.parent / "published.json").exists()


def test_a_network_that_is_down_is_one_sentence(hub, package, plan, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert "login node" in refusal(published, package, plan)


def test_a_hub_that_holds_something_else_than_was_sent_is_found_out(hub, package, plan, monkeypatch):
    original = type(hub).add_repo

    def spoilt(self, kind, repo, revision, files, commit=None, private=False):
        wrong = {name: b"other" if name.endswith(".safetensors") else value for name, value in files.items()}
        original(self, kind, repo, revision, wrong, commit, private)

    monkeypatch.setattr(type(hub), "add_repo", spoilt)
    assert "model.safetensors is not there as it was sent" in refusal(published, package, plan)
    assert not (package.parent / "published.json").exists()
    assert read_json(plan)[str(package)]["repo"] == REPO
