"""Checks made by several ranks at once, started with torchrun by ``test_clip_distributed.py``.

Each check compares parameters that are spread over the ranks with the same parameters whole. Every rank writes what it
found to ``<folder>/<rank>.json``: the name of each check, and "ok" or the error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from steadygrad.clip import (
    AdaGC,
    AdaptiveUnit,
    BlockRMS,
    Chain,
    ClipInfo,
    Clipper,
    GlobalNorm,
    PerTensorNorm,
    Quantile,
    Sharded,
    Value,
    ZScore,
)
from steadygrad.records import StepRecord
from steadygrad.session import Session

Placements = list[Placement]
Layout = list[tuple[DeviceMesh, Placements] | None]
SHAPES = [(8, 6), (5, 8), (7,), (4, 3, 2), (1,)]
MAKERS: dict[str, Callable[[], Clipper]] = {
    "GlobalNorm": lambda: GlobalNorm(0.7),
    "GlobalNorm, p=1": lambda: GlobalNorm(0.7, p=1.0),
    "GlobalNorm, p=3": lambda: GlobalNorm(0.7, p=3.0),
    "GlobalNorm, p=inf": lambda: GlobalNorm(0.7, p=math.inf),
    "Value": lambda: Value(0.3),
    "PerTensorNorm": lambda: PerTensorNorm(0.7),
    "BlockRMS": lambda: BlockRMS(0.3),
    "AdaptiveUnit": lambda: AdaptiveUnit(0.1),
    "Quantile": lambda: Quantile(0.3),
    "ZScore": lambda: ZScore(warmup=2, max_norm=3.0),
    "AdaGC": lambda: AdaGC(0.8, absolute=3.0, warmup=2),
    "Chain": lambda: Chain(Value(0.5), PerTensorNorm(0.9), GlobalNorm(0.7)),
}


def drawn(seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * scale for shape in SHAPES]


def whole(seed: int) -> list[nn.Parameter]:
    """Weights that never change and gradients that do, the same on every rank."""
    out = [nn.Parameter(w) for w in drawn(0)]
    for leaf, gradient in zip(out, drawn(seed), strict=True):
        leaf.grad = gradient
    return out


def spread(seed: int, layout: Layout) -> list[nn.Parameter]:
    """The same, spread over ranks; None: plain, on every rank."""
    out = []
    for leaf, place in zip(whole(seed), layout, strict=True):
        assert leaf.grad is not None
        if place is None:
            out.append(leaf)
            continue
        mesh, placements = place
        parameter = nn.Parameter(distribute_tensor(leaf.detach(), mesh, placements))
        parameter.grad = distribute_tensor(leaf.grad, mesh, placements)
        out.append(parameter)
    return out


def full(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def everywhere_equal(*values: Tensor) -> None:
    """To the bit, on all ranks."""
    for value in values:
        found = [torch.zeros_like(value) for _ in range(dist.get_world_size())]
        dist.all_gather(found, value.contiguous())
        assert all(torch.equal(found[0], other) for other in found), found


@contextmanager
def reductions() -> Iterator[list[Any]]:
    """The reductions made inside."""
    made: list[Any] = []
    original = dist.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return original(*args, **kwargs)

    dist.all_reduce = counted
    try:
        yield made
    finally:
        dist.all_reduce = original


def close(a: ClipInfo, b: ClipInfo) -> None:
    for name in ("norm_before", "norm_after", "coefficient", "norms"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-7, check_dtype=False)
    assert bool(a.clipped) == bool(b.clipped)
    assert bool(a.non_finite) == bool(b.non_finite)


def as_if_whole(make: Callable[[], Clipper], layout: Layout) -> None:
    ours, reference = make(), make()
    for seed in range(1, 4):
        parts, wholes = spread(seed, layout), whole(seed)
        info, wanted = ours(parts), reference(wholes)
        close(info, wanted)
        everywhere_equal(info.norm_before, info.norm_after, info.coefficient, info.norms)
        for part, leaf in zip(parts, wholes, strict=True):
            torch.testing.assert_close(full(part.grad), full(leaf.grad), rtol=3e-6, atol=1e-7)


def one_rank_is_bad(layout: Layout) -> None:
    """NaN in the last rank's part alone: all ranks see it and leave everything as it is."""
    for index in range(len(SHAPES)):
        parts = spread(1, layout)
        grad = parts[index].grad
        mine = grad.to_local() if isinstance(grad, DTensor) else grad
        assert mine is not None
        if dist.get_rank() == dist.get_world_size() - 1 and mine.numel():
            mine.view(-1)[0] = math.nan
        for make in (GlobalNorm, lambda: GlobalNorm(p=math.inf), AdaptiveUnit, Value):
            copies = [p.grad.to_local().clone() if isinstance(p.grad, DTensor) else p.grad.clone() for p in parts]
            bad = make()(parts).non_finite
            everywhere_equal(bad)
            assert bool(bad) == bool(_anyone(mine.isnan().any()))
            if bool(bad):
                for p, copy in zip(parts, copies, strict=True):
                    local = p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad
                    torch.testing.assert_close(local, copy, rtol=0, atol=0, equal_nan=True)


def _anyone(flag: Tensor) -> Tensor:
    found = flag.float().reshape(1)
    dist.all_reduce(found)
    return found > 0


# -- layouts ------------------------------------------------------------------------------------------------------


def layouts(world: int) -> Iterator[tuple[str, Layout, int]]:
    """Name, placement of each parameter, and the reductions that the global norm needs."""
    if world == 4:
        yield from layouts_of_a_grid()
        return
    line = init_device_mesh("cpu", (world,))
    yield "rows", [(line, [Shard(0)])] * 5, 1
    yield "columns", [(line, [s]) for s in (Shard(1), Shard(0), Shard(0), Shard(2), Replicate())], 1
    yield "mixed with plain", [(line, [Shard(0)]), None, (line, [Shard(0)]), None, None], 1
    yield "copies", [(line, [Replicate()])] * 5, 0


def layouts_of_a_grid() -> Iterator[tuple[str, Layout, int]]:
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    part = grid["dp"]
    seconds = (Shard(1), Shard(1), Shard(0), Shard(2), Replicate())
    yield "two dimensions", [(grid, [Shard(0), second]) for second in seconds], 1
    yield "hybrid", [(grid, [Replicate(), Shard(0)])] * 5, 1
    mixed = [
        (grid, [Shard(0), Shard(1)]),
        (part, [Shard(0)]),
        (part, [Shard(0)]),
        None,
        (grid, [Shard(0), Replicate()]),
    ]
    yield "two meshes and plain", mixed, 2
    yield "part of the ranks", [(part, [Shard(0)])] * 5, 1


def check_layouts(world: int) -> Iterator[tuple[str, Callable[[], None]]]:
    for name, layout, count in layouts(world):
        for clipper, make in MAKERS.items():
            yield f"{name}: {clipper}", lambda make=make, layout=layout: as_if_whole(make, layout)
        if name not in ("copies", "part of the ranks"):  # there, nothing is said between the copies
            yield f"{name}: one bad rank", lambda layout=layout: one_rank_is_bad(layout)
        yield f"{name}: reductions", lambda layout=layout, count=count: counts(layout, count)


def counts(layout: Layout, count: int) -> None:
    parts = spread(1, layout)
    with reductions() as made:
        GlobalNorm(1.0)(parts)
    assert len(made) == count, len(made)


def pending_sums() -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parts, wholes = spread(1, [(mesh, [Replicate()])] * 5), whole(1)
    for part, leaf in zip(parts, wholes, strict=True):
        share = full(leaf.grad) / dist.get_world_size()
        part.grad = DTensor.from_local(share, mesh, [Partial()])
    close(GlobalNorm(0.7)(parts), GlobalNorm(0.7)(wholes))
    for part, leaf in zip(parts, wholes, strict=True):
        torch.testing.assert_close(full(part.grad), leaf.grad)


# -- real models --------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.norm, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x + self.down(F.relu(self.up(x)))))  # type: ignore[no-any-return]


def trained(model: nn.Module, clipper: Clipper) -> list[ClipInfo]:
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    infos = []
    for _ in range(4):
        optimizer.zero_grad()
        (model(x) - 3).square().mean().backward()
        infos.append(clipper(model))
        optimizer.step()
    return infos


def models_train_alike(wrap: Callable[[nn.Module], nn.Module], prefix: str = "") -> None:
    for make in (MAKERS["GlobalNorm"], MAKERS["AdaptiveUnit"], MAKERS["GlobalNorm, p=inf"], MAKERS["AdaGC"]):
        reference, ours = Net(), wrap(Net())
        for a, b in zip(trained(ours, make()), trained(reference, make()), strict=True):
            torch.testing.assert_close(a.norm_before, b.norm_before, rtol=1e-5, atol=1e-7)
            assert tuple(name.removeprefix(prefix) for name in a.names) == b.names
            torch.testing.assert_close(a.norms, b.norms, rtol=1e-4, atol=1e-6)
            everywhere_equal(a.norm_before, a.norms)
        for p, q in zip(ours.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(full(p.detach()), q.detach(), rtol=1e-4, atol=1e-5)


def sharded(model: nn.Module) -> nn.Module:
    for child in model.children():
        fully_shard(child)
    return fully_shard(model)


def parallel(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return parallelize_module(model, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})


def clipped_by_torch(model: nn.Module, p: float) -> tuple[list[float], int]:
    """Norms as torch's clip returns them, and the number of collectives that the steps took."""
    group: Any = dist.group.WORLD
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    norms, before = [], group._get_sequence_number_for_group()
    for _ in range(4):
        optimizer.zero_grad()
        (model(x) - 3).square().mean().backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.7, p))
        optimizer.step()
    count = group._get_sequence_number_for_group() - before
    return [float(full(norm)) for norm in norms], count


def torchs_clip_observed(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """The observer takes the norm that torch's clip has already: its own part before the clip, and no collective."""
    for p in (2.0, math.inf):
        plain, needed = clipped_by_torch(wrap(Net()), p)
        records: list[StepRecord] = []
        with Session(every=2, on_step=records.append):
            norms, made = clipped_by_torch(wrap(Net()), p)
        assert norms == plain and made == needed > 0, (norms, plain, made, needed)
        if math.isinf(p):
            assert all(record.clip is None for record in records)
            continue
        own = torch.tensor([record.grad_norm for record in records], dtype=torch.float64).square()
        dist.all_reduce(own)
        torch.testing.assert_close(own.sqrt().tolist(), norms, rtol=1e-4, atol=0.0)
        for record, norm in zip(records, norms, strict=True):
            assert record.clip is not None and record.clip.threshold == 0.7
            assert math.isclose(record.clip.norm, norm, rel_tol=1e-5)
            assert math.isclose(record.clip.coefficient, min(1.0, 0.7 / (norm + 1e-6)), rel_tol=1e-5)


def check_models(world: int) -> Iterator[tuple[str, Callable[[], None]]]:
    if world == 2:
        yield "torch's clip of fully_shard, observed", lambda: torchs_clip_observed(sharded)
        yield "fully_shard", lambda: models_train_alike(sharded)
        yield "DDP", lambda: models_train_alike(nn.parallel.DistributedDataParallel, "module.")
        line = init_device_mesh("cpu", (world,))
        yield "tensor parallel, the rest plain", lambda: models_train_alike(lambda m: parallel(m, line))
    else:
        grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))

        def both(model: nn.Module) -> nn.Module:
            parallel(model, grid["tp"])
            return fully_shard(model, mesh=grid["dp"])

        yield "tensor parallel and fully_shard", lambda: models_train_alike(both)


# -- by hand ------------------------------------------------------------------------------------------------------


def by_hand(make: Callable[[], Clipper]) -> None:
    world, rank = dist.get_world_size(), dist.get_rank()
    ours, reference = Sharded(make(), dist.group.WORLD, replicated="same.*"), make()
    for seed in range(1, 4):
        wholes, parts = whole(seed), []
        for i, leaf in enumerate(wholes):
            cut = leaf.detach() if i == 3 else leaf.detach().flatten().tensor_split(world)[rank]
            part = nn.Parameter(cut.clone())
            part.grad = full(leaf.grad) if i == 3 else full(leaf.grad).flatten().tensor_split(world)[rank].clone()
            parts.append(("same.bias" if i == 3 else f"cut.{i}", part))
        wholes[3].grad = full(wholes[3].grad).clone()
        info = ours(parts)
        close(info, reference(wholes))
        everywhere_equal(info.norm_before, info.coefficient, info.norms)
        for (_, part), leaf in zip(parts, wholes, strict=True):
            wanted = (
                full(leaf.grad) if part.shape == leaf.shape else full(leaf.grad).flatten().tensor_split(world)[rank]
            )
            torch.testing.assert_close(full(part.grad).flatten(), wanted.flatten(), rtol=3e-6, atol=1e-7)


def stages(make: Callable[[], Clipper]) -> None:
    world, rank = dist.get_world_size(), dist.get_rank()
    ours, reference = Sharded(make(), dist.group.WORLD, parts="stages"), make()
    for seed in range(1, 4):
        wholes, mine = whole(seed), whole(seed)[rank::world]
        info, wanted = ours(mine), reference(wholes)
        torch.testing.assert_close(info.norm_before, wanted.norm_before)
        torch.testing.assert_close(info.norm_after, wanted.norm_after, rtol=1e-6, atol=1e-7)
        everywhere_equal(info.norm_before, info.norm_after, info.coefficient)
        for part, leaf in zip(mine, wholes[rank::world], strict=True):
            torch.testing.assert_close(full(part.grad), full(leaf.grad), rtol=3e-6, atol=1e-7)


def bad_by_hand(parts: Any) -> None:
    leaf = nn.Parameter(torch.ones(3))
    leaf.grad = torch.ones(3)
    if dist.get_rank() == 1:
        leaf.grad[1] = math.inf
    info = Sharded(GlobalNorm(0.1), dist.group.WORLD, parts=parts)([leaf])
    assert bool(info.non_finite)
    assert leaf.grad[0] == 1.0


def check_by_hand(world: int) -> Iterator[tuple[str, Callable[[], None]]]:
    if world == 4:
        return
    for clipper, make in MAKERS.items():
        if clipper != "AdaptiveUnit":
            yield f"cut by hand: {clipper}", lambda make=make: by_hand(make)
        if clipper != "AdaGC":  # here each rank has a state of its own parameters
            yield f"stages: {clipper}", lambda make=make: stages(make)
    for parts in ("shards", "stages"):
        yield f"one bad rank: {parts}", lambda parts=parts: bad_by_hand(parts)
    yield "pending sums", pending_sums


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=40))
    world, found = dist.get_world_size(), {}
    for source in (check_layouts, check_models, check_by_hand):
        for name, check in source(world):
            try:
                check()
                found[name] = "ok"
            except Exception:
                found[name] = traceback.format_exc()
            (folder / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # gloo's threads may outlive the interpreter
