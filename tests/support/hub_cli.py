"""Models for a loopback Hub, and `jaynes audit` run on them: as a process of its own, as a user runs it, or here."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.cli.app import run
from tests.support import gguf_files, pytorch_files
from tests.support.checkpoints import stored, write_file
from tests.support.hub import LoopbackHub

SHARDED, PYTORCH, GGUF = "org/sharded", "org/pytorch", "org/gguf"
MODELS = (SHARDED, PYTORCH, GGUF)
ROWS, COLUMNS = 512, 256
SHARD_DTYPES = (Dtype.BF16, Dtype.F32, Dtype.BF16)
PATIENCE_SECONDS = 240

PEAK = "VmHWM"
AND_TELL_PEAK = f"""
import sys
from jaynes_audit.cli.app import main
try:
    main()
finally:
    status = open("/proc/self/status").read()
    sys.stderr.write("\\n" + next(line for line in status.splitlines() if line.startswith("{PEAK}")))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of the command came to: its exit status, the bytes of its JSON report, and its standard error."""

    status: int
    report: bytes
    said: str

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.report)

    @property
    def models(self) -> list[dict[str, Any]]:
        return self.content["models"]

    @property
    def failures(self) -> list[dict[str, Any]]:
        return self.content["failures"]


# ---- running


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """What a process needs to meet the loopback Hub, with caches of its own."""
    ours = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "xdg")}
    return {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", **ours, **more}


def started(arguments: list[str], report: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    command = [sys.executable, "-m", "jaynes_audit", "audit", *arguments, "-o", f"json={report}"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def ended(process: subprocess.Popen[str], report: Path) -> Run:
    """Wait for a command that was started."""
    printed, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert not printed
    return Run(status=process.returncode, report=report.read_bytes(), said=said)


def audited(*arguments: str, report: Path) -> Run:
    """Run the command here, and say nothing of what it says."""
    status = run(["audit", *arguments, "-o", f"json={report}"])
    return Run(status=status, report=report.read_bytes(), said="")


# ---- models


def write_models(folder: Path) -> None:
    """Write one model in each of three formats, with weights that are Gaussian, lognormal, and neither.

    Every file of weights is larger than what is fetched of one at first.
    """
    _write_sharded(folder / SHARDED)
    _write_pytorch(folder / PYTORCH)
    _write_gguf(folder / GGUF)


def _write_sharded(folder: Path) -> None:
    folder.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    for number, dtype in enumerate(SHARD_DTYPES):
        layers = range(2 * number, 2 * number + 2)
        tensors = {f"model.layers.{layer}.mlp.up_proj.weight": stored(_gaussian(layer), dtype) for layer in layers}
        tensors |= {f"model.layers.{layer}.mlp.down_proj.weight": stored(_lognormal(layer), dtype) for layer in layers}
        tensors |= {f"model.layers.{layer}.input_layernorm.weight": stored(np.ones(COLUMNS)) for layer in layers}
        shard = f"model-{number + 1:05d}-of-{len(SHARD_DTYPES):05d}.safetensors"
        write_file(folder / shard, tensors)
        weight_map |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": COLUMNS}))


def _write_pytorch(folder: Path) -> None:
    folder.mkdir(parents=True)
    weights = {"h.0.mlp.c_fc.weight": _gaussian(10), "h.0.mlp.c_proj.weight": _lognormal(11)}
    tensors = {
        name: pytorch_files.tensor(pytorch_files.storage(str(key), ROWS * COLUMNS), 0, (ROWS, COLUMNS), (COLUMNS, 1))
        for key, name in enumerate(weights)
    }
    storages = {str(key): each.tobytes() for key, each in enumerate(weights.values())}
    content = pytorch_files.checkpoint(pytorch_files.pickled(tensors), storages)
    (folder / "pytorch_model.bin").write_bytes(content)


def _write_gguf(folder: Path) -> None:
    folder.mkdir(parents=True)
    kind = GGMLQuantizationType.Q8_0
    blocks = {f"blk.{layer}.ffn_up.weight": (kind, quantize(_gaussian(20 + layer), kind)) for layer in range(8)}
    gguf_files.write(folder / "model-q8_0.gguf", {**blocks, "blk.0.attn_norm.weight": np.ones(COLUMNS, np.float32)})


def _gaussian(seed: int) -> np.ndarray:
    return (0.02 * np.random.default_rng(seed).standard_normal((ROWS, COLUMNS))).astype(np.float32)


def _lognormal(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.choice([-1, 1], (ROWS, COLUMNS)) * rng.lognormal(-4.5, 1.1, (ROWS, COLUMNS))).astype(np.float32)


def sent_by_cdn(hub: LoopbackHub) -> int:
    """How many bytes of weights a Hub has sent."""
    return sum(record.sent for record in hub.log if record.host == "cdn")
