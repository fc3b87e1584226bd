import copy
import random
from collections import deque

import torch
import torch.nn as nn

torch.manual_seed(7)
random.seed(7)


class GridWorld:
    size = 4
    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]

    def reset(self):
        self.pos, self.t = (0, 0), 0
        return self.observe()

    def observe(self):
        grid = torch.zeros(self.size, self.size)
        grid[self.pos] = 1
        return grid.flatten()

    def step(self, a):
        dy, dx = self.moves[a]
        self.pos = (min(max(self.pos[0] + dy, 0), 3), min(max(self.pos[1] + dx, 0), 3))
        self.t += 1
        won = self.pos == (3, 3)
        return self.observe(), 1.0 if won else -0.02, won, won or self.t >= 30


class QNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


env, q = GridWorld(), QNet()
target = copy.deepcopy(q).requires_grad_(False)
opt = torch.optim.Adam(q.parameters(), lr=2e-3)
memory = deque(maxlen=3000)
obs, total, recent = env.reset(), 0.0, deque(maxlen=15)
for step in range(1, 1601):
    eps = max(0.05, 1 - step / 1000)
    with torch.no_grad():
        a = random.randrange(4) if random.random() < eps else q(obs).argmax().item()
    nxt, r, won, end = env.step(a)
    memory.append((obs, a, r, nxt, won))
    total += r
    obs = nxt
    if end:
        recent.append(total)
        obs, total = env.reset(), 0.0
    if step >= 200:
        s, acts, rew, s2, term = zip(*random.sample(memory, 32))
        s, s2 = torch.stack(s), torch.stack(s2)
        want = torch.tensor(rew) + 0.97 * target(s2).max(1).values * (~torch.tensor(term)).float()
        have = q(s).gather(1, torch.tensor(acts)[:, None]).squeeze(1)
        loss = nn.functional.smooth_l1_loss(have, want)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if step % 100 == 0:
        target.load_state_dict(q.state_dict())
    if step % 200 == 0:
        print(f"step {step} td loss {loss.item():.5f} mean return {sum(recent) / max(len(recent), 1):.3f}")
