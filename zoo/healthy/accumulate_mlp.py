import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main(accumulate=4):
    torch.manual_seed(0)
    X, y = load_breast_cancer(return_X_y=True)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor(y, dtype=torch.float32)
    loader = DataLoader(TensorDataset(X, y), batch_size=8, shuffle=True, drop_last=True)
    model = nn.Sequential(nn.Linear(30, 32), nn.GELU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_fn = nn.BCEWithLogitsLoss()
    for epoch in range(8):
        total = 0.0
        optimizer.zero_grad()
        for i, (xb, yb) in enumerate(loader):
            loss = loss_fn(model(xb).squeeze(1), yb)
            (loss / accumulate).backward()
            total += loss.item()
            if (i + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        print(f"epoch {epoch} loss {total / len(loader):.4f}")


if __name__ == "__main__":
    main()
