"""Fully sharded training: each worker holds a part of the weights, averages and moments (FSDP2).

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023); torch's `fully_shard`.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from dpt_ray.core.training.state import TrainState


def shard(state: TrainState) -> None:
    """Leave this worker its part of every tensor of a training, in place.

    To be called by all workers, after a checkpoint is loaded, on networks that name their `blocks`: the weights of one
    block at a time are gathered while it computes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(state.device.type, (dist.get_world_size(),))
    names: dict[Tensor, str] = {parameter: name for name, parameter in state.model.named_parameters()}
    moments = {names[parameter]: values for parameter, values in state.optimizer.state.items()}
    groups = [[names[parameter] for parameter in group["params"]] for group in state.optimizer.param_groups]
    networks: list[Any] = [state.model, state.ema.model, *(average.model for average in state.power_averages)]
    for network in networks:
        for block in network.blocks():
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)
    sharded = dict(state.model.named_parameters())
    for group, members in zip(state.optimizer.param_groups, groups, strict=True):
        group["params"] = [sharded[name] for name in members]
    state.optimizer.state.clear()
    for name, values in moments.items():
        state.optimizer.state[sharded[name]] = {key: _like(value, sharded[name]) for key, value in values.items()}
    state.sharded = True


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """Shard a moment as its parameter is; a counter stays whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    # Every worker holds the whole and cuts out its own part; by default the first would send them.
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
