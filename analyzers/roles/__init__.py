"""Tensor name, shape and config.json -> what each weight matrix does in the network.

`role` lists the roles, `names` reads a name, `depth` its integers, `settings` the config, `splits` knows the layouts of
fused tensors, and `layout` joins them.
"""

from jaynes_audit.analyzers.roles.layout import Layout, Part, layout_of
from jaynes_audit.analyzers.roles.role import ENDS, HIDDEN_LAYERS, KEPT, Role
from jaynes_audit.analyzers.roles.stripes import Stripes

__all__ = ["ENDS", "HIDDEN_LAYERS", "KEPT", "Layout", "Part", "Role", "Stripes", "layout_of"]
