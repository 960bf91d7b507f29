"""Measure the audit of the same weights in one format after another, and of quantised ones.

    python benchmarks/formats.py --torch-python PYTHON [--folder DIR] [--rounds N]

writes one Llama-shaped model of a billion bf16 weights as safetensors, as a PyTorch zip file (by the torch of PYTHON)
and as GGUF, and a sixteenth of it in each quantised kind, in DIR (7 GB, once). It opens and audits each in turn for N
rounds, in this process, and prints the least time, the rate, and its ratio to safetensors'. Run it from the
repository's root.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import checkpoints
import gguf
import ml_dtypes
import numpy as np
from gguf.quants import quantize

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint

SAME_WEIGHTS = "llama-bf16"
QUANTISED_SHAPE = (4096, 4096)
QUANTISED_MATRICES = 4
GGUF_KINDS = ("Q8_0", "Q4_0", "Q5_1")
TO_TORCH = """
import sys, torch, safetensors.torch
torch.save(safetensors.torch.load_file(sys.argv[1]), sys.argv[2])
"""


def main() -> None:
    """Write what is missing, measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "jaynes-benchmarks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-python", type=Path, required=True)
    chosen = parser.parse_args()
    plain = checkpoints.build(chosen.folder, SAME_WEIGHTS)
    same = {
        "safetensors": plain,
        "PyTorch zip": _made(plain.with_suffix(".pt"), lambda to: _torch(chosen.torch_python, plain, to)),
        "GGUF": _made(plain.with_suffix(".gguf"), lambda to: _gguf_of(plain, to)),
    }
    _compare("the same bf16 weights", same, chosen.rounds)
    quantised = {"bf16": _made(chosen.folder / "quantised-bf16.safetensors", _bf16)}
    quantised |= {
        kind: _made(chosen.folder / f"quantised-{kind}.gguf", lambda to, kind=kind: _gguf_kind(kind, to))
        for kind in GGUF_KINDS
    }
    quantised |= {
        "FP8 blocks": _made(chosen.folder / "fp8" / "model.safetensors", _fp8),
        "MXFP4": _made(chosen.folder / "mxfp4" / "model.safetensors", _mxfp4),
        "GPTQ-4": _made(chosen.folder / "gptq" / "model.safetensors", _gptq),
    }
    _compare(f"{QUANTISED_MATRICES} matrices of 4096 x 4096", quantised, chosen.rounds)


def _compare(title: str, files: Mapping[str, Path], rounds: int) -> None:
    least = dict.fromkeys(files, float("inf"))
    weights = {}
    for _ in range(rounds):
        for name, file in files.items():
            start = time.perf_counter()
            audit = audit_checkpoint(open_checkpoint(str(file)))
            least[name] = min(least[name], time.perf_counter() - start)
            weights[name] = sum(layer.counts.weights for layer in audit)
    print(f"\n{title} (least of {rounds})")
    first = next(iter(least))
    for name, seconds in least.items():
        rate = weights[name] / seconds
        ratio = rate / (weights[first] / least[first])
        print(f"  {name:12} {seconds:7.2f} s  {rate / 1e6:6.0f} million weights/s  {ratio:5.2f} x")


def _made(file: Path, write: Callable[[Path], None]) -> Path:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.unfinished")
        write(unfinished)
        unfinished.rename(file)
    return file


def _torch(python: Path, source: Path, to: Path) -> None:
    subprocess.run([str(python), "-c", TO_TORCH, str(source), str(to)], check=True)


def _gguf_of(source: Path, to: Path) -> None:
    writer = gguf.GGUFWriter(to, "llama", use_temp_file=False)
    for tensor in open_checkpoint(str(source)).tensors:
        stored = np.memmap(tensor.file, np.uint8, "r", tensor.start, (tensor.end - tensor.start,))
        shape = (*tensor.shape[:-1], 2 * tensor.shape[-1])  # in bytes, as the writer wants bf16
        writer.add_tensor(tensor.name, stored.reshape(shape), raw_dtype=gguf.GGMLQuantizationType.BF16)
    _written(writer)


def _gguf_kind(kind: str, to: Path) -> None:
    kind_of_gguf = gguf.GGMLQuantizationType[kind]
    blocks = quantize(_numbers(), kind_of_gguf)
    writer = gguf.GGUFWriter(to, "llama")
    for number in range(QUANTISED_MATRICES):
        writer.add_tensor(f"blk.{number}.ffn_up.weight", blocks, raw_dtype=kind_of_gguf)
    _written(writer)


def _written(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _numbers() -> np.ndarray:
    return np.random.default_rng(checkpoints.SEED).standard_normal(QUANTISED_SHAPE, np.float32)


def _bf16(to: Path) -> None:
    codes = (_numbers().view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    _safetensors(to, {"weight": ("BF16", codes)})


def _fp8(to: Path) -> None:
    rows, columns = (side // 128 for side in QUANTISED_SHAPE)
    codes = (64 * _numbers()).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    _safetensors(to, {"weight": ("F8_E4M3", codes), "weight_scale_inv": ("F32", np.ones((rows, columns), np.float32))})
    _configured(to, {"quant_method": "fp8", "weight_block_size": [128, 128]})


def _mxfp4(to: Path) -> None:
    rng = np.random.default_rng(checkpoints.SEED)
    groups = (QUANTISED_SHAPE[0], QUANTISED_SHAPE[1] // 32)
    codes = rng.integers(0, 256, (*groups, 16), np.uint8)
    _safetensors(to, {"blocks": ("U8", codes), "scales": ("U8", np.full(groups, 120, np.uint8))})
    _configured(to, {"quant_method": "mxfp4"})


def _gptq(to: Path) -> None:
    rng = np.random.default_rng(checkpoints.SEED)
    rows, columns = QUANTISED_SHAPE
    parts = {
        "qweight": ("I32", rng.integers(-(2**31), 2**31, (rows // 8, columns), np.int32)),
        "qzeros": ("I32", np.full((rows // 128, columns // 8), 0x77777777, np.int32)),
        "scales": ("F16", np.ones((rows // 128, columns), np.float16)),
        "g_idx": ("I32", np.arange(rows, dtype=np.int32) // 128),
    }
    _safetensors(to, parts)
    _configured(to, {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True})


def _configured(to: Path, quantisation: Mapping[str, object]) -> None:
    (to.parent / "config.json").write_text(json.dumps({"quantization_config": quantisation}))


def _safetensors(to: Path, parts: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """Each part once for every matrix, under the matrix's name."""
    entries, end = {}, 0
    for number in range(QUANTISED_MATRICES):
        for name, (dtype, content) in parts.items():
            start, end = end, end + content.nbytes
            full_name = f"model.layers.{number}.mlp.up_proj.{name}"
            entries[full_name] = {"dtype": dtype, "shape": content.shape, "data_offsets": (start, end)}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with to.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for _ in range(QUANTISED_MATRICES):
            for _, content in parts.values():
                stream.write(memoryview(content).cast("B"))


if __name__ == "__main__":
    main()
