"""The state of a training: everything that is needed to resume it, as tensors and a little JSON.

Random numbers and data order are functions of (seed, step) (`core/row_random.py`, `data/loading/order.py`), so the
integer `images_seen` stands for both the random state and the position in the data.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dpt_ray.core.collective import whole
from dpt_ray.core.objective import Objective
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.power_ema import PowerEma
from dpt_ray.core.weights import check_header, read_metadata
from dpt_ray.text import one_line

_INTERVAL = "interval."
"""Prefix of the tensors of `TrainState.interval`."""


class ForeignCheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another training."""


@dataclass(frozen=True)
class StateCopy:
    """A copy of a training's state.

    Attributes:
        tensors: name -> tensor in the memory of the host.
        metadata: `state`, a JSON object of `images_seen` and `history`. It is one value, since safetensors writes
            several in any order, and equal states shall be equal bytes.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """Return the checkpoint."""
        return save(dict(self.tensors), dict(self.metadata))


@dataclass
class TrainState:
    """A training in progress.

    Attributes:
        model: the network in training, not wrapped.
        ema: the average of its weights, which is the result of training.
        optimizer: the optimizer of the parameters of `model`.
        objective: the training method, with statistics in buffers.
        images_seen: number of images trained on so far, over all workers.
        history: one row of averaged metrics for each logging interval.
        interval: metrics of the steps since the last row: name -> (workers, steps); empty directly after a row.
        power_averages: power-function averages, whose snapshots are stored.
        sharded: whether each worker holds a shard of every tensor (`sharding.py`).
    """

    model: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer
    objective: Objective
    images_seen: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    interval: Mapping[str, Tensor] = field(default_factory=dict)
    power_averages: tuple[PowerEma, ...] = ()
    sharded: bool = False

    @property
    def device(self) -> torch.device:
        """The device of the training."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> "TrainState":
        """Move everything to a device, in place. Call it before the first step and before a checkpoint is loaded."""
        for module in self._parts().values():
            module.to(device)
        if self.device.type == "cuda":
            self.fuse_optimizer()
        return self

    def fuse_optimizer(self) -> None:
        """Use the optimizer's fused kernels, which are several times as fast on a GPU."""
        for group in self.optimizer.param_groups:
            group.update(fused=True, foreach=False)

    @property
    def heeds_found_inf(self) -> bool:
        """Whether the optimizer skips a step when its `found_inf` is set: a fused optimizer without sharding."""
        return not self.sharded and all(group.get("fused") for group in self.optimizer.param_groups)

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"model": self.model, "ema": self.ema.model, "objective": self.objective}
        return parts | {f"power_{average.sigma_rel}": average.model for average in self.power_averages}

    def to_bytes(self) -> bytes:
        """Return a checkpoint: a safetensors file; see `StateCopy`.

        For a sharded state all workers must call this together.
        """
        return self.copy().to_bytes()

    def copy(self) -> "StateCopy":
        """Return a copy of the state in the memory of the host; training may go on while it is written.

        For a sharded state all workers must call this together.
        """
        tensors: dict[str, Tensor] = {}
        for part, module in self._parts().items():
            tensors |= {f"{part}.{name}": value for name, value in module.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}/{key}"] = torch.as_tensor(value)
        tensors |= {f"{_INTERVAL}{name}": value for name, value in self.interval.items()}
        metadata = {"state": json.dumps({"images_seen": self.images_seen, "history": self.history})}
        # Sorted: workers gather tensor by tensor, and loaded moments have another order in every process.
        copies = {name: whole(tensors[name].detach()).to("cpu", copy=True).contiguous() for name in sorted(tensors)}
        return StateCopy(copies, metadata)

    def load_bytes(self, data: bytes) -> None:
        """Load a checkpoint of the same model, optimizer and objective. A refused one changes nothing.

        Raises:
            ForeignCheckpointError: it is damaged or belongs to another training.
        """
        try:
            check_header(data)
            tensors, metadata = load(data), read_metadata(data)
            weights = {part: _with_prefix(tensors, f"{part}.") for part in self._parts()}
            for part, module in self._parts().items():
                if complaint := describe_mismatch(weights[part], module.state_dict()):
                    raise ValueError(f"its {part} is {complaint}")
            optimizer = self._optimizer_state(_with_prefix(tensors, "optimizer."))
            interval = _with_prefix(tensors, _INTERVAL)
            if len({values.shape for values in interval.values()}) > 1 or any(v.ndim != 2 for v in interval.values()):
                raise ValueError("its metrics are not those of the same steps")
            described = json.loads(metadata["state"])
            images_seen, history = described["images_seen"], described["history"]
            _check_progress(images_seen, history)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
            raise ForeignCheckpointError(f"not a checkpoint of this training: {one_line(error)}") from error
        for part, module in self._parts().items():
            module.load_state_dict(weights[part])
        self.optimizer.load_state_dict(
            {"state": optimizer, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.images_seen, self.history, self.interval = images_seen, history, interval

    def _optimizer_state(self, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """Return the optimizer's state in torch's form: number of the parameter -> name -> tensor.

        Raises:
            ValueError: a tensor has neither the shape of its parameter nor a single element.
            KeyError: the network does not have a tensor's parameter.
        """
        known = {
            name: (number, parameter.shape) for number, (name, parameter) in enumerate(self._optimizer_parameters())
        }
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            parameter, _, key = name.rpartition("/")
            number, shape = known[parameter]
            if value.shape != shape and value.numel() != 1:
                raise ValueError(f"its optimizer is with {name} of shape {tuple(value.shape)}, not {tuple(shape)}")
            state.setdefault(number, {})[key] = value
        return state

    def _optimizer_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return parameters with their names, in the optimizer's order."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        return [(names[p], p) for group in self.optimizer.param_groups for p in group["params"]]


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_progress(images_seen: Any, history: Any) -> None:
    """Check the progress that a checkpoint states.

    Raises:
        ValueError: it is not in the form that `to_bytes` writes.
    """
    if type(images_seen) is not int or images_seen < 0:
        raise ValueError(f"images_seen is {str(images_seen)[:40]}")
    if not isinstance(history, list) or not all(isinstance(row, dict) and "images" in row for row in history):
        raise ValueError("its history is no list of rows")
    if not all(type(value) in (int, float) for row in history for value in row.values()):
        raise ValueError("its history holds a value that is no number")
