"""The only folder that touches files or the network: from a location to tensors and their bytes."""

from jaynes_audit.analyzers.checkpoints.local import open_local
from jaynes_audit.analyzers.checkpoints.targets import expand
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor, WeightFile

__all__ = ["Checkpoint", "Defect", "Tensor", "WeightFile", "expand", "open_checkpoint"]


def open_checkpoint(location: str) -> Checkpoint:
    """The checkpoint at a location, read as far as its headers; see `local.open_local` for what is raised."""
    return open_local(location)
