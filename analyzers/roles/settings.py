"""The few settings of config.json that decide how a fused tensor is taken apart, and at which scale weights begin."""

import math
from collections.abc import Mapping

# Where a model made of several networks keeps the settings of each: stack -> keys, the likeliest first.
NESTED: dict[str, tuple[str, ...]] = {
    "": ("text_config", "llm_config", "language_config"),
    "text": ("text_config", "llm_config", "language_config"),
    "vision": ("vision_config",),
    "audio": ("audio_config",),
    "encoder": ("encoder",),
    "decoder": ("decoder",),
}

Settings = Mapping[str, object]


def settings_of(config: Settings, stack: str) -> Settings:
    """The settings of the network that a stack belongs to: its own if the model keeps them apart, else the model's."""
    for key in NESTED.get(stack, ()):
        nested = config.get(key)
        if isinstance(nested, Mapping):
            return nested
    return config


def whole(settings: Settings, *keys: str) -> int:
    """The first of these settings that is a positive whole number; 0, which fits no shape, if none is."""
    for key in keys:
        value = settings.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def initial_sd(settings: Settings) -> float | None:
    """The standard deviation that weight matrices begin with, where the settings declare one."""
    for key in ("initializer_range", "init_std"):
        value = settings.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            return float(value)
    return None


def word(settings: Settings, key: str) -> str:
    """A setting that is text; empty if it is absent or anything else."""
    value = settings.get(key)
    return value if isinstance(value, str) else ""


def heads(settings: Settings) -> int:
    """Query heads of one attention layer."""
    return whole(settings, "num_attention_heads", "n_head", "n_heads", "num_heads")


def key_value_heads(settings: Settings) -> int:
    """Key heads of one attention layer; 0 if the settings have no word for them."""
    return whole(settings, "num_key_value_heads", "num_kv_heads", "n_head_kv")
