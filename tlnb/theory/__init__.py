"""The theory: one task, transfer, networks that are solved exactly, readouts on features."""
