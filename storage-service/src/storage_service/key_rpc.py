"""The RPCs of keys: requests to values and back. Only whether a request is valid is decided here."""

from datetime import timedelta
from typing import Any

from hearth.agent.v1 import key_pb2
from hearth.storage.v1 import key_store_pb2, key_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.keys import Action, Key

from storage_service import arguments
from storage_service.keys import Actions, Keys, Tickets

PAGE_LIMIT = 500
BATCH_LIMIT = 1000
DIGEST_BYTES = 32
LIFETIME_SECONDS = 3600.0


class KeyStoreRpc(key_store_pb2_grpc.KeyStoreServiceServicer):
    """The tables `api_keys`, `tickets` and `actions`."""

    def __init__(self, keys: Keys, tickets: Tickets, actions: Actions) -> None:
        self._keys = keys
        self._tickets = tickets
        self._actions = actions

    async def InsertKey(self, request: Any, context: Any) -> key_store_pb2.InsertKeyResponse:
        key = arguments.value_of(request.key, Key, "key")
        arguments.uuid(key.id, "key.id")
        return key_store_pb2.InsertKeyResponse(key=_message(await self._keys.insert(key, _digest(request.digest))))

    async def GetKey(self, request: Any, context: Any) -> key_store_pb2.GetKeyResponse:
        key, digest, is_valid = await self._keys.get(request.prefix)
        return key_store_pb2.GetKeyResponse(key=_message(key), digest=digest, is_valid=is_valid)

    async def ListKeys(self, request: Any, context: Any) -> key_store_pb2.ListKeysResponse:
        page = await self._keys.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token
        )
        return key_store_pb2.ListKeysResponse(
            keys=[_message(key) for key in page.items], next_page_token=page.next_token
        )

    async def RevokeKey(self, request: Any, context: Any) -> key_store_pb2.RevokeKeyResponse:
        return key_store_pb2.RevokeKeyResponse(key=_message(await self._keys.revoke(request.prefix)))

    async def GetKeyring(self, request: Any, context: Any) -> key_store_pb2.GetKeyringResponse:
        return key_store_pb2.GetKeyringResponse(has_keys=await self._keys.has_any())

    async def InsertTicket(self, request: Any, context: Any) -> key_store_pb2.InsertTicketResponse:
        if not 0 < request.lifetime_seconds <= LIFETIME_SECONDS:
            raise arguments.invalid("lifetime_seconds", f"must be above 0 and at most {LIFETIME_SECONDS:g}")
        lifetime = timedelta(seconds=request.lifetime_seconds)
        await self._tickets.insert(_digest(request.digest), request.grant, lifetime)
        return key_store_pb2.InsertTicketResponse()

    async def TakeTicket(self, request: Any, context: Any) -> key_store_pb2.TakeTicketResponse:
        return key_store_pb2.TakeTicketResponse(grant=await self._tickets.take(_digest(request.digest)))

    async def AppendActions(self, request: Any, context: Any) -> key_store_pb2.AppendActionsResponse:
        if not 0 < len(request.actions) <= BATCH_LIMIT:
            raise arguments.invalid("actions", f"must be from 1 to {BATCH_LIMIT}")
        await self._actions.append(
            [arguments.value_of(action, Action, f"actions[{n}]") for n, action in enumerate(request.actions)]
        )
        return key_store_pb2.AppendActionsResponse()

    async def ListActions(self, request: Any, context: Any) -> key_store_pb2.ListActionsResponse:
        page = await self._actions.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
            actor=request.actor if request.HasField("actor") else None,
        )
        return key_store_pb2.ListActionsResponse(
            actions=[to_message(action, key_pb2.Action) for action in page.items], next_page_token=page.next_token
        )


def _message(key: Key) -> key_pb2.Key:
    return to_message(key, key_pb2.Key)


def _digest(value: bytes) -> bytes:
    if len(value) != DIGEST_BYTES:
        raise arguments.invalid("digest", f"must have {DIGEST_BYTES} bytes")
    return value
