"""What a turn costs, beside what it costs elsewhere: `python -m benchmarks`."""
