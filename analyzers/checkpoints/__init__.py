"""The only folder that touches files or the network: from a location to tensors and their bytes."""

from jaynes_audit.analyzers.checkpoints.locations import HubAccess, open_checkpoint
from jaynes_audit.analyzers.checkpoints.targets import expand
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Defect, Tensor, WeightFile

__all__ = ["Checkpoint", "Defect", "HubAccess", "Tensor", "WeightFile", "expand", "open_checkpoint"]
