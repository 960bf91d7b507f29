"""The same network in files of other kinds: cast, cut into shards, quantised, as GGUF or pickled."""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from families.networks import State, write_config
from families.rewritings import blocks_of
from gguf.quants import quantize
from safetensors.torch import save_file
from torch import Tensor
from transformers import PretrainedConfig

SHARDS = 3
E4M3_LARGEST = 448.0
GPTQ_BITS = 4
GPTQ_GROUP = 32  # weights along the input that share a scale; 128 is usual, and wider than these networks
WORD_BITS = 32
GGUF_BLOCK = 32  # weights along the input that share a scale
CONV1D = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
"""What GPT-2 stores with the inputs first."""
KEPT_PLAIN = ("embed", "wte", "wpe", "lm_head", "cls.")
"""What quantisers leave as it is: embeddings and heads."""


def write_cast(folder: Path, state: State, config: PretrainedConfig, *, dtype: torch.dtype) -> None:
    """Every weight rounded to another number format."""
    _write(folder, {name: tensor.to(dtype) for name, tensor in state.items()}, config)


def write_shards(folder: Path, state: State, config: PretrainedConfig) -> None:
    """Three files with an index; names in turn, so that blocks are torn apart."""
    folder.mkdir(parents=True, exist_ok=True)
    place = {name: f"model-{at % SHARDS + 1:05}-of-{SHARDS:05}.safetensors" for at, name in enumerate(state)}
    for file in sorted(set(place.values())):
        save_file({name: tensor.contiguous() for name, tensor in state.items() if place[name] == file}, folder / file)
    total = sum(tensor.nbytes for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    write_config(folder, config)


def write_pickle(file: Path, state: State) -> None:
    """A file of torch.save."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, file)


def write_fp8(folder: Path, state: State, config: PretrainedConfig) -> None:
    """FP8 with a scale for each matrix, as compressed-tensors stores it."""
    stored = {}
    for name, tensor in state.items():
        if _is_quantised(name, tensor):
            scale = tensor.abs().max() / E4M3_LARGEST
            stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale"] = scale.reshape(1)
        else:
            stored[name] = tensor.to(torch.bfloat16)
    arguments = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}},
        "ignore": ["lm_head"],
    }
    _write(folder, stored, config, quantization_config=settings)


def write_gptq(folder: Path, state: State, config: PretrainedConfig) -> None:
    """Four bits in groups, symmetric, packed as AutoGPTQ packs them; each weight rounded to the nearest code."""
    stored = {}
    for name, tensor in state.items():
        if _is_quantised(name, tensor):
            stored |= _gptq(name.removesuffix("weight"), tensor.T if name.endswith(CONV1D) else tensor)
        else:
            stored[name] = tensor.half()
    settings = {
        "quant_method": "gptq",
        "bits": GPTQ_BITS,
        "group_size": GPTQ_GROUP,
        "sym": True,
        "desc_act": False,
        "checkpoint_format": "gptq",
    }
    _write(folder, stored, config, quantization_config=settings)


def write_gguf(file: Path, state: State, config: PretrainedConfig, *, kind: str) -> None:
    """One file with llama.cpp's names, matrices in blocks of `kind` and the rest in float32, as its converter does.

    What GGUF has no name for, as BERT's head, is left out.
    """
    architecture = {"llama": "llama", "qwen2": "qwen2", "gpt2": "gpt2", "bert": "bert"}[config.model_type]
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), blocks_of(config))
    wanted = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(blocks_of(config))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", config.num_attention_heads))
    for name, tensor in state.items():
        new = names.get_name(name.removeprefix("bert."), try_suffixes=(".weight", ".bias"))
        if new is None or name.startswith("cls."):
            continue
        array = (tensor.T if name.endswith(CONV1D) else tensor).contiguous().numpy()
        plain = tensor.ndim == 1 or array.shape[-1] % GGUF_BLOCK or "position" in new or "token_types" in new
        numbers = gguf.GGMLQuantizationType.F32 if plain else wanted
        writer.add_tensor(new, quantize(array, numbers), raw_dtype=numbers)
    file.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _is_quantised(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.ndim > 1 and not any(part in name for part in KEPT_PLAIN)


def _gptq(name: str, weight: Tensor) -> State:
    """The tensors of one layer; `weight` is (outputs, inputs)."""
    outputs, inputs = weight.shape
    half = 1 << GPTQ_BITS - 1
    groups = weight.reshape(outputs, inputs // GPTQ_GROUP, GPTQ_GROUP)
    scales = (2 * groups.abs().amax(-1) / ((1 << GPTQ_BITS) - 1)).half()
    codes = torch.clamp(torch.round(groups / scales[:, :, None].float()) + half, 0, 2 * half - 1)
    codes = codes.reshape(outputs, inputs).numpy().astype(np.uint32)
    zeros = np.full((outputs, inputs // GPTQ_GROUP), half - 1, np.uint32)  # AutoGPTQ stores them less one
    return {
        f"{name}qweight": _packed(codes.T),
        f"{name}qzeros": _packed(zeros).T,
        f"{name}scales": scales.T,
        f"{name}g_idx": torch.arange(inputs, dtype=torch.int32) // GPTQ_GROUP,
    }


def _packed(codes: np.ndarray) -> Tensor:
    """Codes down a column packed into words, the first in the lowest bits."""
    in_word = WORD_BITS // GPTQ_BITS
    rows = codes.reshape(-1, in_word, codes.shape[1])
    shifts = GPTQ_BITS * np.arange(in_word, dtype=np.uint32)
    words = np.bitwise_or.reduce(rows << shifts[None, :, None], axis=1)
    return torch.from_numpy(words.view(np.int32).copy())


def _write(folder: Path, stored: State, config: PretrainedConfig, **settings: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors")
    write_config(folder, config, **settings)
