# PPO, single file, discrete actions, hand-written vector environment
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical


@dataclass
class Args:
    seed: int = 1
    num_envs: int = 16
    num_steps: int = 32
    iterations: int = 40
    lr: float = 2.5e-3
    gamma: float = 0.9
    gae_lambda: float = 0.95
    epochs: int = 3
    minibatches: int = 4
    clip: float = 0.2
    ent: float = 0.01
    vf: float = 0.5
    max_norm: float = 0.5


class WindVec:
    """A point must stay near a target that drifts with the wind."""

    def __init__(self, n, rng):
        self.n, self.rng = n, rng

    def reset(self):
        self.pos = self.rng.normal(size=(self.n, 2))
        self.goal = self.rng.normal(size=(self.n, 2))
        self.wind = 0.1 * self.rng.normal(size=(self.n, 2))
        return self.obs()

    def obs(self):
        return np.concatenate([self.pos, self.goal, self.wind], 1).astype(np.float32)

    def step(self, a):
        moves = np.array([[0, 0], [0.3, 0], [-0.3, 0], [0, 0.3], [0, -0.3]])
        self.pos = np.clip(self.pos + moves[a] + self.wind, -3, 3)
        reward = -np.abs(self.pos - self.goal).sum(1)
        lost = self.rng.random(self.n) < 0.05
        k = lost.sum()
        self.goal[lost] = self.rng.normal(size=(k, 2))
        self.wind[lost] = 0.1 * self.rng.normal(size=(k, 2))
        return self.obs(), 0.1 * reward.astype(np.float32), lost.astype(np.float32)


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, 64)), nn.Tanh(),
            layer_init(nn.Linear(64, act_dim), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x).squeeze(-1)

    def act(self, x, action=None):
        dist = Categorical(logits=self.actor(x))
        if action is None:
            action = dist.sample()
        return action, dist.log_prob(action), dist.entropy(), self.get_value(x)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    envs = WindVec(args.num_envs, rng)
    agent = Agent(6, 5)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.lr, eps=1e-5)
    next_obs = torch.from_numpy(envs.reset())
    start = time.time()
    history = []
    for it in range(args.iterations):
        obs, acts, logps, rews, dones, vals = [], [], [], [], [], []
        for _ in range(args.num_steps):
            with torch.no_grad():
                a, lp, _, v = agent.act(next_obs)
            o2, r, d = envs.step(a.numpy())
            obs.append(next_obs); acts.append(a); logps.append(lp); vals.append(v)
            rews.append(torch.from_numpy(r)); dones.append(torch.from_numpy(d))
            next_obs = torch.from_numpy(o2)
        with torch.no_grad():
            nxt, adv, last = agent.get_value(next_obs), [], 0
            for t in reversed(range(args.num_steps)):
                nonterm = 1 - dones[t]
                delta = rews[t] + args.gamma * nxt * nonterm - vals[t]
                last = delta + args.gamma * args.gae_lambda * nonterm * last
                adv.insert(0, last)
                nxt = vals[t]
        b_obs, b_act, b_lp = torch.cat(obs), torch.cat(acts), torch.cat(logps)
        b_adv = torch.cat(adv)
        b_ret = b_adv + torch.cat(vals)
        history.append(torch.cat(rews).mean().item())
        for _ in range(args.epochs):
            for idx in torch.randperm(len(b_obs)).chunk(args.minibatches):
                _, newlp, ent, newv = agent.act(b_obs[idx], b_act[idx])
                ratio = (newlp - b_lp[idx]).exp()
                mb = b_adv[idx]
                mb = (mb - mb.mean()) / (mb.std() + 1e-8)
                pg = torch.max(-mb * ratio, -mb * ratio.clamp(1 - args.clip, 1 + args.clip)).mean()
                v_loss = F.mse_loss(newv, b_ret[idx])
                loss = pg - args.ent * ent.mean() + args.vf * v_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_norm)
                optimizer.step()
        if it % 5 == 4:
            print(f"iter {it+1} value_loss {v_loss.item():.3f} policy_loss {pg.item():.4f} reward {history[-1]:.3f}")
    print(f"mean reward of the last ten iterations {np.mean(history[-10:]):.3f}")
