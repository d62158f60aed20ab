"""KeyService: translates between messages and values, and decides nothing."""

from typing import Any

from hearth.agent.v1 import key_pb2, key_service_pb2, key_service_pb2_grpc
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.keys import Action

from agent_service.key_store import StoredKeys
from agent_service.keys import KeyDraft, Keys


class KeyRpc(key_service_pb2_grpc.KeyServiceServicer):
    """hearth.agent.v1.KeyService."""

    def __init__(self, keys: Keys, stored: StoredKeys) -> None:
        self._keys = keys
        self._stored = stored

    async def CreateKey(
        self, request: key_service_pb2.CreateKeyRequest, context: Any
    ) -> key_service_pb2.CreateKeyResponse:
        key, secret = await self._keys.create(from_message(request, KeyDraft))
        return key_service_pb2.CreateKeyResponse(key=to_message(key, key_pb2.Key), secret=secret)

    async def ListKeys(
        self, request: key_service_pb2.ListKeysRequest, context: Any
    ) -> key_service_pb2.ListKeysResponse:
        keys, token = await self._stored.page(size=request.page_size, token=request.page_token)
        return key_service_pb2.ListKeysResponse(
            keys=[to_message(key, key_pb2.Key) for key in keys], next_page_token=token
        )

    async def RevokeKey(
        self, request: key_service_pb2.RevokeKeyRequest, context: Any
    ) -> key_service_pb2.RevokeKeyResponse:
        key = await self._keys.revoke(request.prefix)
        return key_service_pb2.RevokeKeyResponse(key=to_message(key, key_pb2.Key))

    async def VerifyKey(
        self, request: key_service_pb2.VerifyKeyRequest, context: Any
    ) -> key_service_pb2.VerifyKeyResponse:
        key = await self._keys.verify(request.prefix, request.digest)
        return key_service_pb2.VerifyKeyResponse(key=to_message(key, key_pb2.Key))

    async def GetKeyring(
        self, request: key_service_pb2.GetKeyringRequest, context: Any
    ) -> key_service_pb2.GetKeyringResponse:
        return key_service_pb2.GetKeyringResponse(has_keys=await self._stored.has_any())

    async def CreateTicket(
        self, request: key_service_pb2.CreateTicketRequest, context: Any
    ) -> key_service_pb2.CreateTicketResponse:
        await self._stored.insert_ticket(request.digest, request.grant, lifetime_seconds=request.lifetime_seconds)
        return key_service_pb2.CreateTicketResponse()

    async def RedeemTicket(
        self, request: key_service_pb2.RedeemTicketRequest, context: Any
    ) -> key_service_pb2.RedeemTicketResponse:
        return key_service_pb2.RedeemTicketResponse(grant=await self._stored.take_ticket(request.digest))

    async def RecordActions(
        self, request: key_service_pb2.RecordActionsRequest, context: Any
    ) -> key_service_pb2.RecordActionsResponse:
        await self._stored.append_actions([from_message(action, Action) for action in request.actions])
        return key_service_pb2.RecordActionsResponse()

    async def ListActions(
        self, request: key_service_pb2.ListActionsRequest, context: Any
    ) -> key_service_pb2.ListActionsResponse:
        actions, token = await self._stored.actions_page(
            size=request.page_size,
            token=request.page_token,
            actor=request.actor if request.HasField("actor") else None,
        )
        return key_service_pb2.ListActionsResponse(
            actions=[to_message(action, key_pb2.Action) for action in actions], next_page_token=token
        )
