"""The public contract's rows: each takes a request apart, asks the service that owns the noun, and shows its answer."""
