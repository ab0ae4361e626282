"""The cost of a turn, beside what it costs elsewhere: `python -m benchmarks`."""
