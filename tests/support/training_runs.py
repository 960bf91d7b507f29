"""Checkpoints with what a trainer leaves beside them, written without a pickle: weights, optimizer, log."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from tests.support.adam import BETA1, BETA2, EPSILON, Run

Floats = npt.NDArray[np.float64]

PERCEPTRON = {"hidden_act": "relu"}


def write_checkpoint(
    folder: Path,
    run: Run,
    *,
    rates: Floats | None = None,
    decay: float = 0.1,
    config: Mapping[str, object] = PERCEPTRON,
) -> Path:
    """Write a checkpoint, its trainer's log if the learning rates are given, and the optimizer if it was used."""
    folder.mkdir(parents=True)
    save_file({name: array.astype(np.float32) for name, array in run.weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if rates is not None:
        (folder / "trainer_state.json").write_text(json.dumps(_log(rates)))
    if run.first:
        state = folder / "training_state"
        state.mkdir()
        save_file(_memory(run), state / "optimizer_state.safetensors")
        (state / "optimizer_param_groups.json").write_text(json.dumps([_group(run, rates, decay)]))
    return folder


def _log(rates: Floats) -> dict[str, object]:
    logged = [{"step": step + 1, "learning_rate": float(rate), "loss": 1.5} for step, rate in enumerate(rates)]
    return {
        "global_step": len(rates),
        "max_steps": len(rates),
        "num_train_epochs": 2,
        "epoch": 2.0,
        "log_history": logged,
    }


def _memory(run: Run) -> dict[str, npt.NDArray[np.float32]]:
    memory: dict[str, npt.NDArray[np.float32]] = {}
    for number, name in enumerate(run.weights):
        memory[f"state/{number}/exp_avg"] = run.first[name].astype(np.float32)
        memory[f"state/{number}/exp_avg_sq"] = run.second[name].astype(np.float32)
        memory[f"state/{number}/step"] = np.array(run.steps, np.float32)
    return memory


def _group(run: Run, rates: Floats | None, decay: float) -> dict[str, object]:
    rate = 0.0 if rates is None else float(rates[-1])
    return {
        "lr": rate,
        "initial_lr": rate,
        "betas": [BETA1, BETA2],
        "eps": EPSILON,
        "weight_decay": decay,
        "amsgrad": False,
        "maximize": False,
        "decoupled_weight_decay": True,
        "params": list(range(len(run.weights))),
        "param_names": list(run.weights),
    }
