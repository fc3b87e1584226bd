# Homework 2: a neural network "from scratch", autograd only for the derivatives
import torch
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data / 16.0, dtype=torch.float32)
y = torch.tensor(digits.target)
perm = torch.randperm(len(X))
X, y = X[perm], y[perm]
Xtr, ytr, Xva, yva = X[:1400], y[:1400], X[1400:], y[1400:]

D, H1, H2, C = 64, 200, 200, 10
W1 = torch.randn(D, H1) / D ** 0.5
b1 = torch.zeros(H1)
W2 = torch.randn(H1, H2) / H1 ** 0.5
b2 = torch.zeros(H2)
W3 = torch.randn(H2, C) / H2 ** 0.5
b3 = torch.zeros(C)
weights = [W1, b1, W2, b2, W3, b3]
for w in weights:
    w.requires_grad_()


def forward(x):
    h = torch.tanh(x @ W1 + b1)
    h = torch.tanh(h @ W2 + b2)
    return h @ W3 + b3


def nll(logits, t):
    logp = logits - logits.logsumexp(1, keepdim=True)
    return -logp[torch.arange(len(t)), t].mean()


lr, bs = 0.1, 100
for epoch in range(12):
    for i in range(0, len(Xtr), bs):
        loss = nll(forward(Xtr[i:i + bs]), ytr[i:i + bs])
        loss.backward()
        with torch.no_grad():
            for w in weights:
                w -= lr * w.grad
                w.grad.zero_()
    with torch.no_grad():
        out = forward(Xva)
        acc = (out.argmax(1) == yva).float().mean()
        print("epoch %d  val loss %.4f  val acc %.3f" % (epoch, nll(out, yva), acc))
