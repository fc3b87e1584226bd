"""A2C with several workers on a hovering task."""
import numpy as np
import torch
from torch import nn, optim
from torch.distributions import Normal


class Hover:
    def __init__(self, n, rng):
        self.n, self.rng = n, rng
        self.h, self.v = np.zeros(n), np.zeros(n)
        self.reset(np.ones(n, bool))

    def reset(self, which):
        k = which.sum()
        self.h[which] = self.rng.uniform(-1, 1, k)
        self.v[which] = self.rng.uniform(-0.3, 0.3, k)

    def state(self):
        return torch.tensor(np.stack([self.h, self.v], 1), dtype=torch.float32)

    def step(self, thrust):
        self.v += 0.1 * (np.clip(thrust, -2, 2) - 0.5) + 0.02 * self.rng.normal(size=self.n)
        self.h += 0.1 * self.v
        crash = np.abs(self.h) > 2
        reward = 1.0 - np.abs(self.h) - 0.1 * np.abs(self.v) - 5.0 * crash
        self.reset(crash)
        return torch.tensor(reward, dtype=torch.float32), torch.tensor(crash, dtype=torch.float32)


class GaussianActor(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, s):
        return Normal(self.body(s).squeeze(-1), self.log_std.exp())


def gae(rew, val, done, last, gamma=0.95, lam=0.9):
    adv, run = [], torch.zeros_like(last)
    for t in reversed(range(len(rew))):
        delta = rew[t] + gamma * last * (1 - done[t]) - val[t]
        run = delta + gamma * lam * (1 - done[t]) * run
        adv.insert(0, run)
        last = val[t]
    return torch.stack(adv)


def main():
    torch.manual_seed(12)
    env = Hover(24, np.random.default_rng(12))
    actor = GaussianActor()
    critic = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(0))
    opt_a, opt_c = optim.Adam(actor.parameters(), lr=5e-3), optim.Adam(critic.parameters(), lr=1e-2)
    rewards = []
    for update in range(1, 251):
        S, A, R, D, V = [], [], [], [], []
        s = env.state()
        for _ in range(10):
            with torch.no_grad():
                a, v = actor(s).sample(), critic(s)
            r, d = env.step(a.numpy())
            S.append(s); A.append(a); R.append(r); D.append(d); V.append(v)
            s = env.state()
        with torch.no_grad():
            adv = gae(R, V, D, critic(s))
        ret = (adv + torch.stack(V)).flatten()
        norm_adv = ((adv - adv.mean()) / (adv.std() + 1e-6)).flatten()
        dist = actor(torch.cat(S))
        actor_loss = -(dist.log_prob(torch.cat(A)) * norm_adv).mean() - 1e-3 * dist.entropy().mean()
        critic_loss = (critic(torch.cat(S)) - ret).square().mean()
        for o, l in ((opt_a, actor_loss), (opt_c, critic_loss)):
            o.zero_grad()
            l.backward()
            o.step()
        rewards.append(torch.cat(R).mean().item())
        if update % 25 == 0:
            print(f"update {update} actor {actor_loss.item():+.4f} critic {critic_loss.item():.3f} reward {np.mean(rewards[-25:]):.3f}")


if __name__ == "__main__":
    main()
