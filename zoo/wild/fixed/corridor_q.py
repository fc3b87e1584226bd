"""DQN-style value regression on a corridor with function approximation."""
import copy

import numpy as np
import torch
import torch.nn as nn

N, ACTIONS, GAMMA = 12, 2, 0.9


def encode(s):
    pos = s.float() / (N - 1)
    return torch.stack([pos, 1 - pos, torch.sin(3.14 * pos), torch.cos(3.14 * pos)], 1)


def transition(s, a, rng):
    slip = torch.from_numpy(rng.random(len(s)) < 0.1)
    a = torch.where(slip, 1 - a, a)
    s2 = (s + 2 * a - 1).clamp(0, N - 1)
    reward = (s2 == N - 1).float() * 1.0 + (s2 == 0).float() * 0.3
    return s2, reward


def boost(step):
    return 1.0


class QNet(nn.Module):
    def __init__(self, h=48):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(4, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, ACTIONS))

    def forward(self, s):
        return self.fc(encode(s))


def true_values(sweeps=400):
    v = np.zeros(N)
    for _ in range(sweeps):
        q = np.zeros((N, 2))
        for s in range(N):
            for a in range(2):
                for move, pr in ((a, 0.9), (1 - a, 0.1)):
                    t = min(max(s + 2 * move - 1, 0), N - 1)
                    q[s, a] += pr * ((t == N - 1) * 1.0 + (t == 0) * 0.3 + GAMMA * v[t])
        v = q.max(1)
    return torch.tensor(q, dtype=torch.float32)


def main():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    net = QNet()
    target = copy.deepcopy(net)
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.8)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, boost)
    exact = true_values()
    for step in range(1200):
        s = torch.from_numpy(rng.integers(0, N, 64))
        a = torch.from_numpy(rng.integers(0, 2, 64))
        s2, r = transition(s, a, rng)
        with torch.no_grad():
            y = r + GAMMA * target(s2).max(1).values
        q = net(s).gather(1, a[:, None]).squeeze(1)
        loss = nn.functional.mse_loss(q, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        if step % 20 == 0:
            target.load_state_dict(net.state_dict())
        if step % 200 == 199:
            with torch.no_grad():
                gap = (net(torch.arange(N)) - exact).square().mean().sqrt().item()
            print(f"step {step + 1:5d} td loss {loss.item():.5f} rms gap to exact values {gap:.4f}")


main()
