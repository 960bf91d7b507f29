"""`jaynes sample`: initial weights drawn from lognormals, for the shapes of a checkpoint or a config.json."""

import math
import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaynes_audit.analyzers.errors import NothingToAudit, UsageError
from jaynes_audit.cli.exit_codes import CouldNotWrite, ExitCode

if TYPE_CHECKING:
    from jaynes_audit.analyzers.archive.archive import Archive
    from jaynes_audit.analyzers.checkpoints import Checkpoint
    from jaynes_audit.analyzers.sampling import Laws, Sample

CONFIG = "config.json"


class ScaleChoice(StrEnum):
    """The names of `sampling.Scale`, which takes NumPy to import."""

    NONE = "none"
    HE = "he"
    GLOROT = "glorot"


class DtypeChoice(StrEnum):
    """The formats that can be asked for; `Dtype` has their names in capitals."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="A checkpoint or a config.json with the shapes.", show_default=False)
]
Out = Annotated[
    Path, typer.Option("-o", "--output", metavar="OUT.safetensors", help="The file to write.", show_default=False)
]
Mu = Annotated[float | None, typer.Option("--mu", metavar="X", help="Mean of ln|w| of every matrix.")]
Sigma = Annotated[float | None, typer.Option("--sigma", metavar="Y", help="Standard deviation of ln|w|.")]
PerLayer = Annotated[
    bool, typer.Option("--per-layer", help="For each matrix the mu and sigma fitted to it; reads the checkpoint.")
]
ScaleOption = Annotated[
    ScaleChoice,
    typer.Option("--scale", help="rms of each matrix: he sqrt(2/fan_in), glorot sqrt(2/(fan_in + fan_out))."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Another seed gives other weights.")]
DtypeOption = Annotated[
    DtypeChoice | None,
    typer.Option("--dtype", help="Format of the floats; by default each tensor's own, and f32 for a config."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


def sample(
    target: Target,
    *,
    output: Out,
    mu: Mu = None,
    sigma: Sigma = None,
    per_layer: PerLayer = False,
    scale: ScaleOption = ScaleChoice.NONE,
    seed: Seed = 0,
    dtype: DtypeOption = None,
    force: Force = False,
) -> int:
    """Draw lognormal initial weights with random signs.

    Give --mu and --sigma, or --sigma and a --scale, or --per-layer.

    Exit status: 0 written, 2 misused, 3 nothing to draw, 4 could not read or write.
    """
    _refuse_contradiction(mu, sigma, scale, per_layer=per_layer)
    _refuse_place(output, force=force)
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers import sampling  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import Checkpoint  # noqa: PLC0415
    from jaynes_audit.analyzers.dtypes import Dtype  # noqa: PLC0415
    from jaynes_audit.cli.outputs import Format, Output  # noqa: PLC0415
    from jaynes_audit.cli.progress import progress  # noqa: PLC0415

    known = _opened(target, per_layer=per_layer)
    checkpoint = known if isinstance(known, Checkpoint) else known.checkpoint
    if output.resolve() in {file.resolve() for file in checkpoint.files if isinstance(file, Path)}:
        raise UsageError(f"{str(output)!r} is the TARGET itself; give another file for the sample")
    laws = sampling.scaled(_laws(known, mu, sigma), sampling.Scale(scale.value))
    drawn = sampling.sample(checkpoint, laws, Dtype(dtype.upper()) if dtype else None)
    law = _law_in_words(mu, sigma, scale)
    pieces = sampling.file_bytes(drawn, seed=seed, metadata=_metadata(checkpoint, law, scale, seed))
    with progress(str(output), lambda: drawn.stored_bytes, wanted=True) as advance:
        size = _write(output, pieces, advance)
    Output(format=Format.TABLE, path=None).write(_summary(output, drawn, f"{law}; seed {seed}", size))
    return ExitCode.PASSED


def _refuse_contradiction(mu: float | None, sigma: float | None, scale: ScaleChoice, *, per_layer: bool) -> None:
    if per_layer and (mu is not None or sigma is not None):
        raise UsageError("--per-layer takes mu and sigma from the checkpoint; give it without --mu and --sigma")
    if per_layer:
        return
    if sigma is None:
        raise UsageError("the law is not given: --sigma with --mu or a --scale, or else --per-layer")
    if mu is None and scale is ScaleChoice.NONE:
        raise UsageError("--mu is not given; give it, or a --scale that sets it")
    if mu is not None and scale is not ScaleChoice.NONE:
        raise UsageError(f"--scale {scale} sets mu by itself; give one of --mu and --scale")
    if not (math.isfinite(sigma) and sigma > 0):
        raise UsageError(f"--sigma {sigma} is no standard deviation; give a number above 0")
    if mu is not None and not math.isfinite(mu):
        raise UsageError(f"--mu {mu} is no mean; give a finite number")


def _refuse_place(path: Path, *, force: bool) -> None:
    """Find out before anything is read that the file cannot or must not be written."""
    try:
        exists, is_file, has_folder = path.exists(), path.is_file(), path.parent.is_dir()
    except OSError as error:
        raise _cannot_write(path, error) from error
    if exists and not is_file:
        raise CouldNotWrite(f"{str(path)!r} is not a file; name one")
    if not has_folder:
        raise CouldNotWrite(f"there is no folder {str(path.parent)!r} to write {path.name!r} to")
    if exists and not force:
        raise UsageError(f"{str(path)!r} exists; give another name, or --force to replace it")


def _cannot_write(path: Path, error: OSError) -> CouldNotWrite:
    return CouldNotWrite(f"{str(path)!r} cannot be written: {error.strerror or error}")


def _opened(target: str, *, per_layer: bool) -> "Checkpoint | Archive":
    from jaynes_audit.analyzers.archive.archive import open_target  # noqa: PLC0415 - see sample
    from jaynes_audit.analyzers.checkpoints import expand  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.families import is_index  # noqa: PLC0415

    first, *others = expand([target])
    if others:
        raise UsageError(f"{target!r} means {len(others) + 1:,} checkpoints, and one sample has the shapes of one")
    path = Path(first)
    config = path / CONFIG
    if path.suffix == config.suffix and not is_index(path.name):
        config = path
    else:
        try:
            return open_target(first)
        except NothingToAudit:
            if not config.is_file():
                raise
    if per_layer:
        raise UsageError(f"{str(config)!r} has no weights to take a law from; give --mu and --sigma")
    from jaynes_audit.analyzers.sampling import checkpoint_of_config  # noqa: PLC0415

    os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers when it is imported: it may look for nothing outside
    return checkpoint_of_config(config)


def _laws(known: "Checkpoint | Archive", mu: float | None, sigma: float | None) -> "Laws":
    from jaynes_audit.analyzers.archive.archive import Archive  # noqa: PLC0415 - see sample
    from jaynes_audit.analyzers.archive.audited import audit_archive  # noqa: PLC0415
    from jaynes_audit.analyzers.audit import audit_checkpoint  # noqa: PLC0415
    from jaynes_audit.analyzers.sampling import Lognormal, one_law, own_laws  # noqa: PLC0415

    if sigma is None:
        return own_laws(audit_archive(known) if isinstance(known, Archive) else audit_checkpoint(known))
    return one_law(Lognormal(log_mean=mu or 0.0, log_sigma=sigma))  # a scale sets the mean where there is none


def _law_in_words(mu: float | None, sigma: float | None, scale: ScaleChoice) -> str:
    center = f"mu {mu}" if mu is not None else "own mu" if scale is ScaleChoice.NONE else f"mu of --scale {scale}"
    return f"LN({center}, {'own sigma' if sigma is None else f'sigma {sigma}'})"


def _metadata(checkpoint: "Checkpoint", law: str, scale: ScaleChoice, seed: int) -> dict[str, str]:
    from importlib.metadata import version  # noqa: PLC0415 - help does without

    return {
        "format": "pt",  # transformers refuses a file that does not say so
        "jaynes_version": version("jaynes-audit"),
        "jaynes_source": Path(checkpoint.location).resolve().name,  # folders above it are nobody's business
        "jaynes_law": law,
        "jaynes_scale": scale,
        "jaynes_seed": str(seed),
    }


def _write(path: Path, pieces: Iterable[bytes], advance: Callable[[int], None]) -> int:
    """Write a file as a whole or not at all, and give its length in bytes."""
    target = path.resolve()  # what a symbolic link leads to, not the link
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    size = 0
    try:
        with draft.open("xb") as stream:
            for piece in pieces:
                size += stream.write(piece)
                advance(len(piece))
        draft.replace(target)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return size


def _summary(path: Path, drawn: "Sample", how: str, size: int) -> str:
    from jaynes_audit.cli.visible import visible  # noqa: PLC0415 - see sample

    written = (
        f"{path}: {drawn.matrices:,} weight matrices with {drawn.weights:,} weights of random sign from {how}; "
        f"{size:,} bytes"
    )
    return "".join(f"{visible(line)}\n" for line in (written, *drawn.remarks))
