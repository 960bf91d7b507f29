"""config.json -> what it says of the quantiser. All of it is free text: whatever is not as expected is passed over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SECTIONS = ("quantization_config", "compression_config")  # the second is compressed-tensors' own older name
MOST_GROUPS = 64  # config groups of compressed-tensors; honest files have a handful
LARGEST_SIZE = 1 << 20  # of a block or a group, in weights along one axis
AXES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The quantiser's own settings: empty where the config.json says nothing of them.

    `method` is in lower case. `bits` and `group_sizes` are all that are named: a mixed model has several. `blocks` are
    sizes of blocks of weights, (outputs, inputs).
    """

    declared: bool = False
    method: str = ""
    version: str = ""
    checkpoint_format: str = ""
    bits: tuple[int, ...] = ()
    group_sizes: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()


def settings_of(config: Mapping[str, object]) -> Settings:
    """What a config.json says of the quantiser."""
    section = next((found for key in SECTIONS if isinstance(found := config.get(key), dict) and found), None)
    if section is None:
        return Settings()
    parts = tuple(_parts(section))
    return Settings(
        declared=True,
        method=_word(section, "quant_method"),
        version=_word(section, "version"),
        checkpoint_format=_word(section, "checkpoint_format"),
        bits=_sizes(parts, "bits", "num_bits", "w_bit"),
        group_sizes=_sizes(parts, "group_size", "q_group_size"),
        blocks=tuple(
            (block[0], block[1])
            for part in parts
            for key in ("weight_block_size", "block_structure")
            if isinstance(block := part.get(key), list) and len(block) == AXES and all(map(_is_size, block))
        ),
    )


def _parts(section: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The section itself, and what it says of the weights of each of its groups."""
    yield section
    groups = section.get("config_groups")
    if isinstance(groups, dict):
        for group in list(groups.values())[:MOST_GROUPS]:
            weights = group.get("weights") if isinstance(group, dict) else None
            if isinstance(weights, dict):
                yield weights


def _word(section: Mapping[str, object], key: str) -> str:
    value = section.get(key)
    return value.lower() if isinstance(value, str) else ""


def _sizes(parts: tuple[Mapping[str, object], ...], *keys: str) -> tuple[int, ...]:
    found = (part.get(key) for part in parts for key in keys)
    return tuple(dict.fromkeys(size for size in found if isinstance(size, int) and _is_size(size)))


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value <= LARGEST_SIZE
