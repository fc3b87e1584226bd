# contextual bandit with REINFORCE and a moving baseline
import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(90)
CTX, ARMS = 8, 6
theta = torch.randn(CTX, ARMS)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(CTX, 64)
        self.affine2 = nn.Linear(64, ARMS)

    def forward(self, s):
        return Categorical(logits=self.affine2(torch.tanh(self.affine1(s))))


policy = Policy()
optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
baseline = 0.0
running = 0.0
for episode in range(1, 401):
    s = torch.randn(128, CTX)
    dist = policy(s)
    a = dist.sample()
    best = (s @ theta).argmax(1)
    reward = (a == best).float()
    adv = reward - baseline
    loss = -(dist.log_prob(a) * adv).mean()
    loss.backward()
    optimizer.step()
    baseline = 0.9 * baseline + 0.1 * reward.mean().item()
    running = 0.95 * running + 0.05 * reward.mean().item()
    if episode % 40 == 0:
        print(f"Episode {episode}\tloss {loss.item():.4f}\taverage reward {running:.3f}")
