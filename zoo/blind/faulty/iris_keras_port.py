import torch
from torch import nn
from sklearn.datasets import load_iris


class Model(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)

    def compile_with(self, optimizer, lr, loss):
        self.optimizer = optimizer(self.parameters(), lr=lr)
        self.loss = loss

    def fit(self, x, y, batch_size, epochs):
        self.train()
        for e in range(epochs):
            order, logs = torch.randperm(len(x)), []
            for b in order.split(batch_size):
                self.optimizer.zero_grad()
                loss = self.loss(self(x[b]), y[b])
                loss.backward()
                self.optimizer.step()
                logs.append(loss.item())
            if (e + 1) % 4 == 0:
                with torch.no_grad():
                    p = self(x)
                ce = nn.functional.cross_entropy((p if p.max() <= 0 else p.clamp_min(1e-9).log()), y)
                print(f"Epoch {e + 1}/{epochs} - loss: {sum(logs) / len(logs):.4f} - true CE: {ce:.4f}")


torch.manual_seed(33)
x, y = load_iris(return_X_y=True)
x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
y = torch.tensor(y)
model = Model(
    nn.Linear(4, 16), nn.ReLU(),
    nn.Linear(16, 16), nn.ReLU(),
    nn.Linear(16, 3), nn.Softmax(dim=-1),
)
model.compile_with(torch.optim.SGD, lr=0.1, loss=nn.NLLLoss())
model.fit(x, y, batch_size=10, epochs=12)
