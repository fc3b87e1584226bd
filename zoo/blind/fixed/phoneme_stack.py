import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Layer(nn.Module):
    def __init__(self, i, o, act):
        super().__init__()
        self.lin = nn.Linear(i, o)
        self.act = act()
        nn.init.xavier_normal_(self.lin.weight)
        nn.init.zeros_(self.lin.bias)

    def forward(self, x):
        return self.act(self.lin(x))


class PhonemeModel(nn.Module):
    def __init__(self, n_in=26, n_hidden=64, n_layers=7, n_out=8, act=nn.ReLU):
        super().__init__()
        dims = [n_in] + [n_hidden] * n_layers
        self.body = nn.ModuleList([Layer(a, b, act) for a, b in zip(dims[:-1], dims[1:])])
        self.out = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return self.out(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.9)


class MiniTrainer:
    def __init__(self, max_epochs):
        self.max_epochs = max_epochs

    def fit(self, model, loader):
        optimizer = model.configure_optimizers()
        for epoch in range(self.max_epochs):
            total = 0.0
            for i, batch in enumerate(loader):
                optimizer.zero_grad()
                loss = model.training_step(batch, i)
                loss.backward()
                optimizer.step()
                total += loss.item()
            print(f"Epoch {epoch}: train_loss={total / len(loader):.4f}")


torch.manual_seed(11)
centres = torch.randn(8, 26) * 0.9
y = torch.randint(0, 8, (960,))
x = centres[y] + torch.randn(960, 26) * 0.8
loader = DataLoader(TensorDataset(x, y), batch_size=48, shuffle=True)
MiniTrainer(10).fit(PhonemeModel(), loader)
