"""The metadata of a GGUF file -> the settings of a config.json, as far as the roles of tensors need them."""

from collections.abc import Mapping

ARCHITECTURE = "general.architecture"

# Key after the architecture's name -> key in config.json. Source: `Keys` in constants.py of llama.cpp's package gguf.
SETTINGS: dict[str, str] = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.kv_lora_rank": "kv_lora_rank",
    "rope.dimension_count": "qk_rope_head_dim",
    "ssm.state_size": "state_size",
    "ssm.time_step_rank": "time_step_rank",
    "expert_count": "num_experts",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}

ENCODER_DECODERS = frozenset({"t5"})


def config_of_gguf(metadata: Mapping[str, object]) -> dict[str, object]:
    """The settings that the metadata hold, under the keys of config.json; empty where they name no architecture.

    `model_type` is the architecture's name in llama.cpp with `gguf-` before it: tensors are stored there in ways of its
    own (GPT-2's are turned round, gpt-oss's experts are not, Gemma's gains have one added), so that what is known of
    the Hub's model of that name would mislead. Settings that differ from block to block are lists in the file and are
    left out.
    """
    architecture = metadata.get(ARCHITECTURE)
    if not isinstance(architecture, str) or not architecture:
        return {}
    config: dict[str, object] = {"model_type": f"gguf-{architecture}"}
    if architecture in ENCODER_DECODERS:
        config["is_encoder_decoder"] = True
    for key, setting in SETTINGS.items():
        value = metadata.get(f"{architecture}.{key}")
        if isinstance(value, int) and not isinstance(value, bool):
            config[setting] = value
    return config
