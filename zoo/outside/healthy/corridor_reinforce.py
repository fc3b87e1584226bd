import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(6)
LENGTH, EPISODES, HORIZON = 9, 16, 24


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(LENGTH, 32), nn.Tanh(), nn.Linear(32, 2))

    def forward(self, s):
        return Categorical(logits=self.body(nn.functional.one_hot(s, LENGTH).float()))


def play(policy):
    s = torch.full((EPISODES,), LENGTH // 2)
    done = torch.zeros(EPISODES, dtype=torch.bool)
    logps, rewards, alive = [], [], []
    for _ in range(HORIZON):
        dist = policy(s)
        a = dist.sample()
        slip = torch.rand(EPISODES) < 0.1
        move = torch.where(slip, 1 - a, a) * 2 - 1
        s = (s + move).clamp(0, LENGTH - 1)
        r = torch.where(s == LENGTH - 1, 1.0, -0.02) + torch.where(s == 0, 0.1, 0.0)
        alive.append(~done)
        logps.append(dist.log_prob(a))
        rewards.append(r * (~done))
        done = done | (s == LENGTH - 1) | (s == 0)
    return torch.stack(logps), torch.stack(rewards), torch.stack(alive).float()


policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
baseline, returns = 0.0, []
for it in range(1, 251):
    logp, reward, alive = play(policy)
    togo = reward.flip(0).cumsum(0).flip(0)
    total = togo[0].mean().item()
    baseline = 0.9 * baseline + 0.1 * total
    loss = -(logp * (togo - baseline) * alive).sum(0).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    returns.append(total)
    if it % 50 == 0:
        print(f"iteration {it} loss {loss.item():+.3f} return {sum(returns[-25:]) / 25:.3f}")
