"""Data: what a task is, synthetic pairs of tasks, and where real images come from."""
