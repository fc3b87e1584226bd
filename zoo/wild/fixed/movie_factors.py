import torch
import torch.nn as nn
import torch.nn.functional as F

N_USERS, N_ITEMS, RANK = 300, 200, 8


def ratings(seed=0, n=24000):
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(N_USERS, 4, generator=g)
    q = torch.randn(N_ITEMS, 4, generator=g)
    bu, bi = 0.4 * torch.randn(N_USERS, generator=g), 0.4 * torch.randn(N_ITEMS, generator=g)
    u = torch.randint(N_USERS, (n,), generator=g)
    i = torch.randint(N_ITEMS, (n,), generator=g)
    r = 3.5 + bu[u] + bi[i] + 0.5 * (p[u] * q[i]).sum(1) + 0.3 * torch.randn(n, generator=g)
    return u, i, r.clamp(0.5, 5.0)


class BiasedMF(nn.Module):
    def __init__(self):
        super().__init__()
        self.user = nn.Embedding(N_USERS, RANK)
        self.item = nn.Embedding(N_ITEMS, RANK)
        self.user_bias = nn.Embedding(N_USERS, 1)
        self.item_bias = nn.Embedding(N_ITEMS, 1)
        self.mu = nn.Parameter(torch.tensor(3.5))
        for e in (self.user, self.item):
            nn.init.normal_(e.weight, std=0.1)
        for e in (self.user_bias, self.item_bias):
            nn.init.zeros_(e.weight)

    def forward(self, u, i):
        dot = (self.user(u) * self.item(i)).sum(-1)
        return self.mu + dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


def rmse(model, u, i, r):
    with torch.no_grad():
        return F.mse_loss(model(u, i), r).sqrt().item()


def main(lr=2.0, epochs=30, batch_size=1000):
    torch.manual_seed(0)
    u, i, r = ratings()
    cut = 20000
    model = BiasedMF()
    params = [p for n, p in model.named_parameters() if n != "mu"]
    opt = torch.optim.SGD([{"params": params, "lr": lr}, {"params": [model.mu], "lr": 0.01}], momentum=0.9)
    for epoch in range(epochs):
        for idx in torch.randperm(cut).split(batch_size):
            opt.zero_grad()
            loss = F.mse_loss(model(u[idx], i[idx]), r[idx])
            loss.backward()
            opt.step()
        if epoch % 3 == 2:
            print(f"epoch {epoch + 1:3d}: train rmse {rmse(model, u[:cut], i[:cut], r[:cut]):.4f}"
                  f" test rmse {rmse(model, u[cut:], i[cut:], r[cut:]):.4f}")


main()
