"""The public contract's values: what bodies may hold and what answers hold."""
