from sklearn.datasets import load_digits
import torch
import torch.nn as nn


def mlp(sizes, act):
    layers = []
    for i in range(len(sizes) - 1):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        layers.append(act())
    return layers


class AutoEncoder(nn.Module):
    def __init__(self, n_in=64, latent=8, act=nn.ELU):
        super().__init__()
        self.encoder = nn.Sequential(*mlp([n_in, 56, 48, 32, latent], act))
        self.decoder = nn.Sequential(*mlp([latent, 32, 48, 56, n_in], act)[:-1])

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z), z


def batches(x, size, generator):
    order = torch.randperm(len(x), generator=generator)
    for chunk in order.split(size):
        yield x[chunk]


def main():
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(3)
    images = torch.tensor(load_digits().images, dtype=torch.float32).flatten(1) / 16
    train, test = images[:1500], images[1500:]
    net = AutoEncoder()
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.5)
    print(net)
    base = ((test - train.mean(0)) ** 2).mean().item()
    for epoch in range(30):
        running = 0.0
        n = 0
        for x in batches(train, 50, g):
            recon, _ = net(x)
            loss = (recon - x).pow(2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            running += loss.item()
            n += 1
        if epoch % 3 == 2:
            with torch.no_grad():
                test_loss = (net(test)[0] - test).pow(2).mean().item()
            print(f"Epoch {epoch + 1}: train {running / n:.5f} test {test_loss:.5f} (mean image {base:.5f})")


main()
