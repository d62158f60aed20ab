"""uvicorn's WebSocket protocol, mended where a client could make it wait for ever or fail.

As of uvicorn 0.54 a handshake that `websockets` refuses by itself (a line of more than 8 KiB, more than 128 headers, a
method that is not GET, a body) is left without an answer, and text that is not UTF-8 logs a traceback and closes the
socket without a reason. A handshake that the application refuses with an answer of its own logs an error.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Answers every handshake, and closes with a reason what is not UTF-8."""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, the first ones being the handshake."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_complete:
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()) or BAD_REQUEST)
            self.transport.close()

    async def send(self, message: Any) -> None:
        """What the application says. That it refuses the handshake is an answer to it."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def send_receive_event_to_app(self) -> None:
        """A whole message."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.conn.fail(CloseCode.INVALID_DATA, "A text message must be UTF-8.")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
