"""The three training loops that are timed: a deep MLP, a small GPT and a small CNN, each clipped before the update.

Data is drawn once, stays on the device and is learnable, so a step is only forward, backward, clip and update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batches = list[tuple[Tensor, Tensor]]
POOL = 16  # batches drawn once and cycled through


def nothing() -> None:
    """The default for :attr:`Workload.before_clip`."""


@dataclass
class Workload:
    """A model, its optimizer, and :meth:`step`: one iteration of the plain loop that every contestant starts from."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor]
    batches: Batches
    max_norm: float = 1.0
    #: Called between backward and clip, for tools that ask to be put there.
    before_clip: Callable[[], None] = nothing
    _next: Iterator[tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self._next = cycle(self.batches)

    def step(self) -> Tensor:
        """Run one training iteration and return its loss, without waiting for the device."""
        x, y = next(self._next)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(self.model, x, y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.before_clip()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        return loss

    @property
    def parameters(self) -> int:
        """Number of scalars trained."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def tensors(self) -> int:
        """Number of parameter tensors."""
        return len(list(self.model.parameters()))


def classification(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy over the last dimension."""
    return F.cross_entropy(model(x).flatten(0, -2), y.flatten())


def mlp(device: torch.device, *, depth: int = 30, width: int = 64, batch: int = 64) -> Workload:
    """``depth`` Linear+ReLU layers: many small tensors, so cost per tensor shows."""
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        linear = nn.Linear(width, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10)).to(device)
    teacher = torch.randn(width, 10)
    xs = [torch.randn(batch, width) for _ in range(POOL)]
    batches = [(x.to(device), (x @ teacher).argmax(1).to(device)) for x in xs]
    return Workload(model, torch.optim.AdamW(model.parameters(), lr=3e-4), classification, batches)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


class GPT(nn.Module):
    """A decoder-only transformer with tied embeddings."""

    def __init__(self, vocab: int, context: int, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, dim), nn.Embedding(context, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.tok.weight
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1], device=idx.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.ln(x))
        return logits


def gpt(
    device: torch.device, *, layers: int = 6, dim: int = 128, context: int = 64, batch: int = 8, vocab: int = 256
) -> Workload:
    """A GPT on sequences that count upwards by a random stride."""
    model = GPT(vocab, context, dim, layers, heads=max(1, dim // 32)).to(device)
    steps = torch.arange(context + 1)
    batches = []
    for _ in range(POOL):
        tokens = (torch.randint(vocab, (batch, 1)) + torch.randint(1, 8, (batch, 1)) * steps) % vocab
        tokens = tokens.to(device)
        batches.append((tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()))
    return Workload(model, torch.optim.AdamW(model.parameters(), lr=3e-4), classification, batches)


def cnn(device: torch.device, *, width: int = 8, batch: int = 64) -> Workload:
    """Six convolutions with BatchNorm on 3x32x32 images, SGD with momentum."""
    channels = [3, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(pairwise(channels)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        if i in {1, 3}:
            layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10)).to(device)
    patterns = torch.randn(10, 3, 32, 32)
    batches = []
    for _ in range(POOL):
        y = torch.randint(10, (batch,))
        x = 0.5 * patterns[y] + torch.randn(batch, 3, 32, 32)
        batches.append((x.to(device), y.to(device)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Workload(model, optimizer, classification, batches, max_norm=5.0)


@dataclass(frozen=True)
class Entry:
    """A workload under its name: how to build it, on which device, and in words."""

    build: Callable[[torch.device], Workload]
    device: str
    about: str


WORKLOADS: dict[str, Entry] = {
    "mlp": Entry(mlp, "cpu", "30-layer 64-wide ReLU MLP, batch 64, AdamW"),
    "gpt": Entry(gpt, "cpu", "6-layer GPT, width 128, 64 tokens, batch 8, AdamW"),
    "cnn": Entry(cnn, "cpu", "6-layer CNN with BatchNorm, 3x32x32, batch 64, SGD momentum"),
    "mlp-cuda": Entry(mlp, "cuda", "30-layer 64-wide ReLU MLP, batch 64, AdamW"),
    "gpt-cuda": Entry(
        lambda d: gpt(d, layers=12, dim=768, context=512, batch=16, vocab=8192),
        "cuda",
        "12-layer GPT, width 768, 512 tokens, batch 16, AdamW, float32",
    ),
    "cnn-cuda": Entry(
        lambda d: cnn(d, width=64, batch=256), "cuda", "6-layer CNN with BatchNorm, 3x32x32, batch 256, SGD momentum"
    ),
}


def available() -> list[str]:
    """Names of the workloads this machine can run."""
    cuda = torch.cuda.is_available()
    return [name for name, entry in WORKLOADS.items() if entry.device == "cpu" or cuda]
