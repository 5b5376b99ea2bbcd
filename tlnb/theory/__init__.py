"""The theory: one task in the proportional limit, Franz-Parisi transfer, exact linear networks."""
