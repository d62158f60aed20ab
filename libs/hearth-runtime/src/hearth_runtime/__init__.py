"""Plumbing that every Hearth service needs, and the words they have in common."""
