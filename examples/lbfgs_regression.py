"""Full-batch L-BFGS: a small tanh network fitted to Friedman's regression benchmark in double precision."""
import argparse

import torch
from sklearn.datasets import make_friedman1
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from torch import nn


class Regressor(nn.Module):
    def __init__(self, inputs, hidden=24):
        super().__init__()
        self.hidden1 = nn.Linear(inputs, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        for layer in (self.hidden1, self.hidden2):
            nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden2(torch.tanh(self.hidden1(x))))).squeeze(1)


def load_data(samples, seed):
    X, y = make_friedman1(n_samples=samples, n_features=10, noise=0.5, random_state=seed)
    Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.3, random_state=seed)
    x_mean, x_std, y_mean, y_std = Xtr.mean(0), Xtr.std(0), ytr.mean(), ytr.std()
    scaled = ((Xtr - x_mean) / x_std, (Xte - x_mean) / x_std, (ytr - y_mean) / y_std, (yte - y_mean) / y_std)
    return [torch.tensor(a, dtype=torch.float64) for a in scaled]


def r2(prediction, target):
    return 1 - ((prediction - target) ** 2).sum().item() / ((target - target.mean()) ** 2).sum().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="outer L-BFGS steps")
    parser.add_argument("--max-iter", type=int, default=10, help="inner iterations per step")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--l2", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    Xtr, Xte, ytr, yte = load_data(args.samples, args.seed)
    model = Regressor(Xtr.shape[1]).double()
    criterion = nn.MSELoss()
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=1.0, max_iter=args.max_iter, history_size=20, line_search_fn="strong_wolfe"
    )

    evaluations = 0

    def closure():
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        penalty = sum((p**2).sum() for p in model.parameters() if p.dim() > 1)
        loss = criterion(model(Xtr), ytr) + args.l2 * penalty
        loss.backward()
        return loss

    for step in range(args.steps):
        loss = optimizer.step(closure)
        if step % 5 == 0 or step == args.steps - 1:
            with torch.no_grad():
                test = criterion(model(Xte), yte).item()
            print(f"step {step:3d}  loss {loss.item():.5f}  test mse {test:.5f}  closure calls {evaluations}")

    linear = LinearRegression().fit(Xtr.numpy(), ytr.numpy())
    with torch.no_grad():
        print(f"test R2: network {r2(model(Xte), yte):.4f}, linear regression {linear.score(Xte.numpy(), yte.numpy()):.4f}")


if __name__ == "__main__":
    main()
