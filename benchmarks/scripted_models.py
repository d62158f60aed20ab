"""A server that speaks Ollama's protocol and has no model: `python benchmarks/scripted_models.py --port 11500`.

The tag of a model says what it does: `scripted:16` gives 16 tokens at once, `scripted:100-50` gives 100 at 50 a second.
Each token is the monotonic time at which it was sent, in seconds, and a space: whoever gets it knows how long it took.
`GET /arrivals` tells when each prompt came, and forgets it.
"""

import argparse
import asyncio
import json
import time
from typing import Any

import uvloop

TAGS = ("1", "16", "5000", "64-50", "100-50", "100-20", "40-5", "400-1", "600-20")
CAPABILITIES = ["completion"]


class ScriptedModels:
    """Serves HTTP/1.1 with just what Ollama's clients use of it: this must cost next to nothing."""

    def __init__(self) -> None:
        self._arrivals: dict[str, float] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as its client keeps it."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                arrived = time.monotonic()
                lines = head.split("\r\n")
                length = next((int(v[15:]) for v in lines[1:] if v[:15].lower() == "content-length:"), 0)
                body = await reader.readexactly(length)
                await self._answer(lines[0].split(" ")[1], json.loads(body or b"{}"), arrived, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: dict[str, Any], arrived: float, writer: asyncio.StreamWriter) -> None:
        match path:
            case "/api/chat":
                self._arrivals[body["messages"][-1]["content"]] = arrived
                await self._chat(body, writer)
            case "/arrivals":
                arrivals, self._arrivals = self._arrivals, {}
                _whole(writer, arrivals)
            case "/api/version":
                _whole(writer, {"version": "0.12.0"})
            case "/api/show":
                _whole(writer, {"capabilities": CAPABILITIES, "details": {}, "model_info": {}})
            case "/api/tags" | "/api/ps":
                models = [{"name": f"scripted:{tag}", "model": f"scripted:{tag}"} for tag in TAGS]
                _whole(writer, {"models": [{**m, "size": 1, "digest": "0", "details": {}} for m in models]})
            case _:
                _whole(writer, {"error": "not found"}, status="404 Not Found")
        await writer.drain()

    async def _chat(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        model = body["model"]
        count, _, rate = model.partition(":")[2].partition("-")
        if not body.get("stream", True):
            text = "".join(_token() for _ in range(int(count)))
            _whole(writer, {**_chunk(model, text), **_end(int(count))})
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        started = time.monotonic()
        for number in range(int(count)):
            if rate:
                await asyncio.sleep(max(0.0, started + number / float(rate) - time.monotonic()))
            if writer.is_closing():  # a system was ended in the middle of its runs
                return
            _piece(writer, _chunk(model, _token()))
            await writer.drain()
        _piece(writer, {**_chunk(model, ""), **_end(int(count))})
        writer.write(b"0\r\n\r\n")


def _token() -> str:
    return f"{time.monotonic():.6f} "


def _chunk(model: str, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": model, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}


def _end(count: int) -> dict[str, Any]:
    return {"done": True, "done_reason": "stop", "prompt_eval_count": 8, "eval_count": count, "total_duration": 1}


def _piece(writer: asyncio.StreamWriter, value: Any) -> None:
    data = json.dumps(value).encode() + b"\n"
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _whole(writer: asyncio.StreamWriter, value: Any, *, status: str = "200 OK") -> None:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


async def main(port: int) -> None:
    """Serves until it is ended."""
    models = ScriptedModels()
    server = await asyncio.start_server(models.serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(main(parser.parse_args().port))
