from __future__ import print_function
import argparse
import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser(description='VAE Digits Example')
parser.add_argument('--batch-size', type=int, default=64, metavar='N')
parser.add_argument('--epochs', type=int, default=12, metavar='N')
parser.add_argument('--lr', type=float, default=1e-6, metavar='LR')
parser.add_argument('--seed', type=int, default=1, metavar='S')
parser.add_argument('--log-interval', type=int, default=10, metavar='N')
args = parser.parse_args()

torch.manual_seed(args.seed)
digits = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
train_loader = torch.utils.data.DataLoader(digits[:1500], batch_size=args.batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(digits[1500:], batch_size=100)


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.enc = nn.Linear(64, 128)
        self.mu = nn.Linear(128, 6)
        self.logvar = nn.Linear(128, 6)
        self.dec1 = nn.Linear(6, 128)
        self.dec2 = nn.Linear(128, 64)

    def encode(self, x):
        h1 = F.relu(self.enc(x))
        return self.mu(h1), self.logvar(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return torch.sigmoid(self.dec2(F.relu(self.dec1(z))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=args.lr)


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x, reduction='sum')
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (BCE + KLD) / x.size(0)


def train(epoch):
    model.train()
    train_loss = 0
    for batch_idx, data in enumerate(train_loader):
        optimizer.zero_grad()
        loss = loss_function(*unpack(data))
        loss.backward()
        train_loss += loss.item() * len(data)
        optimizer.step()
    print('====> Epoch: {} Average loss: {:.4f}'.format(epoch, train_loss / 1500))


def unpack(data):
    recon, mu, logvar = model(data)
    return recon, data, mu, logvar


def test(epoch):
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for data in test_loader:
            test_loss += loss_function(*unpack(data)).item() * len(data)
    print('====> Test set loss: {:.4f}'.format(test_loss / 297))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        test(epoch)
