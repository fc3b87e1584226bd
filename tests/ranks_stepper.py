"""Run by two processes under torchrun: data-parallel steppers against one process with the whole batch."""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from training import batches, same

from steadygrad import Guard, InputError, Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.guard import Budget

MICRO = 6
#: DistributedDataParallel, and fully_shard.
WRAPPED = (False, True)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().mean() * 5


def optimizer_of(model: nn.Module, *, fused: bool = True) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 0.01, fused=fused)


def alone(accumulate: int, *, last: bool = False) -> nn.Module:
    """The oracle: no processes, the batches of both ranks in one."""
    model = network()
    optimizer = optimizer_of(model, fused=False)
    given = list(batches(MICRO))
    for start in range(0, MICRO, accumulate):
        part = given[start : start + accumulate]
        if len(part) < accumulate and not last:
            break
        for x, _ in part:
            (loss_of(model, x) / len(part)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
    return model


def mine(x: Tensor) -> Tensor:
    return x.chunk(dist.get_world_size())[dist.get_rank()]


def full(model: nn.Module) -> list[Tensor]:
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()]


def close(model: nn.Module, expected: nn.Module) -> None:
    for a, b in zip(full(model), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)


def reductions(model: DistributedDataParallel) -> list[int]:
    """Counts the buckets that are reduced."""
    counted: list[int] = []

    def hook(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        counted.append(1)
        reduced = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        return reduced.get_future().then(lambda f: f.value()[0])

    hook.__annotations__ = {}  # they are checked, but not as strings
    model.register_comm_hook(None, hook)
    return counted


def ddp_accumulates() -> None:
    for accumulate in (1, 3):
        model = DistributedDataParallel(network())
        counted = reductions(model)
        stepper = Stepper(optimizer_of(model), clip=GlobalNorm(0.3), accumulate=accumulate, model=model)
        for x, _ in batches(MICRO):
            stepper.step(loss_of(model, mine(x)))
        close(model.module, alone(accumulate))
        assert len(counted) == MICRO // accumulate, counted
        assert model.require_backward_grad_sync == (accumulate == 1)


def ddp_ends_early() -> None:
    model = DistributedDataParallel(network())
    stepper = Stepper(optimizer_of(model), clip=GlobalNorm(0.3), accumulate=4, model=model)
    for i, (x, _) in enumerate(batches(MICRO)):
        stepper.step(loss_of(model, mine(x)), last=i == MICRO - 1)
    close(model.module, alone(4, last=True))
    assert stepper.steps == 2


def fsdp_accumulates() -> None:
    for accumulate in (1, 3):
        model = network()
        fully_shard(model[0])
        fully_shard(model)
        stepper = Stepper(optimizer_of(model), clip=GlobalNorm(0.3), accumulate=accumulate, model=model)
        for x, _ in batches(MICRO):
            stepper.step(loss_of(model, mine(x)))
        close(model, alone(accumulate))


def one_rank_only() -> None:
    """A NaN or an infinite loss on one rank: all ranks skip, host or device deciding, and agree afterwards."""
    spoils: list[Callable[[Tensor], Tensor]] = [lambda loss: loss * math.nan, lambda loss: loss + math.inf]
    for sharded in WRAPPED:
        for defer in (False, True):
            for spoil in spoils:
                _skips_everywhere(sharded=sharded, defer=defer, spoil=spoil)


def _skips_everywhere(*, sharded: bool, defer: bool, spoil: Callable[[Tensor], Tensor]) -> None:
    model: Any = network()
    if sharded:
        fully_shard(model)
    else:
        model = DistributedDataParallel(model)
    optimizer = optimizer_of(model)
    stepper = Stepper(optimizer, clip=GlobalNorm(0.3), model=model, defer=defer)
    ((x, _),) = batches(1)
    assert stepper.step(loss_of(model, mine(x))).stepped
    before = [local_state(model), local_state(optimizer)]
    loss = loss_of(model, mine(x))
    result = stepper.step(spoil(loss) if dist.get_rank() == 1 else loss)
    assert result.reason == "non-finite loss", result.reason
    assert same([local_state(model), local_state(optimizer)], before)
    assert stepper.step(loss_of(model, mine(x))).stepped


def local_state(part: Any) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return (value.to_local() if hasattr(value, "to_local") else value).detach().clone()
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else copy.deepcopy(value)

    return plain(part.state_dict())


def scaler_agrees() -> None:
    """An overflow on one rank: the scale backs off everywhere."""
    for sharded in WRAPPED:
        model: Any = network()
        if sharded:
            fully_shard(model)
        else:
            model = DistributedDataParallel(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120 if sharded else 2.0**126)
        stepper = Stepper(optimizer_of(model), scaler=scaler, model=model)
        ((x, _),) = batches(1)
        loss = loss_of(model, mine(x)) * (1e6 if dist.get_rank() == 1 else 1e-9)
        result = stepper.step(loss)
        assert result.reason == "loss scale overflow", (sharded, result.reason)
        scales: list[Any] = [None, None]
        dist.all_gather_object(scales, scaler.get_scale())
        assert scales[0] == scales[1] == (2.0**119 if sharded else 2.0**125), scales


def guard_agrees() -> None:
    """Trouble on one rank: all climb the ladder together and go back to the bits they had."""
    for sharded in WRAPPED:
        model: Any = network()
        if sharded:
            fully_shard(model)
        else:
            model = DistributedDataParallel(model)
        optimizer = optimizer_of(model)
        guard = Guard(warmup=5, snapshot_every=5, budget=Budget(skips=2, span=8, damps=0))
        stepper = Stepper(optimizer, clip=GlobalNorm(0.3), model=model, guard=guard)
        states = {}
        for i, (x, _) in enumerate(batches(24)):
            loss = loss_of(model, mine(x))
            stepper.step(loss * (math.nan if i >= 20 and dist.get_rank() == 1 else 1.0), batch=i)
            states[i + 1] = [local_state(model), local_state(optimizer)]
            if guard.events and guard.events[-1].action == "rollback":
                break
        event = guard.events[-1]
        assert event.action == "rollback" and event.step == 23, event
        assert same(states[23], states[event.data["to_step"]])
        told: list[Any] = [None, None]
        dist.all_gather_object(told, [each.plain() for each in guard.events])
        assert str(told[0]) == str(told[1])


def old_fsdp_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    try:
        Stepper(optimizer_of(network()), model=FullyShardedDataParallel())
    except InputError as error:
        assert "fully_shard" in str(error)
    else:
        raise AssertionError("taken")


def main() -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    checks = [
        ddp_accumulates,
        ddp_ends_early,
        fsdp_accumulates,
        one_rank_only,
        scaler_agrees,
        guard_agrees,
        old_fsdp_is_refused,
    ]
    for check in checks:
        check()
        if dist.get_rank() == 0:
            print("passed", check.__name__)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive the interpreter
