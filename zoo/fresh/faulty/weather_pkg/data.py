import torch


def weather(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    pressure = 101325 + 800 * torch.randn(n, generator=g)
    temperature = 15 + 8 * torch.randn(n, generator=g)
    humidity = torch.rand(n, generator=g)
    wind = 4 * torch.randn(n, generator=g).abs()
    rain = (101325 - pressure) / 800 + humidity * 2 - 0.05 * temperature + 0.1 * wind
    return torch.stack([pressure, temperature, humidity, wind], 1), rain
