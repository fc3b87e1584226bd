"""Screen tumours as malignant or benign."""
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn


def main():
    torch.manual_seed(0)
    X, y = load_breast_cancer(return_X_y=True)
    Xtr, Xte, ytr, yte = train_test_split(X, y, random_state=0, stratify=y)
    scaler = StandardScaler().fit(Xtr)
    Xtr = torch.tensor(scaler.transform(Xtr), dtype=torch.float32)
    Xte = torch.tensor(scaler.transform(Xte), dtype=torch.float32)
    ytr = torch.tensor(ytr, dtype=torch.float32).unsqueeze(1)
    yte = torch.tensor(yte).unsqueeze(1)

    model = nn.Sequential(
        nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(32, 16), nn.ReLU(),
        nn.Linear(16, 1), nn.Sigmoid(),
    )
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(20):
        model.train()
        total = 0.0
        order = torch.randperm(len(Xtr))
        for idx in order.split(32):
            optimizer.zero_grad()
            loss = criterion(model(Xtr[idx]), ytr[idx])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        model.eval()
        with torch.no_grad():
            accuracy = ((model(Xte) > 0.5).long() == yte).float().mean()
        if epoch % 2 == 1:
            print(f"epoch {epoch + 1} loss {total / len(Xtr):.4f} test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
