import copy
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

GAMMA, BATCH, SIDE = 0.95, 64, 5


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.network(x)


class Grid:
    """Collect a coin that reappears at random: a continuing task."""
    MOVES = [(1, 0), (-1, 0), (0, 1), (0, -1)]

    def __init__(self):
        self.me, self.coin = (0, 0), (3, 3)

    def obs(self):
        return [v / (SIDE - 1) * 2 - 1 for v in (*self.me, *self.coin)]

    def step(self, a):
        dx, dy = self.MOVES[a]
        self.me = (min(max(self.me[0] + dx, 0), SIDE - 1), min(max(self.me[1] + dy, 0), SIDE - 1))
        if self.me == self.coin:
            while self.coin == self.me:
                self.coin = (random.randrange(SIDE), random.randrange(SIDE))
            return 1.0
        return 0.0


def linear_schedule(start, end, duration, t):
    return max(end, start + (end - start) * t / duration)


if __name__ == "__main__":
    random.seed(1)
    torch.manual_seed(1)
    env, buf = Grid(), deque(maxlen=10000)
    q = QNetwork()
    target = copy.deepcopy(q)
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    coins, losses = 0.0, []
    for t in range(3000):
        s = env.obs()
        if random.random() < linear_schedule(1.0, 0.05, 1500, t):
            a = random.randrange(4)
        else:
            with torch.no_grad():
                a = q(torch.tensor(s)).argmax().item()
        r = env.step(a)
        coins += r
        buf.append((s, a, r, env.obs()))
        if t > 200 and t % 2 == 0:
            s_, a_, r_, n_ = map(torch.tensor, zip(*random.sample(buf, BATCH)))
            with torch.no_grad():
                td_target = r_ + GAMMA * target(n_).max(1).values
            pred = q(s_).gather(1, a_[:, None]).squeeze(1)
            loss = F.mse_loss(pred, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if t % 100 == 0:
                target.load_state_dict(q.state_dict())
        if t % 300 == 299:
            print(f"t={t + 1} td_loss={sum(losses[-100:]) / 100:.5f} mean_q={pred.mean().item():.3f} coins={coins:.0f}")
            coins = 0.0
