"""Remove noise from one-dimensional signals with a small convolutional autoencoder."""
import torch
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, stride=2, padding=2), nn.LeakyReLU(0.1),
        nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.LeakyReLU(0.1),
        nn.ConvTranspose1d(32, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
        nn.ConvTranspose1d(16, 1, 4, stride=2, padding=1),
    )


def signals(n, length=64):
    t = torch.linspace(0, 1, length).repeat(n, 1)
    f = 1 + 4 * torch.rand(n, 1)
    clean = torch.sin(6.283 * (f * t + torch.rand(n, 1))) * (0.5 + torch.rand(n, 1))
    return (clean + 0.4 * torch.randn(n, length)).unsqueeze(1), clean.unsqueeze(1)


def main():
    torch.manual_seed(0)
    net = build()
    opt = torch.optim.RMSprop(net.parameters(), lr=2e-2)
    for step in range(300):
        noisy, clean = signals(32)
        loss = nn.functional.mse_loss(net(noisy), clean)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 30 == 0 or step == 299:
            print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
