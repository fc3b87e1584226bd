"""Deep Q-learning on a small chain with a delayed reward."""
import copy
import random

import torch
from torch import nn

torch.manual_seed(0)
random.seed(0)
N, GAMMA = 7, 0.9


def encode(s):
    return nn.functional.one_hot(torch.as_tensor(s), N).float()


def env_step(s, a):
    s2 = min(s + 1, N - 1) if a == 1 else max(s - 1, 0)
    return s2, (1.0 if s2 == N - 1 else 0.0), s2 == N - 1


q = nn.Sequential(nn.Linear(N, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.deepcopy(q)
optimizer = torch.optim.Adam(q.parameters(), lr=2e-3)
buffer, s, episode_len = [], 0, 0
for t in range(900):
    eps = max(0.1, 1 - t / 400)
    with torch.no_grad():
        a = random.randrange(2) if random.random() < eps else int(q(encode(s)).argmax())
    s2, r, done = env_step(s, a)
    episode_len += 1
    buffer.append((s, a, r, s2, done))
    s, episode_len = (0, 0) if done or episode_len >= 30 else (s2, episode_len)
    if t < 100 or t % 2:
        continue
    S, A, R, S2, D = (torch.tensor(v) for v in zip(*random.sample(buffer, 32)))
    with torch.no_grad():
        goal = R + GAMMA * target(encode(S2)).max(1).values * (~D)
    value = q(encode(S)).gather(1, A.unsqueeze(1)).squeeze(1)
    loss = nn.functional.smooth_l1_loss(value, goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if t % 50 == 0:
        target.load_state_dict(q.state_dict())
    if t % 80 == 0:
        with torch.no_grad():
            print(f"t {t} loss {loss.item():.4f} Q(start) {q(encode(0)).max().item():.3f}")
