"""Rarer faults of networks and servers during downloads, and two downloads of the same thing."""

import re
import shutil
import subprocess

import pytest
from huggingface_hub import constants

from qa.hub.download import fetch_model
from qa.hub.repository import endpoint
from small_hub import (
    COMMIT,
    MODEL,
    QUICK,
    REPO,
    WEIGHTS,
    aside_of,
    contents,
    in_another_process,
    refusal,
    wait_until,
)
from stand_in_hub import StandInHub

LONGER, SHORTER = WEIGHTS + b"more", WEIGHTS[:-4]


def test_a_slow_server_is_waited_for_as_long_as_bytes_come(hub, target, monkeypatch):
    """In all longer than the silence that would be a fault."""
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.fail("*model.safetensors", drip=0.15, times=1)
    fetch_model(REPO, target, ())
    assert (target / "model.safetensors").read_bytes() == WEIGHTS
    assert [request.range for request in hub.asked("/storage/*")] == [None]


@pytest.mark.parametrize("body", [LONGER, SHORTER], ids=["longer", "shorter"])
def test_a_file_of_another_length_than_stated_is_dropped_and_fetched_again(body, hub, target):
    hub.fail("/storage/*", status=200, body=body, times=1)
    fetch_model(REPO, target, QUICK)
    assert contents(target).items() >= MODEL.items()


@pytest.mark.parametrize("body", [LONGER, SHORTER], ids=["longer", "shorter"])
def test_a_length_that_stays_wrong_is_refused_with_both_numbers(body, hub, target):
    hub.fail("/storage/*", status=200, body=body)
    message = refusal(fetch_model, REPO, target, QUICK)
    assert f"{len(body):,} bytes where {len(WEIGHTS):,} are expected" in message and "ignature" not in message
    assert not target.exists() and not list(aside_of(target).rglob("model.safetensors"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_server_that_never_ends_is_left_once_more_came_than_stated(name, hub, target, monkeypatch):
    """Neither is the disk filled, nor is it waited for. The client counts by the chunk."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    hub.fail(f"*/{name}", more=2**26)
    message = refusal(fetch_model, REPO, target, QUICK)
    came, stated = re.search(r"fetching its files: ([\d,]+) bytes where ([\d,]+) are expected", message).groups()
    assert stated == f"{sum(map(len, MODEL.values())):,}"
    assert int(came.replace(",", "")) < sum(map(len, MODEL.values())) + 2**20
    assert not target.exists() and not list(aside_of(target).rglob(name))


@pytest.mark.parametrize("host", ["mirror.example", "localhost.example", "10.0.0.1", "[2001:db8::1]", "0.0.0.0"])
def test_a_mirror_without_https_is_refused_before_any_request_for_the_tokens_sake(host, hub, target, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:secret@{host}:80/hub")
    message = refusal(fetch_model, REPO, target, QUICK)
    assert f"an http address of {host.strip('[]')}: a token would go there in clear" in message
    assert "must begin with https://" in message and "secret" not in message and not hub.requests


@pytest.mark.parametrize("address", ["http://localhost:1", "HTTP://127.9.0.1:1", "http://[::1]:1/hub", "https://a.b"])
def test_https_anywhere_and_http_on_this_machine_are_endpoints(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{address}/")
    assert endpoint() == address


@pytest.mark.parametrize("address", ["https://", "https://:443", "https://[::1", "ftp://a.b", "//a.b", "u:secret@a.b"])
def test_an_endpoint_that_is_no_address_is_refused_without_its_password(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    message = refusal(endpoint)
    assert "it must begin with https:// and name a host" in message and "secret" not in message


@pytest.fixture
def self_signed(tmp_path):
    """A certificate for 127.0.0.1 that nobody vouches for, and its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    file = tmp_path / "self-signed.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += [
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout",
        str(file),
        "-out",
        str(tmp_path / "public.pem"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "public.pem").read_text())
    return file


def test_a_server_with_a_certificate_of_its_own_making_is_refused_at_once_unless_it_is_trusted(
    self_signed, hub, target, monkeypatch
):
    with StandInHub(certificate=self_signed) as other:
        other.add_repo("model", "someone/tiny", COMMIT, MODEL)
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        message = refusal(fetch_model, REPO, target, QUICK)
        assert "127.0.0.1 shows a certificate that this machine does not trust" in message
        assert "self-signed certificate" in message.replace("self signed", "self-signed")
        assert "attempts" not in message and not other.requests and not target.exists()
        trusting = in_another_process(target, SSL_CERT_FILE=str(self_signed.with_name("public.pem")))
        _, said = trusting.communicate(timeout=900)
        assert trusting.returncode == 0, said
    assert contents(target).items() >= MODEL.items()


@pytest.mark.parametrize("path", ["/api/models/*", "*/resolve/*/config.json", "/storage/*"])
def test_redirects_in_a_circle_are_told_at_once(path, hub, target):
    hub.fail(path, status=302, location="?again")
    message = refusal(fetch_model, REPO, target, QUICK)
    assert "redirects in a circle" in message and "HF_ENDPOINT" in message
    assert not target.exists()


def test_of_two_downloads_of_the_same_model_the_second_is_refused_and_the_first_is_whole(hub, target):
    hub.fail("/storage/*", truncate=100_000, hang=60, times=1)
    first = in_another_process(target)
    wait_until(lambda: list(aside_of(target).rglob("*.incomplete")))
    message = refusal(fetch_model, REPO, target, QUICK)
    assert re.fullmatch(rf"{target}: another process is downloading it; wait for it and run again", message)
    first.kill()
    first.communicate(timeout=300)
    fetch_model(REPO, target, QUICK)  # whoever was killed holds nothing any more
    assert contents(target).items() >= MODEL.items() and [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_two_downloads_that_begin_together_leave_one_whole_model(hub, target):
    hub.fail("*model.safetensors", drip=0.05)
    both = [in_another_process(target) for _ in range(2)]
    said = [process.communicate(timeout=900)[1] for process in both]
    assert 0 in [process.returncode for process in both]
    for process, text in zip(both, said, strict=True):
        assert process.returncode == 0 or "another process is downloading it" in text
    assert contents(target).items() >= MODEL.items() and [path.name for path in target.parent.iterdir()] == ["tiny"]
