"""Networks that can be solved exactly at any width."""
