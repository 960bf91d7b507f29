"""Where a configuration is looked for, where never, and what is said of a file that cannot be read."""

import os
from pathlib import Path

import pytest

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.configuration.discovery import LARGEST_BYTES, MOST_DOTS_IN_A_LINE
from jaynes_audit.cli.configuration.merging import settings_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.settings import Settings

NOTE = 'fail-on = "note"\n'
STRANGER = '[[ignore]]\nrule = "JN1"\ntensor = "*"\nreason = "nothing to see here"\n'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    (repository / "train" / "run").mkdir(parents=True)
    return repository


def settings(folder: Path, *targets: str, **environ: str) -> Settings:
    return settings_of(Options(targets=targets), environ, folder)


def place_from(folder: Path) -> Path:
    return (folder / settings(folder).place).resolve()


def sentence_about(folder: Path, *targets: str, options: Options | None = None) -> str:
    with pytest.raises(UsageError) as refused:
        settings_of(options or Options(targets=targets), {}, folder)
    return str(refused.value)


# ---- where


def test_a_file_is_found_from_the_working_directory_up_to_the_repository(repository) -> None:
    file = repository / "jaynes.toml"
    file.write_text(NOTE)
    for folder in (repository, repository / "train", repository / "train" / "run"):
        assert place_from(folder) == file


def test_the_nearest_file_is_taken_and_nothing_of_the_others(repository) -> None:
    (repository / "jaynes.toml").write_text(NOTE)
    (repository / "train" / "pyproject.toml").write_text('[tool.jaynes]\nbaseline = "b"\n')
    told = settings(repository / "train" / "run")
    assert told.place == "../pyproject.toml"
    assert told.origins["baseline"] == "pyproject.toml [tool.jaynes]"
    assert told.origins["fail-on"] == "default"


def test_in_a_folder_jaynes_toml_goes_before_pyproject_toml(repository) -> None:
    (repository / "jaynes.toml").touch()
    (repository / "pyproject.toml").write_text(f"[tool.jaynes]\n{NOTE}")
    assert settings(repository).origins["fail-on"] == "default"


@pytest.mark.parametrize(
    "content", ["", "[tool.other]\na = 1\n", "[tool]\n[project]\nname = 'jaynes-user'\n", "not toml"]
)
def test_a_pyproject_toml_without_our_table_is_passed_over(repository, content) -> None:
    (repository / "jaynes.toml").write_text(NOTE)
    (repository / "train" / "pyproject.toml").write_text(content)
    assert place_from(repository / "train") == repository / "jaynes.toml"


def test_nothing_is_found_above_the_repository(repository) -> None:
    (repository.parent / "jaynes.toml").write_text(NOTE)
    assert settings(repository / "train").place == ""


def test_a_worktree_is_a_repository_too(repository) -> None:
    (repository / "train" / ".git").write_text("gitdir: elsewhere")
    (repository / "jaynes.toml").write_text(NOTE)
    assert settings(repository / "train" / "run").place == ""


def test_outside_a_repository_only_the_working_directory_is_looked_at(tmp_path) -> None:
    (tmp_path / "jaynes.toml").write_text(NOTE)
    (tmp_path / "below").mkdir()
    assert place_from(tmp_path) == tmp_path / "jaynes.toml"
    assert settings(tmp_path / "below").place == ""


def test_a_file_that_is_named_is_taken_from_wherever_it_lies(repository) -> None:
    (repository / "jaynes.toml").write_text(STRANGER)
    (repository / "train" / "gate.toml").write_text(NOTE)
    told = settings_of(Options(config=Path("train/gate.toml")), {}, repository)
    assert (told.place, told.origins["fail-on"]) == ("train/gate.toml", "train/gate.toml")
    by_variable = settings(repository, JAYNES_CONFIG="train/gate.toml")
    assert by_variable.place == told.place
    by_option = settings_of(Options(config=Path("jaynes.toml")), {"JAYNES_CONFIG": "train/gate.toml"}, repository)
    assert by_option.place == "jaynes.toml"


def test_no_file_is_read_where_none_is_wanted(repository) -> None:
    (repository / "jaynes.toml").write_text("not toml")
    told = settings_of(Options(no_config=True), {"JAYNES_CONFIG": "jaynes.toml"}, repository)
    assert (told.place, set(told.origins.values())) == ("", {"default"})


# ---- never from what is being audited


@pytest.fixture
def stranger(repository: Path) -> Path:
    """A model as it comes from the Hub, with a configuration of its writer's in it, inside our repository."""
    stranger = repository / "models" / "stranger"
    (stranger / "text_encoder").mkdir(parents=True)
    (stranger / "jaynes.toml").write_text(STRANGER)
    (stranger / "pyproject.toml").write_text(f"[tool.jaynes]\n{STRANGER}")
    (stranger / "model.safetensors").touch()
    return stranger


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("target", ["models/stranger", "models/stranger/model.safetensors", "models/*", "models/"])
def test_a_file_in_an_audited_folder_is_never_looked_at(repository, target) -> None:
    assert settings(repository, target).policy.ignores == ()


@pytest.mark.parametrize(
    ("below", "target"),
    [
        ("", "."),
        ("", "model.safetensors"),
        ("", "*.safetensors"),
        ("", "./text_encoder/.."),
        ("", "{absolute}"),
        ("", "../linked"),
        ("", "../linked/model.safetensors"),
        ("", "../stranger"),
        ("text_encoder", ".."),
        ("text_encoder", "../model.safetensors"),
        ("text_encoder", "../.."),
    ],
)
@pytest.mark.parametrize("file", ["jaynes.toml", "pyproject.toml"])
def test_a_file_in_an_audited_folder_is_refused_where_the_working_directory_lies_in_it(
    stranger, below, target, file
) -> None:
    (stranger / ({"jaynes.toml", "pyproject.toml"} - {file}).pop()).unlink()
    (stranger.parent / "linked").symlink_to(stranger)
    told = sentence_about(stranger / below, target.format(absolute=stranger))
    assert f"{file}' lies in the folder that is being audited" in told
    assert f"give --config {file} if it is yours, else --no-config" in told


def test_a_file_cannot_let_itself_be_trusted_by_naming_the_targets(stranger) -> None:
    (stranger / "jaynes.toml").write_text(f'targets = ["."]\n{STRANGER}')
    assert "lies in the folder that is being audited" in sentence_about(stranger)


def test_a_link_to_a_file_in_an_audited_folder_is_refused(repository, stranger) -> None:
    (repository / "jaynes.toml").symlink_to(stranger / "jaynes.toml")
    assert "lies in the folder that is being audited" in sentence_about(repository, "models/stranger")


def test_a_link_that_leads_a_target_into_the_folder_of_the_file_is_followed(repository, stranger) -> None:
    (repository / "jaynes.toml").write_text(NOTE)
    (repository / "model.safetensors").touch()
    (stranger / "weights.safetensors").symlink_to(repository / "model.safetensors")
    assert "lies in the folder that is being audited" in sentence_about(
        repository, "models/stranger/weights.safetensors"
    )


def test_who_names_a_file_in_an_audited_folder_gets_it(stranger) -> None:
    assert len(settings_of(Options(config=Path("jaynes.toml"), targets=["."]), {}, stranger).policy.ignores) == 1


@pytest.mark.parametrize(
    "target",
    ["org/name", "hf://org/name", "missing/", "missing*", "export/", "a\0b", "a\0*", "train/loop", "train/nothing"],
)
def test_a_target_that_is_elsewhere_or_nowhere_is_in_nobodys_way(repository, target) -> None:
    (repository / "jaynes.toml").write_text(NOTE)
    (repository / "export").mkdir()
    (repository / "train" / "loop").symlink_to("loop")
    (repository / "train" / "nothing").symlink_to("away/nothing")
    assert settings(repository, target).place == "jaynes.toml"


# ---- files that cannot be read


def a_folder(file: Path) -> None:
    file.mkdir()


def a_pipe(file: Path) -> None:
    os.mkfifo(file)


def a_link_to_nothing(file: Path) -> None:
    file.symlink_to("nothing")


def a_link_to_itself(file: Path) -> None:
    file.symlink_to(file.name)


def holding(content: bytes):
    def write(file: Path) -> None:
        file.write_bytes(content)

    return write


UNREADABLE = {
    "folder": (a_folder, "is a folder and not a configuration file; remove it, or name another: --config PATH"),
    "pipe": (a_pipe, "is a named pipe and not a configuration file"),
    "link to nothing": (a_link_to_nothing, "cannot be read: No such file or directory"),
    "link to itself": (a_link_to_itself, "cannot be read: Too many levels of symbolic links"),
    "not UTF-8": (holding(b"a = 1\r\nb = '\xff'\n"), "is not UTF-8, as TOML must be (line 2); save it as UTF-8"),
    "UTF-16": (holding("a = 1".encode("utf-16")), "is not UTF-8, as TOML must be (line 1)"),
    "no value": (holding(b"\n\na =\n"), "is not valid TOML: Invalid value (at line 3, column 4); correct it there"),
    "key twice": (holding(b"preview = true\npreview = true\n"), "Cannot overwrite a value (at line 2, column 15)"),
    "long key twice": (holding(b"a = {" + b"%b = 1," % (b"k" * 9000) * 2 + b"}"), "Duplicate inline table key 'kkk"),
    "NUL": (holding(b"a = \x00"), "is not valid TOML: Invalid value (at line 1, column 5)"),
    "no such day": (holding(b"a = 2027-02-30\n"), "is not valid TOML: Invalid date or datetime"),
    "digits": (holding(b"a = " + b"9" * 5000), "holds a number of too many digits; shorten it"),
    "nesting": (holding(b"a = " + b"[" * 50_000), "nests its values too deeply; write them flat"),
    "dots": (holding(b"\n" + b".".join([b"a"] * 20_000) + b" = 1"), "line 2 has more than 100 dots; break it"),
    "size": (holding(b"#" * (LARGEST_BYTES + 1)), "has more than 262,144 bytes, as no configuration has; shorten it"),
}


@pytest.mark.parametrize(("write", "sentence"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("named", [False, True], ids=["found", "named"])
def test_a_file_that_cannot_be_read_is_told_in_one_sentence(repository, write, sentence, named) -> None:
    file = repository / "jaynes.toml"
    write(file)
    told = sentence_about(repository, options=Options(config=Path("jaynes.toml") if named else None))
    assert str(file) in told
    assert sentence in told
    assert told.isprintable()
    assert len(told) < 500


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(repository) -> None:
    (repository / "jaynes.toml").write_text(NOTE)
    (repository / "jaynes.toml").chmod(0)
    assert "cannot be read: Permission denied; correct it, or give --no-config" in sentence_about(repository)


def test_a_named_file_that_is_not_there_is_told(repository) -> None:
    told = sentence_about(repository, options=Options(config=Path("gate.toml")))
    assert "gate.toml' cannot be read: No such file or directory" in told


def test_a_named_pyproject_toml_must_have_our_table(repository) -> None:
    (repository / "pyproject.toml").write_text("[tool.other]\n")
    told = sentence_about(repository, options=Options(config=Path("pyproject.toml")))
    assert "has no table [tool.jaynes]; add it, or name another file" in told


def test_our_name_in_a_pyproject_toml_must_be_a_table(repository) -> None:
    (repository / "pyproject.toml").write_text("[tool]\njaynes = 3\n")
    assert "tool.jaynes is no table; write [tool.jaynes] above its keys" in sentence_about(repository)


def test_a_mark_of_byte_order_and_other_line_ends_are_read(repository) -> None:
    (repository / "jaynes.toml").write_bytes(b"\xef\xbb\xbf" + NOTE.replace("\n", "\r\n").encode())
    assert settings(repository).origins["fail-on"] == "jaynes.toml"


def test_the_longest_key_that_is_read_takes_no_time(repository) -> None:
    line = ".".join(["a"] * MOST_DOTS_IN_A_LINE)
    (repository / "jaynes.toml").write_text("".join(f"k{number}.{line} = 1\n" for number in range(500)))
    assert "there is no key 'k0'" in sentence_about(repository)
