"""What a session costs, beside the bare floor and beside others: `python -m tests.benchmarks [PART ...]`."""
