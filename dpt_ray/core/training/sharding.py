"""Fully sharded training (FSDP2): each worker holds a shard of the weights, averages and moments.

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023); torch's `fully_shard`.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from dpt_ray.core.training.state import TrainState


def shard(state: TrainState) -> None:
    """Replace every tensor of a training by this worker's shard, in place.

    All workers must call this, after a checkpoint is loaded. The network must define `blocks()`: the weights of one
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
    """Shard an optimizer's moment like its parameter; a counter is not sharded."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    # Every worker holds the full tensor and cuts out its shard. By default the first worker would send the shards.
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
