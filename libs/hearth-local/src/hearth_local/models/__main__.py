"""`python -m hearth_local.models`: the model server as a process."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import uvicorn

from hearth_local.models.chat_model import ChatModel
from hearth_local.models.embedder import Embedder
from hearth_local.models.server import application


def default_threads() -> int:
    """All cores but one: llama.cpp's threads wait for each other, and a core that is shared slows them all."""
    return max(1, (os.cpu_count() or 1) - 1)


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="hearth-models", description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--socket", type=Path, help="serve on this unix socket")
    place.add_argument("--port", type=int, help="serve on this port")
    parser.add_argument("--host", default="127.0.0.1", help="the address that the port is of")
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads for generating")
    parser.add_argument("--context-tokens", type=int, default=8192, help="tokens that all conversations share")
    options = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn raises the signal again once it has shut down: that must not kill us before the folder is removed.
        signal.signal(ending, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="hearth-") as private:
        chat = ChatModel(
            threads=options.threads, context_tokens=options.context_tokens, socket=Path(private) / "llama.sock"
        )
        uvicorn.run(
            application(chat, Embedder()),
            uds=str(options.socket) if options.socket is not None else None,
            host=options.host,
            port=options.port or 0,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )


if __name__ == "__main__":
    main()
