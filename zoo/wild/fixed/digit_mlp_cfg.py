import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.nn import functional as F


def seed_everything(seed: int) -> None:
    np.random.seed(seed)
    torch.manual_seed(seed)


class CFG:
    seed = 2024
    width = 48
    n_blocks = 6
    n_classes = 10
    lr = 0.03
    batch = 64
    epochs = 20


class Classifier(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        dims = [n_features] + [CFG.width] * CFG.n_blocks
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in zip(dims, dims[1:]))
        self.head = nn.Linear(CFG.width, CFG.n_classes)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, x):
        for block in self.blocks:
            x = F.relu(block(x))
        return self.head(x)


def run_epoch(model, X, y, opt):
    perm = torch.randperm(len(X))
    losses = []
    for start in range(0, len(X), CFG.batch):
        idx = perm[start:start + CFG.batch]
        loss = F.cross_entropy(model(X[idx]), y[idx])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return float(np.mean(losses))


if __name__ == "__main__":
    seed_everything(CFG.seed)
    data = load_digits()
    X = (data.data - 8.0) / 6.0
    Xtr, Xva, ytr, yva = train_test_split(X.astype("float32"), data.target, test_size=0.25, stratify=data.target, random_state=0)
    Xtr, Xva = torch.from_numpy(Xtr), torch.from_numpy(Xva)
    ytr, yva = torch.from_numpy(ytr), torch.from_numpy(yva)
    model = Classifier(Xtr.shape[1])
    opt = optim.SGD(model.parameters(), lr=CFG.lr, momentum=0.9)
    for epoch in range(CFG.epochs):
        tr = run_epoch(model, Xtr, ytr, opt)
        with torch.no_grad():
            out = model(Xva)
            va = F.cross_entropy(out, yva).item()
            acc = (out.argmax(1) == yva).float().mean().item()
        print(f"[{epoch:02d}] train={tr:.4f} valid={va:.4f} acc={acc:.4f}")
