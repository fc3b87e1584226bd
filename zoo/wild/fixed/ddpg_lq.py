"""DDPG-style actor-critic on a small linear-quadratic problem, with a numpy replay buffer."""
import collections
import random

import numpy as np
import torch
from torch import nn

Transition = collections.namedtuple("Transition", "s a r s2")


class Replay:
    def __init__(self, capacity):
        self.buf = collections.deque(maxlen=capacity)

    def push(self, *args):
        self.buf.append(Transition(*args))

    def sample(self, n):
        rows = random.sample(self.buf, n)
        return [torch.tensor(np.stack(c), dtype=torch.float32) for c in zip(*rows)]


class LQ:
    A = np.array([[1.0, 0.1], [-0.1, 0.95]])
    B = np.array([[0.0], [0.3]])

    def reset(self):
        self.s = np.random.randn(2)
        return self.s

    def step(self, a):
        self.s = self.A @ self.s + self.B @ a + 0.02 * np.random.randn(2)
        return self.s, -float(self.s @ self.s) - 0.05 * float(a @ a)


def mlp(*dims, out=None):
    mods = []
    for i in range(len(dims) - 1):
        mods.append(nn.Linear(dims[i], dims[i + 1]))
        if i < len(dims) - 2:
            mods.append(nn.ReLU())
    return nn.Sequential(*mods, *([out] if out else []))


def soft_update(target, source, tau):
    with torch.no_grad():
        for t, s in zip(target.parameters(), source.parameters()):
            t.lerp_(s, tau)


random.seed(3); np.random.seed(3); torch.manual_seed(3)
actor, critic = mlp(2, 32, 32, 1, out=nn.Tanh()), mlp(3, 32, 32, 1)
actor_t, critic_t = mlp(2, 32, 32, 1, out=nn.Tanh()), mlp(3, 32, 32, 1)
actor_t.load_state_dict(actor.state_dict()); critic_t.load_state_dict(critic.state_dict())
for p in [*actor_t.parameters(), *critic_t.parameters()]:
    p.requires_grad_(False)
opt_actor = torch.optim.Adam(actor.parameters(), lr=1e-3)
opt_critic = torch.optim.SGD(critic.parameters(), lr=5e-3, momentum=0.9)
env, memory, gamma = LQ(), Replay(5000), 0.9
returns = []
for episode in range(40):
    s, total = env.reset(), 0.0
    for t in range(30):
        with torch.no_grad():
            a = actor(torch.tensor(s, dtype=torch.float32)).numpy()
        a = np.clip(a + 0.2 * np.random.randn(1), -1, 1)
        s2, r = env.step(a)
        memory.push(s, a, [r], s2)
        s, total = s2, total + r
        if len(memory.buf) < 128:
            continue
        bs, ba, br, bs2 = memory.sample(64)
        with torch.no_grad():
            y = br + gamma * critic_t(torch.cat([bs2, actor_t(bs2)], 1))
        critic_loss = nn.functional.smooth_l1_loss(critic(torch.cat([bs, ba], 1)), y)
        opt_critic.zero_grad()
        critic_loss.backward()
        opt_critic.step()
        actor_loss = -critic(torch.cat([bs, actor(bs)], 1)).mean()
        opt_actor.zero_grad()
        actor_loss.backward()
        opt_actor.step()
        soft_update(critic_t, critic, 0.02)
        soft_update(actor_t, actor, 0.02)
    returns.append(total)
    if episode % 5 == 4:
        print(f"episode {episode + 1} return {np.mean(returns[-5:]):.2f} critic {critic_loss.item():.4f} actor {actor_loss.item():.3f}")
print(f"last ten episodes: {np.mean(returns[-10:]):.2f}")
