"""Tickets."""

from pydantic import Field

from gateway.schemas.fields import Answer, Time


class Ticket(Answer):
    """What opens one stream, once."""

    ticket: str = Field(description="Put it into a stream's address: `?ticket=…`")
    expires_at: Time
