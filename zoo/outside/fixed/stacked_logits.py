import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

torch.manual_seed(21)
SPEC = [64, 64, 64, 48, 48, 32, 32]

raw = load_breast_cancer()
Xtr, Xte, ytr, yte = train_test_split(raw.data, raw.target, test_size=0.3, random_state=1, stratify=raw.target)
scaler = StandardScaler().fit(Xtr)
Xtr, Xte = (torch.as_tensor(scaler.transform(a), dtype=torch.float32) for a in (Xtr, Xte))
ytr, yte = torch.as_tensor(ytr).float(), torch.as_tensor(yte).float()


class Diagnosis(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        blocks = []
        for width in SPEC:
            blocks.extend([nn.Linear(n_in, width), nn.ELU()])
            n_in = width
        self.stack = nn.Sequential(*blocks)
        self.head = nn.Linear(n_in, 1)

    def forward(self, x):
        return self.head(self.stack(x)).flatten()


model = Diagnosis(Xtr.shape[1])
objective = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(60):
    perm = torch.randperm(len(Xtr))
    for idx in perm.split(32):
        loss = objective(model(Xtr[idx]), ytr[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(f"[{epoch + 1:3d}] bce {loss.item():.4f}")

with torch.no_grad():
    logits = model(Xte)
    print("test bce %.4f  accuracy %.3f" % (objective(logits, yte), ((logits > 0) == (yte > 0.5)).float().mean()))
