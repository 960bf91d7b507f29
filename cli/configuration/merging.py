"""Options, environment, file, defaults -> what holds, and where each part of it comes from."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.rules.policy import Policy
from jaynes_audit.cli.configuration.discovery import ConfigurationFile, found_from, named, refuse_audited
from jaynes_audit.cli.configuration.file import Configuration
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.policy import Place, policy_of
from jaynes_audit.cli.configuration.settings import Settings
from jaynes_audit.cli.configuration.sources import (
    key_of,
    layer_of_environment,
    layer_of_file,
    layer_of_options,
    refuse_both,
)
from jaynes_audit.cli.configuration.suggestion import suggestion
from jaynes_audit.cli.outputs import Format

DEFAULT_ORIGIN = "default"
FILE_VARIABLE = "JAYNES_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What holds for a run, in the words of a configuration file; all paths count from the working directory.

    `origins` says of each key where it comes from. `file` is None where there is none, and `of_file` what it names to
    be audited.
    """

    configuration: Configuration
    origins: Mapping[str, str]
    policy: Policy
    file: ConfigurationFile | None
    of_file: tuple[str, ...] = ()


def settings_of(options: Options, environ: Mapping[str, str], folder: Path) -> Settings:
    """Gather what holds for a run in a working directory, which is an absolute path.

    Of each key an option goes before a variable of the environment, that before the file, and the file before the
    default. Lists are not added up.

    Raises:
        UsageError: when anything is said that has no meaning, or the file lies in what is being audited.
    """
    effective = effective_of(options, environ, folder)
    configuration = effective.configuration
    return Settings(
        targets=configuration.targets,
        leaves_out_targets=not _places(configuration.targets) >= _places(effective.of_file),
        baseline=configuration.baseline,
        require_base_ref=configuration.require_base_ref,
        fail_on=configuration.fail_on,
        outputs=configuration.output,
        allow_pickle=configuration.allow_pickle,
        policy=effective.policy,
        place=os.path.relpath(effective.file.path, folder) if effective.file else "",
        origins=effective.origins,
    )


def effective_of(options: Options, environ: Mapping[str, str], folder: Path) -> Effective:
    """Gather the same as `settings_of`, for showing it. Raises UsageError."""
    file = _file(options, environ, folder)
    layers = [layer_of_environment(environ), layer_of_options(options)]
    of_file: tuple[str, ...] = ()
    if file:
        layers.insert(0, layer_of_file(file, folder))
        of_file = layers[0].said.targets
    configuration = Configuration()
    keys = configuration.__struct_encode_fields__
    origins = dict.fromkeys(keys, DEFAULT_ORIGIN)
    places: dict[str, Place] = dict.fromkeys(keys, str)
    for layer in layers:
        changed = {key.replace("-", "_"): getattr(layer.said, key.replace("-", "_")) for key in layer.origins}
        configuration = msgspec.structs.replace(configuration, **changed)
        origins |= layer.origins
        places |= dict.fromkeys(layer.origins, layer.place)
    if file and file.was_found:
        refuse_audited(file, configuration.targets, folder)

    def place(path: str) -> str:
        return places[key_of(path)](path)

    _check_outputs(configuration, place)
    policy = policy_of(configuration, place, file=file.label if file else "")
    return Effective(configuration=configuration, origins=origins, policy=policy, file=file, of_file=of_file)


def _places(targets: Iterable[str]) -> set[str]:
    """Targets, each in one spelling."""
    return {os.path.normpath(target) for target in targets}


def _file(options: Options, environ: Mapping[str, str], folder: Path) -> ConfigurationFile | None:
    if options.no_config:
        refuse_both("--config", "--no-config", options.config)
        return None
    name = str(options.config) if options.config else environ.get(FILE_VARIABLE)
    return named(name, folder) if name else found_from(folder)


def _check_outputs(configuration: Configuration, place: Place) -> None:
    for number, output in enumerate(configuration.output):
        name = output.partition("=")[0]
        if name not in list(Format):
            hint = suggestion(name, Format)
            raise UsageError(f"{place(f'$.output[{number}]')}: there is no format {quoted(name)}; {hint}")
