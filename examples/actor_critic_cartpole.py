"""One-step advantage actor-critic on cart-pole, whose physics are written out below (Barto, Sutton and Anderson, 1983)."""
import argparse
import math
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.distributions import Categorical


class CartPole:
    """A pole on a cart: push left (0) or right (1); +1 for every step the pole stays up."""

    gravity, cart_mass, pole_mass, half_length, force, tau = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    max_angle, max_position, max_steps = 12 * math.pi / 180, 2.4, 300

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, size=4)
        self.t = 0
        return self.state.astype(np.float32)

    def step(self, action):
        x, v, angle, spin = self.state
        push = self.force if action == 1 else -self.force
        total = self.cart_mass + self.pole_mass
        sin, cos = math.sin(angle), math.cos(angle)
        temp = (push + self.pole_mass * self.half_length * spin**2 * sin) / total
        spin_acc = (self.gravity * sin - cos * temp) / (
            self.half_length * (4.0 / 3.0 - self.pole_mass * cos**2 / total)
        )
        acc = temp - self.pole_mass * self.half_length * spin_acc * cos / total
        self.state = np.array(
            [x + self.tau * v, v + self.tau * acc, angle + self.tau * spin, spin + self.tau * spin_acc]
        )
        self.t += 1
        fallen = abs(self.state[0]) > self.max_position or abs(self.state[2]) > self.max_angle
        return self.state.astype(np.float32), 1.0, fallen, self.t >= self.max_steps


class Policy(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.action_head = nn.Linear(hidden, 2)
        self.value_head = nn.Linear(hidden, 1)

    def forward(self, state):
        h = self.body(state)
        return Categorical(logits=self.action_head(h)), self.value_head(h).squeeze(-1)


def run_episode(env, policy):
    """Log-probabilities, values, entropies, rewards, and the value of the state where time ran out (0 if it fell)."""
    log_probs, values, entropies, rewards = [], [], [], []
    state = env.reset()
    while True:
        dist, value = policy(torch.from_numpy(state))
        action = dist.sample()
        state, reward, fallen, timeout = env.step(action.item())
        log_probs.append(dist.log_prob(action))
        values.append(value)
        entropies.append(dist.entropy())
        rewards.append(reward)
        if fallen or timeout:
            break
    tail = 0.0
    if not fallen:
        with torch.no_grad():
            tail = policy(torch.from_numpy(state))[1].item()
    return torch.stack(log_probs), torch.stack(values), torch.stack(entropies), rewards, tail


@torch.no_grad()
def greedy_episode(env, policy):
    state, done = env.reset(), False
    while not done:
        action = policy(torch.from_numpy(state))[0].probs.argmax().item()
        state, _, fallen, timeout = env.step(action)
        done = fallen or timeout
    return env.t


def discounted(rewards, gamma, tail):
    returns, total = [], tail
    for reward in reversed(rewards):
        total = reward + gamma * total
        returns.append(total)
    return torch.tensor(returns[::-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120, help="episodes, one update each")
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--entropy", type=float, default=0.01)
    parser.add_argument("--clip", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=543)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    env = CartPole(args.seed)
    policy = Policy()
    optimizer = optim.Adam(policy.parameters(), lr=args.lr)
    scale = 1.0 / (1.0 - args.gamma)  # the largest possible return, so that the critic learns values of order one
    recent = deque(maxlen=20)

    for episode in range(1, args.steps + 1):
        log_probs, values, entropies, rewards, tail = run_episode(env, policy)
        returns = discounted([r / scale for r in rewards], args.gamma, tail)
        advantage = returns - values.detach()
        policy_loss = -(log_probs * advantage).mean()
        value_loss = F.smooth_l1_loss(values, returns)
        loss = policy_loss + value_loss - args.entropy * entropies.mean()

        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), args.clip)
        optimizer.step()

        recent.append(len(rewards))
        if episode == 1 or episode % 20 == 0 or episode == args.steps:
            print(
                f"episode {episode:4d}  length {len(rewards):3d}  mean of last {len(recent)} {np.mean(recent):6.1f}"
                f"  value loss {value_loss.item():.4f}  entropy {entropies.mean().item():.3f}"
            )

    print(f"greedy policy: mean length {np.mean([greedy_episode(env, policy) for _ in range(10)]):.1f} over 10 episodes")


if __name__ == "__main__":
    main()
