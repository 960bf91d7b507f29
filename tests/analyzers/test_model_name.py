"""The name by which a model is known again, whatever machine it is on and however it was named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.model_name import model_name

NAMED = {
    "export": "export",
    "./export//": "export",
    "/srv/models/export/": "export",
    "a/../export": "export",
    "my model/größer 重み": "größer 重み",
    "runs/checkpoint-300": "checkpoint-300",
    "runs/Llama-3.1": "Llama-3.1",
    "tiny.Q4_K_M.gguf": "tiny.Q4_K_M",
    "runs/step.300.pt": "step.300",
    "runs/v@2.safetensors": "v@2",
    "export/tiny-00001-of-00003.safetensors": "tiny",
    "runs/tiny.sketches.safetensors": "tiny",
}

CALLED_AS_ALL_ARE = {
    "export/model.safetensors": "export",
    "export/pytorch_model.bin": "export",
    "export/adapter_model.safetensors": "export",
    "export/model-00001-of-00003.safetensors": "export",
    "export/model.safetensors.index.json": "export",
    "export/model.weights.h5": "export",
    "llama/consolidated.00.pth": "llama",
    "pipeline/unet/diffusion_pytorch_model.safetensors": "unet",
}

VARIANTS = {
    "export/model.fp16.safetensors": "export.fp16",
    "export/model.safetensors.index.fp16.json": "export.fp16",
    "export/model.fp16-00001-of-00002.safetensors": "export.fp16",
    "export/model-00001-of-00002.fp16.safetensors": "export.fp16",
}

PATTERNS = {
    "export/*.safetensors": "export",
    "export/model-*.safetensors": "export",
    "runs/*/model.safetensors": "runs",
    "runs/checkpoint-?00": "runs",
}

ON_THE_HUB = {
    "org/name": "name",
    "org/name@v1.0": "name",
    "org/name@refs/pr/1": "name",
    "hf://org/name": "name",
    "hf://org/name@5b25b9f": "name",
    "hf://org/name@refs%2Fpr%2F1": "name",
    "hf://org/name@refs/pr/1/model.safetensors": "name",
    "hf://models/org/name@main/model.safetensors": "name",
    "hf://gpt2": "gpt2",
    "hf://gpt2@main/model.safetensors": "gpt2",
    "hf://org/name@main/unet/diffusion_pytorch_model.fp16.safetensors": "unet.fp16",
    "hf://org/name@main/tiny.Q4_K_M.gguf": "tiny.Q4_K_M",
}

NAMELESS = ("/", "//", "hf://", "../" * 99)

IN_THE_WORKING_DIRECTORY = {
    **dict.fromkeys((".", "./", "", "*", "*.safetensors", "model.safetensors", "./model.safetensors"), "export"),
    "model.fp16.safetensors": "export.fp16",
    "..": "runs",
    "../model.safetensors": "runs",
    "../base": "base",
}


@pytest.mark.parametrize(
    ("location", "name"), [*NAMED.items(), *CALLED_AS_ALL_ARE.items(), *VARIANTS.items(), *PATTERNS.items()]
)
def test_a_model_is_called_as_its_file_or_its_folder_is(location: str, name: str) -> None:
    assert model_name(location) == name


@pytest.mark.parametrize(("location", "name"), ON_THE_HUB.items())
def test_a_model_on_the_hub_has_one_name_in_all_revisions(location: str, name: str) -> None:
    assert model_name(location) == name


@pytest.mark.parametrize("location", NAMELESS)
def test_a_place_that_says_nothing_of_the_model_is_called_model(location: str) -> None:
    assert model_name(location) == "model"


@pytest.mark.parametrize(("location", "name"), IN_THE_WORKING_DIRECTORY.items())
def test_what_lies_in_the_working_directory_is_called_as_that_is(
    location: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "export"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert model_name(location) == name


@given(st.one_of(st.text(), st.text(alphabet="a./@*-:hf01\n").map(lambda text: f"hf://{text}")))
def test_a_name_can_always_be_part_of_a_file_name(location: str) -> None:
    name = model_name(location)
    assert name not in {"", ".", ".."}
    assert "/" not in name


@given(st.text(alphabet=st.characters(exclude_characters="/@*?[]", exclude_categories=["Cs"]), min_size=1))
def test_the_same_folder_has_one_name_wherever_it_lies(folder: str) -> None:
    assert model_name(f"/home/one/{folder}/") == model_name(f"./{folder}") == model_name(folder)
