"""Temporal-difference learning of state values on a slippery corridor, with a target network."""
import copy

import torch
from torch import nn

N, GAMMA = 12, 0.95


class Value(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(N, 48), nn.Tanh(), nn.Linear(48, 1))

    def forward(self, s):
        return self.net(nn.functional.one_hot(s, N).float()).squeeze(-1)


def transitions(n):
    s = torch.randint(0, N, (n,))
    drift = torch.where(torch.rand(n) < 0.8, 1, -1)
    nxt = (s + drift).clamp(0, N - 1)
    return s, (nxt == N - 1).float(), nxt


torch.manual_seed(8)
online = Value()
target = copy.deepcopy(online)
opt = torch.optim.SGD(online.parameters(), lr=0.05)
for update in range(400):
    s, r, nxt = transitions(64)
    with torch.no_grad():
        goal = r + GAMMA * target(nxt) * (nxt != N - 1)
    loss = (online(s) - goal).pow(2).mean()
    loss.backward()
    opt.step()
    if update % 20 == 0:
        target.load_state_dict(online.state_dict())
    if update % 50 == 0:
        print(update, f"td error {loss.item():.5f}")
