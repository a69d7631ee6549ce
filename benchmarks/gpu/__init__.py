"""Training steps on a GPU, beside PyTorch by hand: `python -m benchmarks gpu --report`."""
