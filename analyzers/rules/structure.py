"""Rules about how the layers of a model fit together, that need no baseline to compare with."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.rules.copies import duplicate_tensor, repeated_layer
from jaynes_audit.analyzers.rules.declared import config_mismatch
from jaynes_audit.analyzers.rules.regularity import irregular_block
from jaynes_audit.analyzers.rules.rule import LayerRule, Level, ModelRule, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

# Words that only a wrapper puts into a path, wherever they stand, and what it is.
WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "fully sharded data parallel training",
    "_flat_param": "fully sharded data parallel training",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
OUTERMOST = {"module": "data parallel training"}  # further inside, a network may have a module of this name

# What optimisers keep of a parameter. Names that a network might have too (`step`, `mu`, `nu`) are not among them.
OPTIMISERS = frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg"})
STATE = "the state of an optimiser"

ADAPTERS = (".lora_A", ".lora_B")  # with an adapter of an embedding PEFT saves the embedding, too
BASES = ("", ".base_layer")  # PEFT moves the weights that an adapter is for into a module of their own
UNMERGED = "a LoRA adapter beside the weights that it is for, not merged into them"


@model_rule("JN206", "wrapper-residue", Level.WARNING, precision=Precision.HIGH)
def wrapper_residue(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """Names of tensors tell of a training wrapper, of an optimiser's state, or of an adapter that was not merged.

    An adapter by itself is none of these.

    Why it matters: loaders do not find the names that they look for, or load what is no part of the model.
    What to do: save the bare model: unwrap it, merge the adapter, and leave the optimiser to the training checkpoint.
    Example: module.layers.0.mlp.up_proj.weight: its name tells of data parallel training (291 tensors, by 'module')
    """
    left_out = (each.name.partition("[")[0] for each in audit.left_out)
    names = list(dict.fromkeys([*(each.tensor for each in audit), *left_out]))
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    present = set(names)
    for name in names:
        for word, what in _residues(name):
            found[what].append((name, word))
    for layer in audit:
        if layer.role in {Role.LORA_A, Role.LORA_B} and _is_beside_its_base(layer.tensor, present):
            found[UNMERGED].append((layer.tensor, layer.tensor.rpartition(".lora_")[1].strip(".")))
    for what, of_kind in found.items():
        name, word = of_kind[0]
        tensors = "1 tensor" if len(of_kind) == 1 else f"{len(of_kind):,} tensors"
        yield name, f"its name tells of {what} ({tensors}, by {quoted(word)})"


def _residues(name: str) -> Iterator[tuple[str, str]]:
    words = name.split(".")
    if words[0] in OUTERMOST:
        yield words[0], OUTERMOST[words[0]]
    for word in dict.fromkeys(words):
        if word in WRAPPERS:
            yield word, WRAPPERS[word]
        elif word in OPTIMISERS:
            yield word, STATE


def _is_beside_its_base(name: str, present: set[str]) -> bool:
    for adapter in ADAPTERS:
        module, found, _ = name.partition(adapter)
        if found and any(f"{module}{base}.weight" in present for base in BASES):
            return True
    return False


STRUCTURE_RULES: tuple[LayerRule | ModelRule, ...] = (
    duplicate_tensor,
    repeated_layer,
    config_mismatch,
    wrapper_residue,
    irregular_block,
)
