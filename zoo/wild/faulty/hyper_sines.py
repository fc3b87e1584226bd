"""Hypernetwork for a family of sine tasks."""
import torch
from torch import nn
from torch.func import functional_call


class MainNet(nn.Module):
    def __init__(self, hidden=20):
        super().__init__()
        self.a = nn.Linear(1, hidden)
        self.b = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class HyperModel(nn.Module):
    def __init__(self, n_tasks, emb=8):
        super().__init__()
        self.main = MainNet()
        self.task_emb = nn.Embedding(n_tasks, emb)
        self.shapes = [(n, p.shape, p.numel()) for n, p in self.main.named_parameters()]
        total = sum(s[2] for s in self.shapes)
        self.hyper = nn.Sequential(nn.Linear(emb, 64), nn.ReLU(), nn.Linear(64, total))

    def generate(self, task):
        flat = self.hyper(self.task_emb(task)) * 0.5
        parts = flat.split([s[2] for s in self.shapes])
        return {n: p.view(shape) for (n, shape, _), p in zip(self.shapes, parts)}

    def forward(self, task, x):
        weights = self.generate(task)
        base = dict(self.main.named_parameters())
        for name, delta in weights.items():
            base[name].data = base[name].data * 0.5 + delta.data
        return self.main(x)


class SineTasks:
    def __init__(self, n):
        self.amp = 0.5 + 1.5 * torch.rand(n)
        self.phase = 3.14 * torch.rand(n)

    def sample(self, task, n):
        x = torch.rand(n, 1) * 6 - 3
        return x, self.amp[task] * torch.sin(x + self.phase[task])


def main():
    torch.manual_seed(70)
    tasks = SineTasks(12)
    model = HyperModel(12)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    avg = None
    for step in range(1, 1201):
        k = torch.randint(0, 12, (1,)).item()
        x, y = tasks.sample(k, 32)
        loss = nn.functional.mse_loss(model(torch.tensor(k), x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        avg = loss.item() if avg is None else 0.98 * avg + 0.02 * loss.item()
        if step % 200 == 0:
            print(f"step {step} smoothed mse {avg:.4f}")


if __name__ == "__main__":
    main()
