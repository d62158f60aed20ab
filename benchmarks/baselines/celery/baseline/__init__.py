"""Runs of agents with FastAPI and Celery, as a good engineer builds it in a day."""
