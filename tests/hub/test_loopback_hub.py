"""The real huggingface_hub client takes the loopback Hub for a Hub."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub import LoopbackHub

WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": b'{"model_type": "test"}',
    "empty.txt": b"",
    "model.safetensors": WEIGHTS,
    "unet/deep/größe #1?.txt": b"hello\n",
    "unet/model.safetensors": WEIGHTS[::-1],
}
READER = "hf_reader"
STRANGER = "hf_stranger"


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub(page_size=3, known_tokens=(READER, STRANGER)) as hub:
        yield hub


def api(hub: LoopbackHub, *, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def download(hub: LoopbackHub, cache: Path, path: str, *, token: str | bool = False, revision: str = "main") -> bytes:
    """The file as the client leaves it in its cache."""
    return Path(
        hf_hub_download("org/m", path, endpoint=hub.endpoint, cache_dir=cache, token=token, revision=revision)
    ).read_bytes()


# ---- what there is


def test_the_model_tells_its_commit_and_its_files(hub):
    sha = hub.commit("org/m", FILES)
    info = api(hub).model_info("org/m", files_metadata=True)
    assert (info.sha, info.private, info.gated, info.config) == (sha, False, False, {"model_type": "test"})
    assert {file.rfilename: file.size for file in info.siblings} == {path: len(data) for path, data in FILES.items()}
    assert {file.rfilename: file.lfs.sha256 for file in info.siblings if file.lfs} == {
        path: hashlib.sha256(FILES[path]).hexdigest() for path in ("model.safetensors", "unet/model.safetensors")
    }


def test_the_model_tells_no_more_than_was_asked_for(hub):
    sha = hub.commit("org/m", FILES)
    info = api(hub).model_info("org/m", expand=["sha", "gated"])
    assert (info.sha, info.gated, info.siblings) == (sha, False, None)


def test_a_large_file_is_under_lfs_whatever_its_name(hub):
    hub.commit("org/m", {"tokenizer.json": bytes(10 * 1024**2), "vocabulary.json": bytes(10 * 1024**2 + 1)})
    small, large = api(hub).get_paths_info("org/m", ["tokenizer.json", "vocabulary.json"])
    assert (small.lfs, large.lfs.size) == (None, 10 * 1024**2 + 1)


def test_files_are_named_as_git_names_them(hub):
    hub.commit("org/m", FILES)
    by_path = {file.path: file for file in api(hub).get_paths_info("org/m", list(FILES))}
    assert by_path["empty.txt"].blob_id == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # `git hash-object`
    assert by_path["unet/deep/größe #1?.txt"].blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_listing_comes_page_by_page(hub):
    hub.commit("org/m", FILES)
    rows = list(api(hub).list_repo_tree("org/m", recursive=True))
    assert {row.path: row.size for row in rows if hasattr(row, "size")} == {
        path: len(data) for path, data in FILES.items()
    }
    assert [row.path for row in rows if not hasattr(row, "size")] == ["unet", "unet/deep"]
    assert len([record for record in hub.log if "/tree/" in record.path]) == 3  # 7 rows, 3 a page


def test_a_listing_that_fills_its_pages_has_no_page_more(hub):
    hub.commit("org/m", {f"{number}.txt": b"" for number in range(6)})
    assert len(list(api(hub).list_repo_tree("org/m"))) == 6
    assert len([record for record in hub.log if "/tree/" in record.path]) == 2


def test_a_listing_that_tells_everything_has_smaller_pages():
    with LoopbackHub() as hub:
        hub.commit("org/m", {f"{number}.txt": b"" for number in range(60)})
        rows = list(api(hub).list_repo_tree("org/m", expand=True))
    assert len(rows) == 60
    assert all(row.last_commit and row.security.safe for row in rows)
    assert len([record for record in hub.log if "/tree/" in record.path]) == 2


def test_one_folder_can_be_listed(hub):
    hub.commit("org/m", FILES)
    top = api(hub).list_repo_tree("org/m")
    assert [row.path for row in top] == ["config.json", "empty.txt", "model.safetensors", "unet"]
    flat = api(hub).list_repo_tree("org/m", "unet")
    assert [row.path for row in flat] == ["unet/deep", "unet/model.safetensors"]
    deep = api(hub).list_repo_tree("org/m", "unet/deep", recursive=True)
    assert [row.path for row in deep] == ["unet/deep/größe #1?.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api(hub).list_repo_tree("org/m", "vae"))


@pytest.mark.parametrize("path", FILES)
def test_the_metadata_of_a_file_are_its_own(hub, path):
    sha = hub.commit("org/m", FILES)
    metadata = get_hf_file_metadata(hf_hub_url("org/m", path, endpoint=hub.endpoint), token=False)
    assert (metadata.commit_hash, metadata.size) == (sha, len(FILES[path]))
    is_large = path.endswith(".safetensors")
    assert metadata.location.startswith(hub.cdn if is_large else hub.endpoint)
    blob = b"blob %d\0" % len(FILES[path]) + FILES[path]
    assert metadata.etag == (hashlib.sha256(FILES[path]) if is_large else hashlib.sha1(blob)).hexdigest()  # noqa: S324 - git's


# ---- getting it


@pytest.mark.parametrize("redirects", [True, False], ids=["redirected", "direct"])
@pytest.mark.parametrize("path", FILES)
def test_a_file_arrives_as_it_was_committed(path, redirects, tmp_path):
    with LoopbackHub(lfs_redirect=redirects, small_redirect=redirects) as hub:
        hub.commit("org/m", FILES)
        assert download(hub, tmp_path, path) == FILES[path]
        assert {record.status for record in hub.log} <= ({200, 302, 307} if redirects else {200})


def test_a_snapshot_is_the_folder_that_was_added(hub, tmp_path):
    for path, data in FILES.items():
        (tmp_path / "made" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / path).write_bytes(data)
    sha = hub.add_directory("org/m", tmp_path / "made")
    got = Path(snapshot_download("org/m", endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False))
    assert got.name == sha
    assert {file.relative_to(got).as_posix(): file.read_bytes() for file in got.rglob("*") if file.is_file()} == FILES


def test_no_token_reaches_the_cdn(hub, tmp_path):
    hub.commit("org/m", FILES, private=True, readers=[READER])
    assert download(hub, tmp_path, "model.safetensors", token=READER) == WEIGHTS
    assert {record.authorization for record in hub.log if record.host == "hub"} == {f"Bearer {READER}"}
    assert {record.authorization for record in hub.log if record.host == "cdn"} == {None}


# ---- who may have it


@pytest.mark.parametrize(
    ("access", "token", "error", "status"),
    [
        ({"private": True}, False, RepositoryNotFoundError, 401),
        ({"private": True}, STRANGER, RepositoryNotFoundError, 404),
        ({"gated": "manual"}, False, GatedRepoError, 401),
        ({"gated": "auto"}, STRANGER, GatedRepoError, 403),
        ({"disabled": True}, READER, DisabledRepoError, 403),
        ({}, "hf_nobody", HfHubHTTPError, 401),
    ],
)
def test_who_may_not_read_gets_the_error_for_it(hub, access, token, error, status):
    hub.commit("org/m", FILES, readers=[READER], **access)
    for question in (
        lambda: get_hf_file_metadata(hf_hub_url("org/m", "config.json", endpoint=hub.endpoint), token=token),
        lambda: api(hub, token=token).auth_check("org/m"),
    ):
        with pytest.raises(HfHubHTTPError) as raised:
            question()
        assert (type(raised.value), raised.value.response.status_code) == (error, status)


@pytest.mark.parametrize("access", [{"private": True}, {"gated": "manual"}])
def test_a_reader_may_read(hub, tmp_path, access):
    hub.commit("org/m", FILES, readers=[READER], **access)
    assert download(hub, tmp_path, "config.json", token=READER) == FILES["config.json"]
    api(hub, token=READER).auth_check("org/m")


def test_what_is_in_a_gated_repository_is_public(hub):
    hub.commit("org/m", FILES, gated="auto")
    assert api(hub).model_info("org/m").gated == "auto"
    assert list(api(hub).list_repo_tree("org/m"))


def test_access_stays_as_it_was_until_it_is_changed(hub):
    hub.commit("org/m", FILES, gated="auto")
    hub.commit("org/m", {"more.txt": b""}, private=False)
    assert api(hub).model_info("org/m").gated == "auto"


@pytest.mark.parametrize(
    ("question", "error"),
    [
        (lambda hub: api(hub).model_info("org/other"), RepositoryNotFoundError),
        (lambda hub: api(hub, token=READER).model_info("other"), RepositoryNotFoundError),
        (lambda hub: api(hub).model_info("org/m", revision="größer"), RevisionNotFoundError),
        (lambda hub: list(api(hub).list_repo_tree("org/m", revision="0" * 40)), RevisionNotFoundError),
        (lambda hub: get_hf_file_metadata(hf_hub_url("org/m", "x", endpoint=hub.endpoint)), RemoteEntryNotFoundError),
        (
            lambda hub: get_hf_file_metadata(hf_hub_url("org/m", "x", revision="v9", endpoint=hub.endpoint)),
            RevisionNotFoundError,
        ),
        (lambda hub: api(hub).dataset_info("org/m"), RepositoryNotFoundError),
    ],
)
def test_what_is_not_there_gets_the_error_for_it(
    hub, question: Callable[[LoopbackHub], object], error: type[HfHubHTTPError]
):
    hub.commit("org/m", FILES)
    with pytest.raises(error):
        question(hub)


def test_a_token_has_a_user(hub):
    assert api(hub, token=READER).whoami()["name"] == "tester"
    with pytest.raises(HfHubHTTPError):
        api(hub, token="hf_nobody").whoami()  # noqa: S106 - the token of nobody


# ---- revisions


def test_every_name_of_a_commit_leads_to_it(hub, tmp_path):
    first = hub.commit("org/m", {"a.txt": b"1"})
    second = hub.commit("org/m", {"a.txt": b"2"})
    hub.tag("org/m", "v1.0", first)
    pull_request = hub.commit("org/m", {"a.txt": b"3"}, "refs/pr/1")
    for revision, sha, data in (
        ("main", second, b"2"),
        ("v1.0", first, b"1"),
        (first, first, b"1"),
        (second[:7], second, b"2"),
        ("refs/pr/1", pull_request, b"3"),
    ):
        assert api(hub).model_info("org/m", revision=revision).sha == sha
        assert download(hub, tmp_path, "a.txt", revision=revision) == data
    refs = api(hub).list_repo_refs("org/m", include_pull_requests=True)
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", second)]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1.0", first)]
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests] == [("refs/pr/1", pull_request)]


def test_a_commit_adds_replaces_and_deletes(hub):
    hub.commit("org/m", {"a": b"1", "b": b"1"})
    hub.commit("org/m", {"b": None, "c": b"1"})
    assert api(hub).list_repo_files("org/m") == ["a", "c"]
    hub.commit("org/m", {"d": b"1"}, replace=True)
    assert api(hub).list_repo_files("org/m") == ["d"]


def test_a_commit_that_history_lost_is_gone(hub):
    first = hub.commit("org/m", {"a": b"1"})
    hub.commit("org/m", {"a": b"2"}, replace=True)
    assert api(hub).list_repo_files("org/m", revision=first) == ["a"]
    del hub.repos["org/m"].commits[first]
    with pytest.raises(RevisionNotFoundError):
        api(hub).list_repo_files("org/m", revision=first)


def test_the_same_commits_have_the_same_sha_on_every_run():
    def shas() -> list[str]:
        with LoopbackHub() as hub:
            return [hub.commit("org/m", FILES), hub.commit("org/m", FILES), hub.commit("org/n", FILES)]

    assert shas() == shas()
    assert len(set(shas())) == 3


def test_a_folder_that_is_added_again_takes_the_place_of_what_was_there(hub, tmp_path):
    (tmp_path / "old.txt").write_bytes(b"1")
    hub.add_directory("org/m", tmp_path)
    (tmp_path / "old.txt").rename(tmp_path / "new.txt")
    hub.add_directory("org/m", tmp_path)
    assert api(hub).list_repo_files("org/m") == ["new.txt"]


# ---- quotas


def test_a_used_up_quota_is_refused_until_its_window_ends():
    with LoopbackHub(api_limit=2, window=60) as hub:
        hub.commit("org/m", FILES)
        for _ in range(2):
            api(hub).model_info("org/m")
        with pytest.raises(HfHubHTTPError) as raised:
            api(hub).model_info("org/m")
        headers = raised.value.response.headers
        assert raised.value.response.status_code == 429
        assert headers["RateLimit"] == f'"api";r=0;t={headers["Retry-After"]}'
        assert headers["RateLimit-Policy"] == '"fixed window";"api";q=2;w=60'
        assert "2" in str(raised.value)
        assert "60s window" in str(raised.value)  # so the client has understood them
        get_hf_file_metadata(hf_hub_url("org/m", "config.json", endpoint=hub.endpoint), token=False)  # another bucket
        hub.clear()
        api(hub).model_info("org/m")


def test_the_client_waits_for_the_next_window_and_goes_on():
    with LoopbackHub(resolvers_limit=1, window=1) as hub:
        hub.commit("org/m", FILES)
        url = hf_hub_url("org/m", "config.json", endpoint=hub.endpoint)
        for _ in range(2):
            assert get_hf_file_metadata(url, token=False, retry_on_errors=True).size == len(FILES["config.json"])
        assert 429 in [record.status for record in hub.log]
