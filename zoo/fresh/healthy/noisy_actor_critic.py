"""Actor-critic on a random-reward bandit chain: very noisy losses of both signs."""
import torch
from torch import nn
from torch.distributions import Categorical


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(5, 32), nn.Tanh())
        self.actor, self.critic = nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, s):
        h = self.shared(s)
        return Categorical(logits=self.actor(h)), self.critic(h).squeeze(-1)


torch.manual_seed(1)
net = ActorCritic()
opt = torch.optim.RMSprop(net.parameters(), lr=1e-3)
best = torch.tensor([0, 2, 1, 0, 2])
for update in range(400):
    s = torch.randint(0, 5, (12,))
    dist, value = net(nn.functional.one_hot(s, 5).float())
    a = dist.sample()
    reward = (a == best[s]).float() * 2 + 3 * torch.randn(12)
    adv = reward - value.detach()
    loss = -(dist.log_prob(a) * adv).mean() + 0.5 * (reward - value).pow(2).mean() - 0.01 * dist.entropy().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
