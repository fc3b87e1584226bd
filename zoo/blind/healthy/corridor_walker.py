import torch
from torch import nn
from torch.distributions import Categorical


class Corridor:
    def __init__(self, length=7):
        self.length = length

    def reset(self):
        self.pos, self.t = self.length // 2, 0
        return self.obs()

    def obs(self):
        return torch.nn.functional.one_hot(torch.tensor(self.pos), self.length).float()

    def step(self, action):
        self.pos += 1 if action == 1 else -1
        self.t += 1
        if self.pos >= self.length:
            return None, 1.0
        if self.pos < 0:
            return None, 0.2
        return (None if self.t >= 20 else self.obs()), -0.02


torch.manual_seed(23)
policy = nn.Sequential(nn.Linear(7, 24), nn.Tanh(), nn.Linear(24, 2))
opt = torch.optim.Adam(policy.parameters(), lr=1e-2)
env, baseline, recent = Corridor(), 0.0, []
for episode in range(250):
    s, logp, rewards = env.reset(), [], []
    while s is not None:
        dist = Categorical(logits=policy(s))
        a = dist.sample()
        logp.append(dist.log_prob(a))
        s, r = env.step(a.item())
        rewards.append(r)
    ret = sum(rewards)
    loss = -(ret - baseline) * torch.stack(logp).sum()
    baseline = 0.9 * baseline + 0.1 * ret
    opt.zero_grad()
    loss.backward()
    opt.step()
    recent.append(ret)
    if episode % 50 == 49:
        print("episode", episode + 1, "loss", round(loss.item(), 3), "return", round(sum(recent[-50:]) / 50, 3))
