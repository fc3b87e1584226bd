import abc
import torch
import torch.nn as nn


class BaseModel(nn.Module, abc.ABC):
    @abc.abstractmethod
    def encode(self, x):
        ...

    def forward(self, x):
        return self.classify(self.encode(x))


class RecurrentModel(BaseModel):
    def __init__(self, n_mels, hidden, n_species):
        super().__init__()
        self.gru = nn.GRU(n_mels, hidden, batch_first=True)
        self.score = nn.Linear(hidden, 1)
        self.classify = nn.Linear(hidden, n_species)

    def encode(self, x):
        states, _ = self.gru(x)
        weights = torch.softmax(self.score(torch.tanh(states)), dim=1)
        return (weights * states).sum(dim=1)


class CallBank:
    def __init__(self, n_species=6, n_mels=20, frames=25):
        self.start = torch.rand(n_species) * n_mels
        self.slope = (torch.rand(n_species) - 0.5) * 1.2
        self.mels, self.frames = torch.arange(n_mels).float(), frames

    def sample(self, n):
        y = torch.randint(len(self.start), (n,))
        t = torch.arange(self.frames).float()
        centre = self.start[y, None] + self.slope[y, None] * t + torch.randn(n, 1)
        spec = torch.exp(-((self.mels - centre[..., None]) / 2.0) ** 2)
        return 3 * (spec - 0.15) + 0.8 * torch.randn_like(spec), y


if __name__ == "__main__":
    torch.manual_seed(31)
    bank = CallBank()
    net = RecurrentModel(20, 40, 6)
    adam = torch.optim.Adam(net.parameters(), lr=0.003)
    smooth = None
    for step in range(1, 151):
        x, y = bank.sample(32)
        loss = nn.functional.cross_entropy(net(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        smooth = loss.item() if smooth is None else 0.9 * smooth + 0.1 * loss.item()
        if step % 15 == 0:
            print(f"{step:4d} {smooth:.4f}")
