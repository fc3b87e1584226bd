"""Vanilla policy gradient on a contextual bandit with delayed reward."""
import numpy as np
import torch
import torch.nn as nn
from torch.distributions import Categorical


class Chain:
    """Walk right without falling off: five states, two actions, stochastic moves."""

    def __init__(self, rng):
        self.rng = rng

    def reset(self):
        self.s, self.t = 2, 0
        return self.s

    def step(self, a):
        move = 1 if (a == 1) != (self.rng.random() < 0.2) else -1
        self.s = min(max(self.s + move, 0), 4)
        self.t += 1
        return self.s, (1.0 if self.s == 4 else -0.1), self.t >= 12


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine = nn.Linear(5, 32)
        self.action_head = nn.Linear(32, 2)
        self.value_head = nn.Linear(32, 1)

    def forward(self, x):
        x = torch.relu(self.affine(x))
        return Categorical(logits=self.action_head(x)), self.value_head(x).squeeze(-1)


def one_hot(s):
    return torch.eye(5)[s]


def episode(env, policy):
    s, done, log = env.reset(), False, []
    while not done:
        dist, v = policy(one_hot(s))
        a = dist.sample()
        s, r, done = env.step(a.item())
        log.append((dist.log_prob(a), v, r, dist.entropy()))
    return log


def main():
    torch.manual_seed(543)
    env = Chain(np.random.default_rng(543))
    policy = Policy()
    opt = torch.optim.Adam(policy.parameters(), lr=1e-2)
    running = None
    for i in range(1, 301):
        log = episode(env, policy)
        g, returns = 0.0, []
        for _, _, r, _ in reversed(log):
            g = r + 0.95 * g
            returns.insert(0, g)
        ret = torch.tensor(returns)
        logp = torch.stack([x[0] for x in log])
        val = torch.stack([x[1] for x in log])
        ent = torch.stack([x[3] for x in log]).mean()
        adv = ret - val.detach()
        policy_loss = -(logp * adv).mean() - 0.01 * ent
        loss = policy_loss + 0.5 * (val - ret).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        total = sum(x[2] for x in log)
        running = total if running is None else 0.95 * running + 0.05 * total
        if i % 30 == 0:
            print(f"Episode {i}\tloss {policy_loss.item():+.4f}\tlast return {total:.2f}\taverage {running:.2f}")


main()
