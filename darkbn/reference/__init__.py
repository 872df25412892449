"""The readable specification of every kernel in NumPy float64: one module per family (see docs/architecture.md)."""
