"""Learn a simulator (two coupled oscillators) with a growing roll-out horizon."""
import torch
import torch.nn as nn


def physics(state, dt=0.1):
    q, p = state[:, :2], state[:, 2:]
    for _ in range(4):
        force = -q - 0.6 * (q - q.flip(1)) - 0.2 * q ** 3
        p = p + dt / 4 * force
        q = q + dt / 4 * p
    return torch.cat([q, p], 1)


def trajectories(n, length):
    s = torch.randn(n, 4) * 0.8
    out = [s]
    for _ in range(length):
        out.append(physics(out[-1]))
    return torch.stack(out, 1)


class Simulator(nn.Module):
    def __init__(self):
        super().__init__()
        self.delta = nn.Sequential(nn.Linear(4, 48), nn.Tanh(), nn.Linear(48, 4))

    def roll(self, s, steps):
        out = []
        for _ in range(steps):
            s = s + 0.2 * self.delta(s)
            out.append(s)
        return torch.stack(out, 1)


STAGES = [(1, 150), (3, 150), (6, 150), (12, 250)]


def main():
    torch.manual_seed(36)
    data, test = trajectories(400, 12), trajectories(100, 12)
    sim = Simulator()
    opt = torch.optim.Adam(sim.parameters(), lr=3e-3)
    for horizon, steps in STAGES:
        total = 0.0
        for k in range(steps):
            rows = torch.randint(0, len(data), (48,))
            start = torch.randint(0, 13 - horizon, (1,)).item()
            pred = sim.roll(data[rows, start], horizon)
            loss = (pred - data[rows, start + 1:start + 1 + horizon]).square().mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
            if k % 50 == 49:
                with torch.no_grad():
                    full = (sim.roll(test[:, 0], 12) - test[:, 1:]).square().mean().item()
                print(f"horizon {horizon:2d} step {k + 1} train {total / 50:.6f} full-horizon test {full:.6f}")
                total = 0.0


main()
