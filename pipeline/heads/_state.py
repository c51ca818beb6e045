"""The state of an interrupted descent in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UsageError

NOT_PART_OF_THE_ANSWER = ("device", "epochs")  # may change when a run is continued


class State:
    """Weights now, weights at the best epoch, and the optimiser's moments."""

    def __init__(self, head: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.head, self.optimiser = head, optimiser
        self.best: dict[str, Tensor] = {}

    def remember(self) -> None:
        """Keep a copy of the weights as the best so far."""
        self.best = {name: t.detach().clone() for name, t in self.head.state_dict().items()}

    def restore(self) -> None:
        """Put the best weights back into the head."""
        if self.best:
            self.head.load_state_dict(self.best)

    def save(self, path: Path, plan: Any, points: Sequence[Sequence[float]]) -> None:
        """Write everything that the next epoch depends on."""
        from safetensors.torch import save_file

        tensors = {f"head.{name}": t for name, t in self.head.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": t for name, t in moments.items()}
        detached = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        note = {"plan": json.dumps(comparable(asdict(plan))), "points": json.dumps([*points])}
        temporary = path.with_name(path.name + ".writing")
        save_file(detached, temporary, note)
        os.replace(temporary, path)

    def load(self, path: Path, plan: Any) -> list[list[float]]:
        """Take everything back and return the learning curve so far.

        Raises
        ------
        UsageError
            When the file was written under another plan.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                note = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            there = json.loads(note["plan"])
            points: list[list[float]] = json.loads(note["points"])
        except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
            raise UsageError(
                f"{path}: not the state of a training ({error}); remove the folder to start anew"
            ) from None
        if there != comparable(asdict(plan)):
            raise UsageError(
                f"{path}: an interrupted training with other settings ({note['plan']}); "
                "give them again, or remove the file"
            )
        self.head.load_state_dict(_under("head.", tensors))
        self.best = _under("best.", tensors)
        whole = self.optimiser.state_dict()
        whole["state"] = {}
        for name, tensor in _under("optimiser.", tensors).items():
            number, _, moment = name.partition(".")
            whole["state"].setdefault(int(number), {})[moment] = tensor
        self.optimiser.load_state_dict(whole)
        return points


def comparable(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a plan decides on the answer, as it comes back from JSON."""
    plain = {k: v for k, v in plan.items() if k not in NOT_PART_OF_THE_ANSWER}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
