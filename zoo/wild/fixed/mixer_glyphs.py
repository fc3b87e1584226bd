import torch
from torch import nn


class MixerBlock(nn.Module):
    """Token mixing and channel mixing as in MLP-Mixer, without dropout."""

    def __init__(self, tokens, channels):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.channels = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x):
        x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.n2(x))


class MLPMixer(nn.Module):
    def __init__(self, tokens=16, d_in=9, channels=32, depth=2, classes=20):
        super().__init__()
        self.embed = nn.Linear(d_in, channels)
        self.blocks = nn.Sequential(*[MixerBlock(tokens, channels) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, classes)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.norm(self.blocks(self.embed(x))).mean(1)
        return self.head(x)


def glyphs(n, protos, noise=1.0):
    y = torch.randint(0, len(protos), (n,))
    return protos[y] + noise * torch.randn(n, *protos.shape[1:]), y


def run():
    protos = torch.randn(20, 16, 9) * 0.8
    model = MLPMixer()
    criterion = nn.CrossEntropyLoss()
    opt = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    tx, ty = glyphs(1000, protos)
    hits = count = 0
    for step in range(1, 301):
        x, y = glyphs(48, protos)
        out = model(x)
        loss = criterion(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        hits += (out.argmax(1) == y).sum().item()
        count += len(y)
        if step % 50 == 0:
            with torch.no_grad():
                acc = (model(tx).argmax(1) == ty).float().mean().item()
            print(f"step {step}: loss {loss.item():.4f} train acc {hits / count:.3f} test acc {acc:.3f}")
            hits = count = 0


run()
