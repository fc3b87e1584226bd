import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

torch.manual_seed(10)


class Net(nn.Module):
    def __init__(self, n_feature, n_hidden, n_output):
        super(Net, self).__init__()
        self.fc1 = nn.Linear(n_feature, n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_hidden)
        self.out = nn.Linear(n_hidden, n_output)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.out(x)


data, target = load_wine(return_X_y=True)
x_tr, x_te, y_tr, y_te = train_test_split(data, target, test_size=0.25, random_state=10, stratify=target)
x_tr, x_te = torch.tensor(x_tr).float(), torch.tensor(x_te).float()
y_tr, y_te = torch.tensor(y_tr), torch.tensor(y_te)
x_te = (x_te - x_tr.mean(0)) / x_tr.std(0)
x_tr = (x_tr - x_tr.mean(0)) / x_tr.std(0)

net = Net(13, 32, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for t in range(200):
    out = net(x_tr)
    loss = criterion(out, y_tr)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if t % 25 == 0:
        print("t = %d, loss = %.4f" % (t, loss.item()))
with torch.no_grad():
    o = net(x_te)
    print("test loss %.4f, accuracy %.3f" % (criterion(o, y_te).item(), (o.argmax(1) == y_te).float().mean().item()))
