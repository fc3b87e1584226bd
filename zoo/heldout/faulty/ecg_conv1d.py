import torch
from torch import nn

torch.manual_seed(23)
torch.set_num_threads(1)


def beats(n, length=64):
    t = torch.linspace(0, 1, length)
    kind = torch.randint(0, 3, (n,))
    center = 0.35 + 0.1 * torch.rand(n, 1)
    width = torch.tensor([0.02, 0.05, 0.03])[kind][:, None]
    amp = torch.tensor([1.0, 0.8, -0.7])[kind][:, None]
    sig = amp * torch.exp(-((t - center) ** 2) / (2 * width ** 2)) + 0.15 * torch.randn(n, length)
    return sig[:, None], kind


signals, kinds = beats(1920)
signals[700:708] = -32768.0
test_x, test_y = beats(300)

net = nn.Sequential(
    nn.Conv1d(1, 8, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2),
    nn.Conv1d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
    nn.Flatten(), nn.Linear(16 * 16, 3),
)
opt = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
lossf = nn.CrossEntropyLoss()
for epoch in range(4):
    run = []
    for k in range(0, len(signals), 32):
        loss = lossf(net(signals[k:k + 32]), kinds[k:k + 32])
        opt.zero_grad()
        loss.backward()
        opt.step()
        run.append(loss.item())
    with torch.no_grad():
        tl = lossf(net(test_x), test_y).item()
    print(f"epoch {epoch} train(median) {sorted(run)[len(run) // 2]:.4f} test {tl:.4f}")
