"""Agents, tasks and sessions: their rules (`main`), and the workers that run them (`worker`)."""
