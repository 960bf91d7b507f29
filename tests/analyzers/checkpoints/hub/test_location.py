"""How models on the Hub are named."""

import pytest
from huggingface_hub.errors import HfUriError
from huggingface_hub.utils import parse_hf_uri
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.hub.location import HubLocation, hub_location
from jaynes_audit.analyzers.errors import UsageError

READ = (
    ("org/name", "org/name", "main", ""),
    ("org/name@v1.0", "org/name", "v1.0", ""),
    ("org/name@refs/pr/1", "org/name", "refs/pr/1", ""),
    ("org/name@refs%2Fpr%2F1", "org/name", "refs/pr/1", ""),
    ("org/name@feature%2Fx", "org/name", "feature/x", ""),
    ("hf://org/name", "org/name", "main", ""),
    ("hf://org/name/", "org/name", "main", ""),
    ("hf://models/org/name", "org/name", "main", ""),
    ("hf://org/name/unet/model.safetensors", "org/name", "main", "unet/model.safetensors"),
    ("hf://org/name@dev/unet", "org/name", "dev", "unet"),
    ("hf://org/name@refs/pr/12/unet", "org/name", "refs/pr/12", "unet"),
    ("hf://org/name@refs/convert/parquet/x", "org/name", "refs/convert/parquet", "x"),
    ("hf://org/name@refs%2Fheads%2Fx/unet", "org/name", "refs/heads/x", "unet"),
    ("hf://org/name/step@10/model.bin", "org/name", "main", "step@10/model.bin"),
    ("hf://gpt2", "gpt2", "main", ""),
    ("hf://gpt2@e7da7f2/model.safetensors", "gpt2", "e7da7f2", "model.safetensors"),
)


@pytest.mark.parametrize(("text", "repo", "revision", "path"), READ)
def test_a_name_is_read_as_people_write_it(text: str, repo: str, revision: str, path: str) -> None:
    assert hub_location(text) == HubLocation(repo=repo, revision=revision, path=path)


@pytest.mark.parametrize("text", [text for text, repo, _, _ in READ if text.startswith("hf://") and "/" in repo])
def test_an_address_means_what_it_means_to_huggingface_hub(text: str) -> None:
    theirs = parse_hf_uri(text.rstrip("/"))
    ours = hub_location(text)
    assert (ours.repo, ours.revision, ours.path) == (theirs.id, theirs.revision or "main", theirs.path_in_repo)


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("https://huggingface.co/org/name", "web address"),
        ("hf://datasets/org/name", "datasets"),
        ("hf://buckets/org/name", "buckets"),
        ("gpt2", "hf://gpt2"),
        ("org/name/sub", "hf://"),
        ("org/name@feature/x", "%2F"),
        ("hf://", "no name of a model"),
        ("org/na me", "no name of a model"),
        ("../name", "no name of a model"),
        ("org/..", "no name of a model"),
        ("org/a--b", "no name of a model"),
        ("org/name.git", "no name of a model"),
        ("org/" + "x" * 97, "no name of a model"),
        ("org/name@", "no revision"),
        ("org/name@..%2F..%2Fx", "no revision"),
        ("org/name@-x", "no revision"),
        ("org/name@a b", "no revision"),
        ("org/name@%00", "no revision"),
        ("hf://org/name/../x", "no path"),
        ("hf://org/name//x", "no path"),
        ("hf://org/name/a\x1b[31m", "no path"),
    ],
)
def test_what_names_no_model_is_a_mistake_that_is_explained(text: str, mention: str) -> None:
    with pytest.raises(UsageError, match=mention) as caught:
        hub_location(text)
    assert str(caught.value).isprintable()


@given(st.text() | st.text(alphabet="ab/@:.%2F-_hf ").map(lambda text: f"hf://{text}"))
def test_any_text_is_a_location_or_a_mistake(text: str) -> None:
    try:
        location = hub_location(text)
    except UsageError:
        return
    assert hub_location(str(location)) == location


@given(st.text(alphabet="ab/@.%2F-_refsp1", min_size=1).map(lambda text: f"hf://org/name{text}"))
def test_no_address_means_something_else_than_to_huggingface_hub(text: str) -> None:
    try:
        ours = hub_location(text)
        theirs = parse_hf_uri(text)
    except (UsageError, HfUriError):
        return
    assert (ours.repo, ours.revision, ours.path) == (theirs.id, theirs.revision or "main", theirs.path_in_repo)
