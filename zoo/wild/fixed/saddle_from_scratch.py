"""Two-layer network without torch.nn or torch.optim."""
import math
import torch

torch.manual_seed(10)
HIDDEN = 40


def init():
    w1 = torch.randn(2, HIDDEN) * math.sqrt(1.0 / 2)
    b1 = torch.zeros(HIDDEN)
    w2 = torch.randn(HIDDEN, 1) * math.sqrt(1.0 / HIDDEN)
    b2 = torch.zeros(1)
    params = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    for p in params.values():
        p.requires_grad_(True)
    return params


def predict(params, x):
    h = torch.tanh(x @ params["w1"] + params["b1"])
    return h @ params["w2"] + params["b2"]


def mse(a, b):
    return (a - b).square().mean()


def saddle(n):
    x = torch.rand(n, 2) * 4 - 2
    return x, (x[:, :1] ** 2 - x[:, 1:] ** 2) / 2 + 0.5 * torch.sin(3 * x[:, :1])


def update(params, rate):
    with torch.no_grad():
        for p in params.values():
            p -= rate * p.grad
            p.grad = None


if __name__ == "__main__":
    xs, ys = saddle(2000)
    xt, yt = saddle(500)
    params = init()
    rate = 0.05
    for t in range(1, 1001):
        i = torch.randint(0, len(xs), (100,))
        loss = mse(predict(params, xs[i]), ys[i])
        loss.backward()
        update(params, rate)
        if t == 900:
            rate *= 0.3
        if t % 100 == 0:
            with torch.no_grad():
                print(f"{t:5d}  batch {loss.item():10.5f}  test {mse(predict(params, xt), yt).item():10.5f}")
