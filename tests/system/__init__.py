"""A whole Hearth as tests see it: a process to start, an address to speak to."""
