"""Models on the Hub as folders and files, in place and through the cache."""

import json
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download

from jaynes_audit.analyzers.checkpoints.families import look_into
from jaynes_audit.analyzers.checkpoints.formats import open_weights
from jaynes_audit.analyzers.checkpoints.hub.cache import cached_snapshot
from jaynes_audit.analyzers.checkpoints.hub.location import hub_location
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace, Mode, in_mode, is_cached, weights_bytes
from jaynes_audit.analyzers.checkpoints.windows import Io, open_source
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from tests.analyzers.checkpoints.hub.clients import CONTENT, MODEL, WEIGHTS, client_of, place_of
from tests.support.hub import FOR_EVER, LoopbackHub, Synthetic, gaussian_bf16
from tests.support.safetensors_files import tensors, write

FILES = {WEIGHTS: CONTENT, "config.json": b"{}", "unet/a.safetensors": CONTENT[:10], "unet/deep/b.bin": b"b"}


@pytest.fixture
def model(hub: LoopbackHub) -> LoopbackHub:
    hub.commit(MODEL, FILES)
    return hub


@pytest.mark.parametrize("mode", Mode)
def test_a_place_reads_as_the_folder_that_was_uploaded(model: LoopbackHub, mode: Mode) -> None:
    root = place_of(client_of(model), mode=mode)
    assert root.is_folder()
    assert root.names() == {WEIGHTS: False, "config.json": False, "unet": True}
    assert look_into(root / "unet").files == ("a.safetensors",)
    assert look_into(root / "unet").subfolders == ("deep",)
    for path, content in FILES.items():
        place = root / path
        assert not place.is_folder()
        with place.opened() as (stream, size):
            assert size == len(content)
            assert stream.read() == content
            assert stream.seek(0) == 0
        source = open_source(place, Io.MMAP)
        source.ahead([(0, len(content))])
        assert bytes(source.read(0, len(content))) == content
        source.close()


@pytest.mark.parametrize("mode", Mode)
def test_what_is_not_there_is_absent(model: LoopbackHub, mode: Mode) -> None:
    root = place_of(client_of(model), mode=mode)
    for nothing in (root / "none", root / "unet" / "..", root / WEIGHTS / "x", root / "unet" / ""):
        assert nothing.is_absent()
        with pytest.raises(CouldNotRead, match="there is no"):
            nothing.is_folder()
        with pytest.raises(CouldNotRead):
            nothing.opened()
        with pytest.raises(CouldNotRead):
            nothing.source()
    assert not (root / "unet").is_absent()
    with pytest.raises(RefusedFile, match="folder") as caught:
        (root / "unet").source()
    assert caught.value.rule == "JN002"


def test_a_location_inside_a_model_is_the_place_to_begin(model: LoopbackHub) -> None:
    client = client_of(model)
    assert place_of(client, f"hf://{MODEL}/unet").names() == {"a.safetensors": False, "deep": True}
    with place_of(client, f"hf://{MODEL}@main/unet/deep/b.bin").opened() as (stream, _):
        assert stream.read() == b"b"
    with pytest.raises(CouldNotRead, match=r"no 'unett' .*; beside it are .*'unet'"):
        place_of(client, f"hf://{MODEL}/unett")


def test_a_place_has_an_address_a_name_and_equals(model: LoopbackHub) -> None:
    root = place_of(client_of(model))
    place = root / "unet" / "a.safetensors"
    assert str(place) == f"hf://{MODEL}@{root.commit[:12]}/unet/a.safetensors"
    assert (place.name, place.parent, place.parent.parent, root.parent) == ("a.safetensors", root / "unet", root, root)
    again = place_of(client_of(model)) / "unet/a.safetensors"
    assert (again == place, hash(again) == hash(place)) == (True, True)
    assert place != root / WEIGHTS
    model.commit(MODEL, {"config.json": b"[]"})
    assert place_of(client_of(model)) / "unet/a.safetensors" != place


def test_an_identity_is_that_of_the_content(model: LoopbackHub) -> None:
    before = place_of(client_of(model))
    model.commit(MODEL, {"config.json": b"[]"})
    after = place_of(client_of(model))
    assert (before / WEIGHTS).identity() == (after / WEIGHTS).identity()
    assert (before / "config.json").identity() != (after / "config.json").identity()
    assert before.identity() != after.identity()


def test_the_size_of_weights_is_known_before_any_is_read(model: LoopbackHub) -> None:
    root = place_of(client_of(model))
    assert weights_bytes(root) == len(CONTENT) + 10 + 1
    assert weights_bytes(root / "unet") == 11
    assert weights_bytes(root / "unet/deep/b.bin") == 1
    assert weights_bytes(root / "config.json") == 0


# ---- what is stored


def test_streaming_stores_nothing(model: LoopbackHub, cache: Path) -> None:
    root = place_of(client_of(model))
    with (root / WEIGHTS).opened() as (stream, _):
        stream.read()
    (root / WEIGHTS).source().read(0, 100)
    assert not cache.parent.exists()


def test_the_cache_is_the_one_that_others_read(model: LoopbackHub, cache: Path) -> None:
    told: list[str] = []
    root = place_of(client_of(model, tell=told.append), mode=Mode.CACHE)
    assert not is_cached(root / WEIGHTS)
    for _ in range(2):
        (root / WEIGHTS).source().close()
    (root / "config.json").source().close()
    assert told == ["downloading 'model.safetensors' of 'org/model' into the cache: 1,000,000 bytes"]
    assert is_cached(root / WEIGHTS)
    assert not is_cached(root)
    snapshot = cache / "models--org--model" / "snapshots" / root.commit
    assert (snapshot / WEIGHTS).read_bytes() == CONTENT
    requests = len(model.log)
    with (root / WEIGHTS).opened() as (stream, _):
        assert stream.read() == CONTENT
    assert len(model.log) == requests


def test_a_copy_in_the_cache_that_was_cut_short_is_fetched_again(model: LoopbackHub) -> None:
    root = place_of(client_of(model), mode=Mode.CACHE)
    with (root / WEIGHTS).opened() as (stream, _):
        path = Path(stream.name)
    path.resolve().write_bytes(b"short")
    with (root / WEIGHTS).opened() as (stream, _):
        assert stream.read() == CONTENT


def test_a_download_that_is_never_what_the_hub_lists_is_told_and_not_kept(model: LoopbackHub) -> None:
    root = place_of(client_of(model), mode=Mode.CACHE)
    model.fault(host="cdn", times=FOR_EVER, corrupt=True)
    with pytest.raises(CouldNotRead, match="another digest than the Hub lists, and was removed"):
        (root / WEIGHTS).source()
    assert not is_cached(root / WEIGHTS)


def test_a_place_changes_its_mode_without_being_asked_for_again(model: LoopbackHub) -> None:
    root = place_of(client_of(model))
    requests = len(model.log)
    assert in_mode(root, Mode.CACHE) == root
    assert len(model.log) == requests


# ---- offline


def test_what_was_cached_is_found_offline(model: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    root = place_of(client_of(model), mode=Mode.CACHE)
    for name in (WEIGHTS, "unet/a.safetensors"):
        (root / name).source().close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for location in (MODEL, f"{MODEL}@{root.commit}"):
        found = cached_snapshot(hub_location(location))
        assert (found.commit, found.missing) == (root.commit, ())
        assert (found.place / WEIGHTS).read_bytes() == CONTENT
    assert cached_snapshot(hub_location(f"hf://{MODEL}/unet")).place == found.place / "unet"
    for absent in ("org/other", f"{MODEL}@v2"):
        with pytest.raises(CouldNotRead, match="not in the cache; unset HF_HUB_OFFLINE"):
            cached_snapshot(hub_location(absent))


def test_a_revision_is_found_offline_whose_files_were_cached_under_another(
    model: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = place_of(client_of(model)).commit
    for location in (f"{MODEL}@{commit}", MODEL):
        (place_of(client_of(model), location, Mode.CACHE) / WEIGHTS).source().close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert cached_snapshot(hub_location(MODEL)).commit == commit


def test_files_known_to_be_missing_offline_are_named(model: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = snapshot_download(MODEL, endpoint=model.endpoint, token=False)
    Path(snapshot, WEIGHTS).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert cached_snapshot(hub_location(MODEL)).missing == (WEIGHTS,)


# ---- weights


def test_safetensors_on_the_hub_hold_what_the_local_file_holds(hub: LoopbackHub, tmp_path: Path) -> None:
    path = write(tmp_path / WEIGHTS, tensors())
    hub.commit(MODEL, {WEIGHTS: path})
    local = open_weights(path)
    for mode in Mode:
        remote = open_weights(place_of(client_of(hub), mode=mode) / WEIGHTS)
        assert [(each.name, each.shape, each.start, each.end) for each in remote.tensors] == [
            (each.name, each.shape, each.start, each.end) for each in local.tensors
        ]


def test_the_headers_of_many_shards_take_two_requests_each(hub: LoopbackHub) -> None:
    shards = {
        f"model-{number:05d}-of-00012.safetensors": Synthetic.safetensors(
            f"model-{number:05d}-of-00012.safetensors",
            {f"model.layers.{number}.{row}.weight": ("BF16", (64, 1024)) for row in range(500)},
            gaussian_bf16(),
        )
        for number in range(1, 13)
    }
    hub.commit(MODEL, {**shards, "config.json": json.dumps({}).encode()})
    root: HubPlace = place_of(client_of(hub))
    assert sum(len(open_weights(root / name).tensors) for name in shards) == 6_000
    assert len(hub.log) == 2 + 2 * 12
