"""Identifiers: UUIDs of version 7, which sort by the time they were made (RFC 9562)."""

import re

import uuid_utils

# `uuid.UUID` takes other forms as well, and seven times as long.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def new_id() -> str:
    """A new UUIDv7 as text."""
    return str(uuid_utils.uuid7())


def is_id(text: str) -> bool:
    """Whether `text` is a UUID in its usual form, with hyphens."""
    return _UUID.fullmatch(text) is not None
