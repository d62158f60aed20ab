"""Models on the hosts that serve them: chat, generate, embed, with retries, fallback and a fair queue."""
