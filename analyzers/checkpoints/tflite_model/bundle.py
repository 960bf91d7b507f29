"""MediaPipe's bundles (`.task`): a zip of TensorFlow Lite models, stored as they are, and of other such bundles.

Source: MediaPipe's `model_asset_bundle_utils.py`, which stores every member uncompressed.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from jaynes_audit.analyzers.checkpoints.content import Content
from jaynes_audit.analyzers.checkpoints.file_part import file_part
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.checkpoints.tflite_model.model import looks_like_tflite, read_model
from jaynes_audit.analyzers.checkpoints.zip_archive import LOCAL_HEADER, STORED, members
from jaynes_audit.analyzers.errors import RefusedFile

ZIP = b"PK\3\4"
DEEPEST = 2  # bundles in bundles: the gesture recogniser's has the hand landmarker's in it
TELLING = 8  # first bytes of a member, by which a model and a bundle are told


class _Part(NamedTuple):
    """A member of the bundle: `size` bytes of the file from byte `start`."""

    start: int
    size: int


def looks_like_task(head: bytes, size: int) -> bool:
    """Whether the first bytes are those of a zip whose first member is a stored model, or such a zip itself."""
    for _ in range(DEEPEST):
        if not head.startswith(ZIP) or len(head) < LOCAL_HEADER.size:
            return False
        name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(head)[-2:]
        head = head[LOCAL_HEADER.size + name_bytes + extra_bytes :]
        if looks_like_tflite(head, size):
            return True
    return False


def read_task(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The constant tensors of every model in a bundle; their names begin with the model's and `/` if it has several.

    Raises:
        RefusedFile: JN009 when the zip is not sound or a model in it is deflated, JN002 when it holds none, else as
            `read_tflite` does.
    """
    models: dict[str, _Part] = {}
    for name, part in _models(stream, "", _Part(0, size), DEEPEST):
        if name in models:
            raise RefusedFile(
                f"this bundle has two models called {quoted(name)}; bundle it again",
                rule="JN009",
                case="task-two-models",
            )
        models[name] = part
    if not models:
        raise RefusedFile(
            "this zip archive holds no TensorFlow Lite model; name a file with weights",
            rule="JN002",
            case="task-without-model",
        )
    found = WeightFile(file=file, tensors=())
    for name, part in models.items():
        content = Content(stream, kind="TensorFlow Lite", start=part.start, size=part.size)
        found = _joined(found, read_model(content, file), f"{name}/" if len(models) > 1 else "")
    return found


def _models(stream: BinaryIO, folder: str, bundle: _Part, depth: int) -> Iterator[tuple[str, _Part]]:
    """The models in a bundle, and those in the bundles in it, each with the names that lead to it."""
    for member in members(file_part(stream, bundle.start, bundle.size), bundle.size).values():
        name = folder + member.name.removesuffix(".tflite").removesuffix(".task")
        part = _Part(bundle.start + member.start, member.size)
        if member.method != STORED:
            if member.name.endswith((".tflite", ".task")):
                raise RefusedFile(
                    f"this bundle has its model {quoted(member.name)} deflated, so it cannot be read in place; unpack "
                    "it and audit the .tflite file",
                    rule="JN009",
                    case="task-deflated-model",
                )
            continue
        stream.seek(part.start)
        beginning = stream.read(min(TELLING, part.size))
        if looks_like_tflite(beginning, part.size):
            yield name, part
        elif beginning.startswith(ZIP) and depth > 1:
            yield from _models(stream, f"{name}/", part, depth - 1)


def _joined(found: WeightFile, more: WeightFile, prefix: str) -> WeightFile:
    return replace(
        found,
        tensors=(*found.tensors, *(replace(each, name=prefix + each.name) for each in more.tensors)),
        aliases={**found.aliases, **{prefix + name: prefix + kept for name, kept in more.aliases.items()}},
        undecoded={**found.undecoded, **{prefix + name: reason for name, reason in more.undecoded.items()}},
        remarks=(*found.remarks, *more.remarks),
    )
