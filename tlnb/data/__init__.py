"""Data: what a task is, and where real images come from."""
