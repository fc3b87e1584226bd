import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

torch.manual_seed(1)
wine = load_wine()
X_train, X_test, y_train, y_test = train_test_split(wine.data, wine.target, test_size=0.25, random_state=1)
scaler = StandardScaler().fit(X_train)
X = torch.FloatTensor(X_train)
Xt = torch.FloatTensor(X_test)
y, yt = torch.LongTensor(y_train), torch.LongTensor(y_test)


class Sommelier(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


clf = Sommelier()
optimizer = torch.optim.SGD(clf.parameters(), lr=0.05, momentum=0.5)
for epoch in range(1, 201):
    optimizer.zero_grad()
    loss = F.cross_entropy(clf(X), y)
    loss.backward()
    optimizer.step()
    if epoch % 25 == 0:
        with torch.no_grad():
            acc = (clf(Xt).argmax(1) == yt).float().mean().item()
        print("Epoch: {} Acc: {:.3f} Loss: {:.4f}".format(epoch, acc, loss.item()))
