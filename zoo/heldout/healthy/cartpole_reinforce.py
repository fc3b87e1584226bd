# REINFORCE on a small hand-written cart-pole
import math, random
import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(1001); random.seed(1001)


class CartPole:
    def reset(self):
        self.s = [random.uniform(-0.05, 0.05) for _ in range(4)]
        return torch.tensor(self.s)

    def step(self, a):
        x, v, th, w = self.s
        f = 10.0 if a else -10.0
        tmp = (f + 0.05 * w * w * math.sin(th)) / 1.1
        acc_t = (9.8 * math.sin(th) - math.cos(th) * tmp) / (0.5 * (4 / 3 - 0.1 * math.cos(th) ** 2 / 1.1))
        acc_x = tmp - 0.05 * acc_t * math.cos(th) / 1.1
        self.s = [x + 0.02 * v, v + 0.02 * acc_x, th + 0.02 * w, w + 0.02 * acc_t]
        return torch.tensor(self.s), 1.0, abs(self.s[0]) > 2.4 or abs(self.s[2]) > 0.21


pi = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
opt = torch.optim.Adam(pi.parameters(), lr=1e-2)
env, avg = CartPole(), 15.0
for ep in range(1, 81):
    s, logps, rews = env.reset(), [], []
    for _ in range(100):
        dist = Categorical(logits=pi(s))
        a = dist.sample()
        logps.append(dist.log_prob(a))
        s, r, done = env.step(int(a))
        rews.append(r)
        if done:
            break
    ret, g = [], 0.0
    for r in reversed(rews):
        g = r + 0.99 * g
        ret.insert(0, g)
    ret = torch.tensor(ret)
    ret = (ret - ret.mean()) / (ret.std() + 1e-6)
    loss = -(torch.stack(logps) * ret).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    avg = 0.95 * avg + 0.05 * len(rews)
    if ep % 20 == 0:
        print(f"Episode {ep} length {len(rews)} average {avg:.1f} loss {loss.item():.3f}")
