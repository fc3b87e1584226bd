import torch
import torch.nn as nn
import torch.optim as optim
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
Xn, yn = load_wine(return_X_y=True)
Xn = StandardScaler().fit_transform(Xn)
a, b, c, d = train_test_split(Xn, yn, test_size=0.3, random_state=2, stratify=yn)
trainset = TensorDataset(torch.tensor(a).float(), torch.tensor(c))
X_val, y_val = torch.tensor(b).float(), torch.tensor(d)
loader = DataLoader(trainset, batch_size=8, shuffle=True)

model = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
scheduler = ExponentialLR(optimizer, gamma=0.8)
criterion = nn.CrossEntropyLoss()

for epoch in range(10):
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        out = model(X_val)
        vloss = criterion(out, y_val).item()
        vacc = (out.argmax(1) == y_val).float().mean().item()
    print(f"Epoch [{epoch + 1}/10] val loss {vloss:.4f} acc {vacc:.3f}")
