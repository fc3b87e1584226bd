import random
from collections import deque
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(5); torch.manual_seed(5)
N = 5


class Grid:
    def reset(self):
        self.p = [random.randrange(N), random.randrange(N)]
        return self.obs()

    def obs(self):
        return torch.tensor([self.p[0] / N, self.p[1] / N, (N - 1 - self.p[0]) / N, (N - 1 - self.p[1]) / N])

    def step(self, a):
        d = [(1, 0), (-1, 0), (0, 1), (0, -1)][a]
        self.p = [min(N - 1, max(0, self.p[0] + d[0])), min(N - 1, max(0, self.p[1] + d[1]))]
        done = self.p == [N - 1, N - 1]
        return self.obs(), (1.0 if done else -0.04), done


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.q = nn.Linear(64, 4)
        nn.init.constant_(self.body[2].bias, -1.5)

    def forward(self, s):
        return self.q(self.body(s))


online, target = QNet(), QNet()
target.load_state_dict(online.state_dict())
opt = torch.optim.Adam(online.parameters(), lr=1e-3)
buf, env = deque(maxlen=2000), Grid()
s, tdsum, succ, ep_len = env.reset(), 0.0, [], 0
for t in range(1, 1201):
    eps = max(0.1, 1 - t / 600)
    with torch.no_grad():
        a = random.randrange(4) if random.random() < eps else int(online(s).argmax())
    s2, r, done = env.step(a)
    ep_len += 1
    buf.append((s, a, r, s2, float(done)))
    s = s2
    if done or ep_len >= 30:
        succ.append(float(done)); s, ep_len = env.reset(), 0
    if t > 200 and t % 4 == 0:
        bs, ba, br, bn, bd = zip(*random.sample(buf, 32))
        bs, bn, ba = torch.stack(bs), torch.stack(bn), torch.tensor(ba)
        with torch.no_grad():
            y = torch.tensor(br) + 0.95 * (1 - torch.tensor(bd)) * target(bn).max(1).values
        td = F.smooth_l1_loss(online(bs).gather(1, ba[:, None]).squeeze(1), y)
        opt.zero_grad(); td.backward(); opt.step()
        tdsum += td.item()
    if t % 100 == 0:
        target.load_state_dict(online.state_dict())
    if t % 200 == 0:
        print(f"t {t} td {tdsum / 50:.5f} success {sum(succ[-20:]) / max(1, len(succ[-20:])):.2f}"); tdsum = 0.0
