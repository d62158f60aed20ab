"""A model server that speaks Ollama's API over a small model and an embedder that come as packages."""
