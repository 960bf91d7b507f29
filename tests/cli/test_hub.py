"""Models on the Hub, as a user of `jaynes audit` meets them: the report, the sentences, the exit status, the bytes."""

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from huggingface_hub import close_session, constants

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import HubAccess, locations, open_checkpoint
from jaynes_audit.analyzers.checkpoints.hub.client import Client, hub_client
from jaynes_audit.analyzers.checkpoints.hub.patience import Patience
from jaynes_audit.analyzers.checkpoints.hub.place import Mode
from jaynes_audit.cli.exit_codes import ExitCode
from tests.support.checkpoints import stored, write_file
from tests.support.hub import FOR_EVER, LoopbackHub, synthetic_checkpoint
from tests.support.hub.content import CommittedFile, read
from tests.support.hub.exchange import Record
from tests.support.hub_cli import (
    AND_TELL_PEAK,
    MODELS,
    PATIENCE_SECONDS,
    PEAK,
    PYTORCH,
    SHARD_DTYPES,
    SHARDED,
    Run,
    audited,
    ended,
    environment,
    sent_by_cdn,
    started,
    write_models,
)

READER, STRANGER, UNKNOWN = "hf_reader", "hf_stranger", "hf_unknown"
BUSY, PRIVATE, GATED, DISABLED, MISSING = "org/busy", "org/private", "org/gated", "org/disabled", "org/missing"
FIRST_LOOK_BYTES = 128 << 10
SECOND_SHARD = "model-00002-of-00003.safetensors"
HEADERS = FIRST_PASS = len(SHARD_DTYPES)
"""Requests to the CDN: one for each shard's header, then one for all of its tensors, then those of the second pass."""

Audited = Callable[..., Run]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are on this machine."""
    path = tmp_path_factory.mktemp("models")
    write_models(path)
    return path


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(known_tokens=(READER, STRANGER)) as hub:
        for model in MODELS:
            hub.add_directory(model, folder / model)
        yield hub


@pytest.fixture(autouse=True)
def hub(running: LoopbackHub) -> LoopbackHub:
    """The Hub with the three models, on which nothing goes wrong and nothing was asked."""
    running.clear()
    return running


@pytest.fixture(scope="module", autouse=True)
def _here(running: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is audited in this process meets the same Hub; its pauses take no time, and silence is soon noticed."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.setattr(locations, "hub_client", partial(impatient, running.endpoint))
        yield
        close_session()


def impatient(endpoint: str, *, patience: Patience, token: str = "", tries: int = 8) -> Client:
    quick = replace(patience, tries=tries, read_seconds=0.5, slow_seconds=0.5, sleep=lambda _: None)
    return hub_client(endpoint=endpoint, token=token, patience=quick)


@pytest.fixture
def audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Audited:
    """The command, run in this process; what one run finished is no help to the next."""

    def run(*arguments: str) -> Run:
        came_to = audited(*arguments, "--no-resume", report=tmp_path / "report.json")
        return replace(came_to, said=capsys.readouterr().err)

    return run


@pytest.fixture(scope="module")
def usual(running: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What is said of the sharded model when nothing goes wrong."""
    running.clear()
    return audited(SHARDED, "--stream", report=tmp_path_factory.mktemp("usual") / "report.json")


# ---- three ways to the same report


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caches of the processes that share one."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def cached(running: LoopbackHub, home: Path) -> Run:
    """The three models, audited through the cache by a process of its own."""
    running.clear()
    report = home / "cached.json"
    return ended(started([*MODELS, "--cache"], report, environment(running.endpoint, home)), report)


def test_streaming_stores_nothing_and_says_what_the_cache_says(hub: LoopbackHub, cached: Run, tmp_path: Path) -> None:
    report = tmp_path / "streamed.json"
    streamed = ended(started([*MODELS, "--stream"], report, environment(hub.endpoint, tmp_path)), report)
    assert (streamed.status, streamed.said) == (ExitCode.PASSED, "")
    assert streamed.report == cached.report
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [report]
    assert [model["commit"] for model in streamed.models] == [hub.repos[model].refs["main"] for model in MODELS]
    assert not any(model["remarks"] for model in streamed.models)


def test_files_on_this_machine_give_the_same_numbers(
    hub: LoopbackHub, cached: Run, folder: Path, audit: Audited
) -> None:
    local = audit(*(str(folder / model) for model in MODELS))
    said = local.report.decode()
    for model in MODELS:
        commit = hub.repos[model].refs["main"]
        said = said.replace(f"{folder}/{model}/", f"hf://{model}@{commit[:12]}/").replace(f"{folder}/{model}", model)
        said = said.replace('"commit": null', f'"commit": "{commit}"', 1)
    assert said.encode() == cached.report
    assert not hub.log


def test_the_cache_keeps_what_it_fetched(hub: LoopbackHub, cached: Run, home: Path, tmp_path: Path) -> None:
    assert cached.status == ExitCode.PASSED
    assert sum("downloading" in line for line in cached.said.splitlines()) == len(SHARD_DTYPES) + 2
    report = tmp_path / "again.json"
    again = ended(started([*MODELS, "--cache", "--verify"], report, environment(hub.endpoint, home)), report)
    assert (again.status, again.said, again.report) == (ExitCode.PASSED, "", cached.report)
    assert {record.path.split("/")[1] for record in hub.log} == {"api"}, "the Hub is asked for its list alone"
    assert not any("resolve" in record.path for record in hub.log)


def test_offline_the_cache_alone_is_read(hub: LoopbackHub, cached: Run, home: Path, tmp_path: Path) -> None:
    report = tmp_path / "offline.json"
    env = environment(hub.endpoint, home, HF_HUB_OFFLINE="1")
    offline = ended(started([*MODELS, MISSING], report, env), report)
    assert offline.status == ExitCode.COULD_NOT_FINISH
    assert not hub.log
    for found, expected in zip(offline.models, cached.models, strict=True):
        assert found["commit"] == expected["commit"]
        assert found["connected"] == expected["connected"]
        assert found["remarks"] == ["read from the cache alone, as HF_HUB_OFFLINE asks for"]
        assert [{**layer, "file": ""} for layer in found["layers"]] == [
            {**layer, "file": ""} for layer in expected["layers"]
        ]
    [failure] = offline.failures
    assert failure["target"] == MISSING
    assert "unset HF_HUB_OFFLINE" in failure["sentence"]


# ---- --verify


def test_bytes_that_are_as_they_were_uploaded_pass(usual: Run, audit: Audited) -> None:
    verified = audit(SHARDED, "--stream", "--verify")
    assert (verified.status, verified.report) == (ExitCode.PASSED, usual.report)


@pytest.mark.parametrize("fault", [{"corrupt": True}, {"lie_range": 4096}], ids=["one bit", "other bytes"])
def test_wrong_bytes_from_the_storage_are_found(hub: LoopbackHub, audit: Audited, fault: dict[str, Any]) -> None:
    hub.fault(host="cdn", path=second_shard(hub).sha256, skip=1, times=FOR_EVER, **fault)
    found = audit(SHARDED, "--stream", "--verify")
    assert found.status == ExitCode.FOUND
    [finding] = [each for each in found.models[0]["findings"] if each["rule"] == "JN007"]
    assert finding["subject"].endswith(SECOND_SHARD)


def test_a_blob_that_was_damaged_in_the_cache_is_found(audit: Audited) -> None:
    assert audit(PYTORCH, "--cache").status == ExitCode.PASSED
    [blob] = Path(constants.HF_HUB_CACHE).glob("models--org--pytorch/blobs/*")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    found = audit(PYTORCH, "--cache", "--verify")
    assert found.status == ExitCode.FOUND
    assert [each["rule"] for each in found.models[0]["findings"] if each["level"] == "error"] == ["JN007"]


# ---- faults

FAULTS: dict[str, dict[str, Any]] = {
    "reset": {"reset": True},
    "cut": {"truncate": 100_001},
    "cut by a reset": {"truncate": 100_001, "truncate_rst": True},
    "chunked and cut": {"truncate": 100_001, "chunked": True},
    "silence instead of an answer": {"delay": 3600.0},
    "silence in the answer": {"stall_after": 100_001},
    "a trickle": {"rate": 100},
    "whole file": {"ignore_range": True},
    "part after it": {"shift_range": 4096},
    "part before it": {"shift_range": -4096},
    "short part": {"short_range": 4096},
    "gzip": {"gzip": True},
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "429, at once": {"status": 429, "headers": {"Retry-After": "0"}},
    "429, in a second": {"status": 429, "headers": {"Retry-After": "1"}},
    "503": {"status": 503},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_storage_changes_no_number(
    hub: LoopbackHub, usual: Run, audit: Audited, fault: dict[str, Any]
) -> None:
    in_each_part = (0, HEADERS, HEADERS + FIRST_PASS)  # requests that succeed before; one that is hit is sent again
    planned = [hub.fault(host="cdn", skip=successes, **fault) for successes in in_each_part]
    again = audit(SHARDED, "--stream")
    assert [each.hits for each in planned] == [1, 1, 1]
    assert (again.status, again.report) == (ExitCode.PASSED, usual.report)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_without_end_is_told_and_takes_no_other_file_with_it(
    hub: LoopbackHub, usual: Run, audit: Audited, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setattr(locations, "hub_client", partial(impatient, hub.endpoint, tries=3))
    hub.fault(host="cdn", path=second_shard(hub).sha256, skip=1, times=FOR_EVER, **fault)
    again = audit(SHARDED, "--stream", "--layers", "*.up_proj.*")
    expected = [layer for layer in usual.models[0]["layers"] if ".up_proj." in layer["name"]]
    if "truncate" in fault or "stall_after" in fault:  # as long as something comes, the rest is asked for
        assert (again.status, again.models[0]["layers"]) == (ExitCode.PASSED, expected)
        return
    assert again.status == ExitCode.COULD_NOT_FINISH
    lost = [each for each in again.models[0]["left_out"] if each["reason"] == "could-not-read"]
    assert [each["name"] for each in lost] == [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (2, 3)]
    assert again.models[0]["layers"] == [layer for layer in expected if not layer["file"].endswith(SECOND_SHARD)]
    assert_one_sentence(*{each["explanation"] for each in lost})


DOWNLOAD_FAULTS = {name: fault for name, fault in FAULTS.items() if name != "a trickle"}  # it would be waited for


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("fault", DOWNLOAD_FAULTS.values(), ids=DOWNLOAD_FAULTS)
def test_a_fault_of_a_download_is_told_or_changes_no_number(
    hub: LoopbackHub, usual: Run, audit: Audited, fault: dict[str, Any]
) -> None:
    hub.fault(host="cdn", **fault)
    again = audit(SHARDED, "--cache")
    if again.status == ExitCode.COULD_NOT_FINISH:
        assert_one_sentence(*(each["sentence"] for each in again.failures))
    else:
        assert (again.status, again.report) == (ExitCode.PASSED, usual.report)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one test's own, into which huggingface_hub waits a second for bytes."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    return tmp_path / "hub"


def second_shard(hub: LoopbackHub) -> CommittedFile:
    return hub.repos[SHARDED].commits[hub.repos[SHARDED].refs["main"]][SECOND_SHARD]


def assert_one_sentence(*sentences: str) -> None:
    """Each says what to do after what happened, and nothing of another program or of a secret shows through."""
    for sentence in sentences:
        assert re.search(r"[;:] \w", sentence), sentence
        assert not re.search(r"\n|Traceback|[a-z]Error\b|Signature=|\bhf_\w", sentence), sentence


# ---- a model that changes


def test_a_push_during_the_audit_leaves_the_pinned_commit(hub: LoopbackHub, folder: Path) -> None:
    pinned = hub.add_directory(BUSY, folder / SHARDED)
    expected = audit_checkpoint(open_checkpoint(BUSY, HubAccess(mode=Mode.STREAM)))
    opened = open_checkpoint(BUSY, HubAccess(mode=Mode.STREAM))
    hub.commit(BUSY, other_weights(hub))
    hub.expire_urls()
    assert repr(audit_checkpoint(opened)) == repr(expected)
    assert expected.commit == pinned


def test_a_forced_push_during_the_audit_is_told(hub: LoopbackHub, folder: Path) -> None:
    pinned = hub.add_directory(BUSY, folder / SHARDED)
    opened = open_checkpoint(BUSY, HubAccess(mode=Mode.STREAM))
    hub.commit(BUSY, other_weights(hub))
    del hub.repos[BUSY].commits[pinned]
    hub.expire_urls()
    audit = audit_checkpoint(opened)
    assert not audit.layers
    assert {each.reason for each in audit.left_out} == {"could-not-read"}
    assert {each.explanation for each in audit.left_out} == {
        f"commit {pinned[:12]} of 'org/busy' is no longer on the Hub, which was changed during the audit; run it again"
    }


def other_weights(hub: LoopbackHub) -> dict[str, bytes]:
    """The second shard with other weights in it, and of the same length."""
    content = read(second_shard(hub).content)
    return {SECOND_SHARD: content[:-4096] + content[-8192:-4096]}


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("mode", ["--stream", "--cache"])
def test_a_mirror_that_gives_out_another_commit_is_told(
    hub: LoopbackHub, folder: Path, audit: Audited, mode: str
) -> None:
    pinned = hub.add_directory(BUSY, folder / SHARDED)
    newer = hub.commit(BUSY, other_weights(hub))
    said = headers_of(f"{hub.endpoint}/{BUSY}/resolve/{newer}/{SECOND_SHARD}")
    names = ("X-Repo-Commit", "X-Linked-ETag", "X-Linked-Size", "Location")
    hub.fault(
        host="hub", path=f"/resolve/.*{SECOND_SHARD}", times=FOR_EVER, headers={name: said[name] for name in names}
    )
    confused = audit(f"{BUSY}@{pinned}", mode)
    assert confused.status == ExitCode.COULD_NOT_FINISH
    [failure] = confused.failures
    assert pinned[:12] in failure["sentence"]
    assert_one_sentence(failure["sentence"])


def headers_of(url: str) -> Mapping[str, str]:
    address = urlsplit(url)
    with closing(http.client.HTTPConnection(str(address.hostname), address.port)) as connection:
        connection.request("HEAD", address.path)
        return connection.getresponse().headers


@pytest.mark.usefixtures("empty_cache")
def test_a_download_that_goes_on_at_another_place_is_told_or_changes_no_number(
    hub: LoopbackHub, audit: Audited, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)  # 24 MiB, for huggingface_hub goes on where a multiple of 10 MiB ends
    weights = {f"model.layers.{layer}.mlp.up_proj.weight": rng.standard_normal((2048, 1024)) for layer in range(3)}
    write_file(tmp_path / "model.safetensors", {name: stored(each) for name, each in weights.items()})
    hub.commit("org/long", {"model.safetensors": tmp_path / "model.safetensors"})
    expected = audit("org/long", "--stream")
    hub.fault(host="cdn", truncate=15_000_000)
    hub.fault(host="cdn", shift_range=-4096)
    again = audit("org/long", "--cache")
    if again.status == ExitCode.COULD_NOT_FINISH:
        assert_one_sentence(*(each["sentence"] for each in again.failures))
    else:
        assert (again.status, again.report) == (ExitCode.PASSED, expected.report)


# ---- who may read what


@pytest.fixture(scope="module")
def guarded(running: LoopbackHub, folder: Path) -> None:
    for name, access in {
        PRIVATE: {"private": True, "readers": {READER}},
        GATED: {"gated": "manual", "readers": {READER}},
        DISABLED: {"disabled": True},
    }.items():
        running.add_directory(name, folder / PYTORCH, **access)


REFUSED = {
    PRIVATE: ("no public model 'org/private'", "if it is private, log in with 'hf auth login', or set HF_TOKEN"),
    GATED: ("'org/gated' is gated", "ask for access at "),
    DISABLED: ("'org/disabled' has been disabled", "choose another model"),
    MISSING: ("no public model 'org/missing'", "correct its name"),
    f"{PYTORCH}@v9": ("'org/pytorch' has no revision 'v9'", "name a branch, a tag or a commit"),
    f"hf://{PYTORCH}/weights": ("there is no 'weights'", "beside it are 'pytorch_model.bin'"),
}


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("mode", ["--stream", "--cache"])
def test_what_cannot_be_had_is_told_with_what_to_do(audit: Audited, empty_cache: Path, mode: str) -> None:
    refused = audit(*REFUSED, mode)
    assert refused.status == ExitCode.COULD_NOT_FINISH
    assert [(each["target"], each["exit_code"]) for each in refused.failures] == [
        (target, ExitCode.COULD_NOT_FINISH) for target in REFUSED
    ]
    sentences = [each["sentence"] for each in refused.failures]
    for sentence, mentions in zip(sentences, REFUSED.values(), strict=True):
        assert all(mention in sentence for mention in mentions), sentence
    assert_one_sentence(*sentences)
    said = [line for line in refused.said.splitlines() if not line.startswith("jaynes: downloading ")]
    assert said == [f"jaynes: {sentence}" for sentence in sentences]
    assert not any(empty_cache.rglob("*.bin"))


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    ("token", "model", "mention"),
    [
        (STRANGER, PRIVATE, "no model 'org/private' that your token may read"),
        (STRANGER, GATED, "your token has no access to it"),
        (UNKNOWN, PYTORCH, "the Hub does not accept the token"),
        ("hf_two words", PYTORCH, "correct HF_TOKEN"),
    ],
)
def test_a_token_without_access_is_told_and_not_shown(
    audit: Audited, monkeypatch: pytest.MonkeyPatch, token: str, model: str, mention: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    refused = audit(model, "--stream")
    assert refused.status == ExitCode.COULD_NOT_FINISH
    [failure] = refused.failures
    assert mention in failure["sentence"]
    assert_one_sentence(failure["sentence"])
    assert token not in refused.said + refused.report.decode()


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("mode", ["--stream", "--cache"])
def test_a_token_opens_what_it_may_read_and_never_reaches_the_storage(
    hub: LoopbackHub, audit: Audited, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    opened = audit(PRIVATE, GATED, mode, "--verify")
    assert opened.status == ExitCode.PASSED
    assert READER not in opened.said + opened.report.decode()
    assert sent_by_cdn(hub)
    assert all(record.authorization == (f"Bearer {READER}" if record.host == "hub" else None) for record in hub.log)


def test_a_hub_that_is_not_there_is_told(audit: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nowhere = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(locations, "hub_client", partial(impatient, nowhere))
    refused = audit(PYTORCH)
    assert refused.status == ExitCode.COULD_NOT_FINISH
    [failure] = refused.failures
    assert "127.0.0.1 refused the connection; check the proxy and HF_ENDPOINT" in failure["sentence"]


# ---- names


def test_a_commit_a_tag_a_branch_a_folder_and_a_file_are_found(hub: LoopbackHub, folder: Path, audit: Audited) -> None:
    weights = (folder / PYTORCH / "pytorch_model.bin").read_bytes()
    first = hub.commit("org/named", {"pytorch_model.bin": weights})
    second = hub.commit("org/named", {"variants/small/pytorch_model.bin": weights}, ref="experiment")
    hub.tag("org/named", "v1.0", first)
    whole, part = "pytorch_model.bin", "variants/small/pytorch_model.bin"
    expected = {
        f"org/named@{first}": (first, whole),
        "org/named@v1.0": (first, whole),
        "hf://org/named": (first, whole),
        f"hf://org/named@{second[:8]}/variants/small": (second, part),
        f"hf://org/named@experiment/{part}": (second, part),
    }
    found = audit(*expected, "--stream")
    assert found.status == ExitCode.PASSED
    assert {model["target"]: (model["commit"], model["files"]) for model in found.models} == {
        target: (commit, [f"hf://org/named@{commit[:12]}/{path}"]) for target, (commit, path) in expected.items()
    }


def test_a_folder_of_the_same_name_wins_and_says_so(
    hub: LoopbackHub, folder: Path, audit: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = audit(PYTORCH)
    assert found.status == ExitCode.PASSED
    [model] = found.models
    assert model["commit"] is None
    assert model["remarks"] == [
        f"'{PYTORCH}' is a path here, so the Hub was not asked; 'hf://{PYTORCH}' names a model there"
    ]
    assert not hub.log
    [model] = audit(f"hf://{PYTORCH}", "--stream").models
    assert model["commit"] == hub.repos[PYTORCH].refs["main"]


def test_headers_alone_are_fetched_and_nothing_is_stored(hub: LoopbackHub, usual: Run, tmp_path: Path) -> None:
    report = tmp_path / "headers.json"
    found = ended(started([SHARDED, "--headers-only"], report, environment(hub.endpoint, tmp_path)), report)
    assert (found.status, found.said) == (ExitCode.PASSED, "")
    assert sent_by_cdn(hub) == len(SHARD_DTYPES) * FIRST_LOOK_BYTES
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [report]
    [model] = found.models
    assert model["holdings"] == usual.models[0]["holdings"]
    assert {each["reason"] for each in model["left_out"]} == {"headers-only"}
    assert not model["layers"]


# ---- a kill


def test_an_audit_killed_twice_says_what_one_that_was_not_says(hub: LoopbackHub, usual: Run, tmp_path: Path) -> None:
    start = partial(started, [SHARDED, "--stream", "-j", "1"], env=environment(hub.endpoint, tmp_path))
    in_first_pass = HEADERS + 1
    kill(start(tmp_path / "first.json"), hub, after=in_first_pass)
    left_of_first_pass = HEADERS + FIRST_PASS - 1
    in_second_pass = left_of_first_pass + 1
    kill(start(tmp_path / "second.json"), hub, after=in_second_pass)
    assert [len(requests_for(hub, shard)) for shard in shards(hub)] == [3, 2, 2]
    hub.clear()
    resumed = ended(start(tmp_path / "third.json"), tmp_path / "third.json")
    assert (resumed.status, resumed.report) == (ExitCode.PASSED, usual.report)
    assert [len(requests_for(hub, shard)) for shard in shards(hub)] == [2, 3, 3], "headers, and five matrices of six"
    assert sent_by_cdn(hub) < sum(shard.content.size for shard in shards(hub)) * 2 / 3
    assert [file.suffix for file in tmp_path.rglob("*") if file.is_file()] == [".json"]


def kill(process: subprocess.Popen[str], hub: LoopbackHub, *, after: int) -> None:
    """Let so many requests to the storage be answered, and kill the process when it waits for the next."""
    hub.clear()
    hub.fault(host="cdn", skip=after, times=FOR_EVER, delay=3600.0)
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while sum(record.host == "cdn" for record in hub.log) <= after:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()


def shards(hub: LoopbackHub) -> list[CommittedFile]:
    files = hub.repos[SHARDED].commits[hub.repos[SHARDED].refs["main"]]
    return [file for path, file in sorted(files.items()) if path.endswith(".safetensors")]


def requests_for(hub: LoopbackHub, file: CommittedFile) -> list[Record]:
    return [record for record in hub.log if record.host == "cdn" and str(file.sha256) in record.path]


# ---- size

GIANT = "org/giant"
GIANT_BYTES, GIANT_TENSORS, GIANT_SHARDS = 700 * 10**9, 90_000, 157
A_PART = "*.layers.3.mlp.experts.1?.*"
MOST_RESIDENT_BYTES = 350e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak memory there")
def test_a_part_of_a_giant_is_audited_in_little_memory(tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        hub.commit(GIANT, synthetic_checkpoint(GIANT_BYTES, tensors=GIANT_TENSORS, shards=GIANT_SHARDS))
        report = tmp_path / "giant.json"
        arguments = ["audit", GIANT, "--stream", "--layers", A_PART, "-o", f"json={report}"]
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", AND_TELL_PEAK, *arguments],
            env=environment(hub.endpoint, tmp_path),
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        sent = sent_by_cdn(hub)
    [model] = json.loads(report.read_bytes())["models"]
    assert model["coverage"]["tensors_total"] == GIANT_TENSORS
    assert len(model["layers"]) == 30
    assert sent > model["coverage"]["bytes"]
    peak_kib = int(re.search(rf"{PEAK}:\s*(\d+) kB", done.stderr)[1])
    assert peak_kib * 1024 < MOST_RESIDENT_BYTES
