"""Evidence of weights that were written to a file and measured there, as the audit does it."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.checkpoints.training_state.state import TrainingState
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import layers_of
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Pairing, Parameter
from jaynes_audit.analyzers.thermodynamics.lora import share_beyond
from jaynes_audit.analyzers.thermodynamics.measuring import measure
from jaynes_audit.analyzers.thermodynamics.symmetries import symmetries_of

Array = npt.NDArray[np.floating]


def measured_evidence(
    folder: Path,
    weights: Mapping[str, Array],
    config: Mapping[str, object],
    *,
    training: TrainingState | None = None,
    decay: float | None = None,
) -> Evidence:
    """Save weights with their config in a folder, and measure them there."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(each) for name, each in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(str(folder))
    layers = [each for tensor in checkpoint.tensors for each in layers_of(tensor, checkpoint.config_of(tensor.name))]
    with Sources(Io.PREAD) as sources:
        sums = measure(layers, {}, sources).sums
        beyond = {each.name: share_beyond(each, sources) for each in layers if each.part.role is Role.LORA_A}
    training = training or TrainingState()
    return Evidence(
        target=str(folder),
        config=checkpoint.config_of(""),
        parameters={
            each.name: Parameter(
                layer=each,
                sums=sums[each.name],
                group=None,
                weight_decay=decay,
                steps=training.steps,
                share_beyond=beyond.get(each.name),
            )
            for each in layers
        },
        symmetries=symmetries_of(layers, checkpoint.config_of(""), checkpoint.aliases),
        training=training,
        pairing=Pairing(),
    )
