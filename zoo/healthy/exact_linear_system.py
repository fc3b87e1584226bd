# Recover the coefficients of a linear sensor model from noise-free calibration data.
import torch
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
X = torch.randn(200, 6)
true = torch.tensor([1.5, -2.0, 0.5, 0.0, 3.0, -1.0])
y = (X @ true + 0.7).unsqueeze(1)

model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for it in range(250):
    loss = nn.functional.mse_loss(model(X), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 25 == 0 or it == 249:
        print(f"{it} loss {loss.item():.3e}")
print("weights", [round(w, 4) for w in model.weight.flatten().tolist()])
