"""An MCP server for tests: over stdio, or with `--port` over streamable HTTP."""

import argparse
import asyncio
import os

from mcp.server.fastmcp import Context, FastMCP
from mcp.types import ToolAnnotations


def server(port: int) -> FastMCP:
    """A few tools, good and bad."""
    mcp = FastMCP("test", host="127.0.0.1", port=port, log_level="ERROR")

    @mcp.tool(annotations=ToolAnnotations(readOnlyHint=True))
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @mcp.tool(name="write.note")
    def write_note(text: str) -> str:
        """Writes a note."""
        return f"noted {text} for {os.environ.get('NOTES_OWNER', 'nobody')}"

    @mcp.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("no luck")

    @mcp.tool()
    async def hang() -> str:
        """Never ends."""
        await asyncio.Event().wait()
        return ""

    @mcp.tool()
    def die() -> str:
        """Ends the server."""
        os._exit(1)

    @mcp.tool()
    def header(context: Context) -> str:  # type: ignore[type-arg]
        """The Authorization that came."""
        request = context.request_context.request
        return "" if request is None else str(request.headers.get("authorization", ""))

    return mcp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    port: int = parser.parse_args().port
    server(port).run("streamable-http" if port else "stdio")


if __name__ == "__main__":
    main()
