"""Rain from raw weather readings; the code lives in a package beside this file."""
from weather_pkg.loop import train

if __name__ == "__main__":
    train(steps=200, lr=1e-2)
