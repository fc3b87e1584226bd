"""What watching a training run costs, measured beside other tools. Run it with ``python -m benchmarks``."""
