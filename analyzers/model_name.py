"""The short name of a model, for file names and for findings that must be known again on another machine."""

import os
import re
from posixpath import basename, dirname, join, normpath

from jaynes_audit.analyzers.checkpoints.families import ADAPTER, SKETCHES_SUFFIX, SUFFIXES, WHOLE_MODELS
from jaynes_audit.analyzers.checkpoints.hub.location import SCHEME

NAMELESS = "model"  # of a place that says nothing of what is in it: "/", or ".." below it

_ENDINGS = "|".join(re.escape(each) for each in (SKETCHES_SUFFIX, ".weights.h5", *SUFFIXES))
_FILE = re.compile(rf"(?P<stem>.*?)(?:{_ENDINGS})(?:\.index(?:\.(?P<variant>[^.]+))?\.json)?", re.DOTALL)
_SHARD = re.compile(r"-\d{1,6}-of-\d{1,6}")
_GENERAL = re.compile(rf"(?:{'|'.join((*WHOLE_MODELS, ADAPTER, 'weights', 'checkpoint'))})(?:\.(?P<variant>[^.]+))?")
_PATTERN = re.compile(r"[*?\[\]]")
_OF_THE_HUB = re.compile(r"(?:models/)?(?P<repo>[^/@]+(?:/[^/@]+)?)(?:@(?:refs/(?:pr|convert)/)?[^/]*)?(?P<path>/.*)?")
_IN_A_VERSION = re.compile(rf"{SCHEME}[^@]*@[^/]*/")
_SLASHED_REVISION = re.compile(r"@refs/(?:pr|convert)/[^/]+$")


def model_name(location: str) -> str:
    """Give the last part of a path or of a name on the Hub, without the ending of a file and without revision.

    A file that is called as all are takes the name of its folder, and so does a pattern: `export/model.safetensors` and
    `export/*.safetensors` are `export`; a variant is another model: `export/model.fp16.safetensors` is `export.fp16`.
    What lies in the working directory takes its name: in `export`, so do `.` and `model.safetensors`. The name is never
    empty, has no slash in it, and is neither `.` nor `..`.
    """
    *folders, last = [each for each in _path(location).split("/") if each not in {"", ".", ".."}] or [""]
    folder = next((each for each in reversed(folders) if not _PATTERN.search(each)), "") or _around(location)
    is_pattern = _PATTERN.search(last) is not None
    file = _FILE.fullmatch(last)
    if file is None:
        return folder if is_pattern or not last else last.partition("@")[0] or last
    stem = _SHARD.sub("", _PATTERN.sub("", file["stem"])).rstrip(".-")
    general = _GENERAL.fullmatch(stem)
    if stem and not general and not is_pattern:
        return stem
    variant = file["variant"] or (general["variant"] if general else "") or ""
    return f"{folder}.{variant}" if variant and not variant.isdecimal() else folder


def lasting_subject(subject: str, target: str) -> str:
    """Give what a finding is about as any machine would call it: a file by its place in the model's folder.

    `target` is where the model is; a finding about the whole of it is about the model of that name.
    """
    if subject == target:
        return model_name(target)
    if subject.startswith(SCHEME):
        return _IN_A_VERSION.sub("", subject)
    folder = normpath(target)
    for each in (folder, dirname(folder)):  # a target may also be the index of the files beside it
        if each and subject.startswith(f"{each.rstrip('/')}/"):
            return subject.removeprefix(f"{each.rstrip('/')}/")
    return subject


def _around(location: str) -> str:
    """The folder that a path leads to which names none: by the working directory, without a look at any file."""
    if location.startswith((SCHEME, "/")):
        return NAMELESS
    above = [each for each in location.split("/") if each == ".."]
    try:
        return basename(normpath(join(os.getcwd(), *above))) or NAMELESS  # noqa: PTH109 - a text is all that is asked for
    except OSError:  # the working directory is gone
        return NAMELESS


def _path(location: str) -> str:
    """The location as a path: that of a Hub's model without its revision."""
    if not location.startswith(SCHEME):
        return _SLASHED_REVISION.sub("", location)
    found = _OF_THE_HUB.match(location.removeprefix(SCHEME))
    return f"{found['repo']}{found['path'] or ''}" if found else location.removeprefix(SCHEME)
