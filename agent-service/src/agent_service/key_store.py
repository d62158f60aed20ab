"""The tables of keys, as storage-service keeps them."""

from collections.abc import Sequence
from typing import Any

import grpc.aio
from hearth.agent.v1 import key_pb2
from hearth.storage.v1 import key_store_pb2, key_store_pb2_grpc
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.keys import Action, Key


class StoredKeys:
    """Keys, tickets and actions."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = key_store_pb2_grpc.KeyStoreServiceStub(channel)

    async def insert(self, key: Key, digest: bytes) -> Key:
        """Keeps a key. Raises KeyExists."""
        answer = await self._stub.InsertKey(
            key_store_pb2.InsertKeyRequest(key=to_message(key, key_pb2.Key), digest=digest)
        )
        return from_message(answer.key, Key)

    async def get(self, prefix: str) -> tuple[Key, bytes, bool]:
        """The key, its digest, and whether it lets in. Raises KeyNotFound."""
        answer = await self._stub.GetKey(key_store_pb2.GetKeyRequest(prefix=prefix))
        return from_message(answer.key, Key), answer.digest, answer.is_valid

    async def page(self, *, size: int, token: str) -> tuple[tuple[Key, ...], str]:
        """A page of keys, the newest first, and the next page's token."""
        answer = await self._stub.ListKeys(key_store_pb2.ListKeysRequest(page_size=size, page_token=token))
        return tuple(from_message(key, Key) for key in answer.keys), answer.next_page_token

    async def revoke(self, prefix: str) -> Key:
        """Raises KeyNotFound."""
        answer = await self._stub.RevokeKey(key_store_pb2.RevokeKeyRequest(prefix=prefix))
        return from_message(answer.key, Key)

    async def has_any(self) -> bool:
        """Whether a key was ever made."""
        return bool((await self._stub.GetKeyring(key_store_pb2.GetKeyringRequest())).has_keys)

    async def insert_ticket(self, digest: bytes, grant: str, *, lifetime_seconds: float) -> None:
        """Keeps a ticket."""
        await self._stub.InsertTicket(
            key_store_pb2.InsertTicketRequest(digest=digest, grant=grant, lifetime_seconds=lifetime_seconds)
        )

    async def take_ticket(self, digest: bytes) -> str:
        """What it was made for, once. Raises TicketRefused."""
        return str((await self._stub.TakeTicket(key_store_pb2.TakeTicketRequest(digest=digest))).grant)

    async def append_actions(self, actions: Sequence[Action]) -> None:
        """Keeps what was done."""
        await self._stub.AppendActions(
            key_store_pb2.AppendActionsRequest(actions=[to_message(a, key_pb2.Action) for a in actions])
        )

    async def actions_page(self, *, size: int, token: str, actor: str | None) -> tuple[tuple[Action, ...], str]:
        """A page of what was done, the last first, and the next page's token."""
        answer = await self._stub.ListActions(
            key_store_pb2.ListActionsRequest(page_size=size, page_token=token, actor=actor)
        )
        return tuple(from_message(a, Action) for a in answer.actions), answer.next_page_token
