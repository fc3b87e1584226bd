"""Neural ODE with a fixed-step RK4 integrator, learns a damped pendulum."""
import time
import torch


def rk4(f, y, dt):
    k1 = f(y)
    k2 = f(y + dt / 2 * k1)
    k3 = f(y + dt / 2 * k2)
    k4 = f(y + dt * k3)
    return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def integrate(f, y0, steps, dt):
    ys = [y0]
    for _ in range(steps):
        ys.append(rk4(f, ys[-1], dt))
    return torch.stack(ys, 1)


def pendulum(y):
    return torch.stack([y[..., 1], -torch.sin(y[..., 0]) - 0.15 * y[..., 1]], -1)


class ODEFunc(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.field = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
        for m in self.field:
            if isinstance(m, torch.nn.Linear):
                torch.nn.init.normal_(m.weight, mean=0, std=0.2)
                torch.nn.init.constant_(m.bias, val=0)

    def forward(self, y):
        return self.field(y)


class RunningAverageMeter:
    def __init__(self, momentum=0.95):
        self.val, self.avg, self.momentum = None, 0.0, momentum

    def update(self, val):
        self.avg = val if self.val is None else self.avg * self.momentum + val * (1 - self.momentum)
        self.val = val


if __name__ == "__main__":
    torch.manual_seed(19)
    DT, STEPS = 0.15, 20
    truth = integrate(pendulum, torch.randn(200, 2), STEPS, DT)
    truth += 0.02 * torch.randn_like(truth)
    train, test = truth[:160], truth[160:]
    func = ODEFunc()
    optimizer = torch.optim.Adam(func.parameters(), lr=0.01)
    meter, t0 = RunningAverageMeter(), time.time()
    for itr in range(1, 251):
        pick = torch.randint(0, len(train), (24,))
        optimizer.zero_grad()
        pred = integrate(func, train[pick, 0], STEPS, DT)
        loss = (pred - train[pick]).pow(2).mean()
        loss.backward()
        optimizer.step()
        meter.update(loss.item())
        if itr % 25 == 0:
            with torch.no_grad():
                t = (integrate(func, test[:, 0], STEPS, DT) - test).pow(2).mean().item()
            print(f"Iter {itr:04d} | smoothed {meter.avg:.5f} | test {t:.5f}")
