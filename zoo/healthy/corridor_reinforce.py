"""REINFORCE on a corridor: walk right to the goal in as few steps as possible."""
import torch
from torch import nn

torch.manual_seed(0)
LENGTH, MAX_STEPS = 8, 24


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(LENGTH, 32)
        self.logits = nn.Linear(32, 2)

    def forward(self, state):
        onehot = nn.functional.one_hot(state, LENGTH).float()
        return torch.distributions.Categorical(logits=self.logits(torch.tanh(self.body(onehot))))


policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=4e-3)
baseline, mean_return = 0.0, 0.0
for episode in range(1, 151):
    n = 6
    state, done = torch.zeros(n, dtype=torch.long), torch.zeros(n)
    ret, logps = torch.zeros(n), []
    for t in range(MAX_STEPS):
        dist = policy(state)
        action = dist.sample()
        logps.append(dist.log_prob(action) * (1 - done))
        slip = torch.rand(n) < 0.1
        move = torch.where(slip, -1, 2 * action - 1)
        state = (state + move * (1 - done).long()).clamp(0, LENGTH - 1)
        arrived = (state == LENGTH - 1).float() * (1 - done)
        ret += arrived * 1.0 - 0.02 * (1 - done)
        done = (done + arrived).clamp(max=1)
    advantage = ret - baseline
    baseline = 0.9 * baseline + 0.1 * ret.mean().item()
    loss = -(torch.stack(logps).sum(0) * advantage).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean_return += ret.mean().item() / 15
    if episode % 15 == 0:
        print(f"episode {episode} loss {loss.item():.3f} mean return {mean_return:.3f}")
        mean_return = 0.0
