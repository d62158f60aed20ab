"""Who calls: keys, tokens and tickets, each found to be good, and for how long that is believed."""

import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hearth.agent.v1 import key_service_pb2
from hearth_runtime.codec import from_message
from hearth_runtime.errors import HearthError, KeyRefused, TicketRefused, Unauthenticated
from hearth_runtime.keys import Key, Scope, digest_of, prefix_of
from hearth_runtime.principals import Principal

from gateway.caller import Caller
from gateway.settings import GatewaySettings
from gateway.tokens import Tokens

if TYPE_CHECKING:
    from hearth.agent.v1.key_service_pb2_grpc import KeyServiceAsyncStub

# While agent-service is away nobody can revoke a key, and what it said last counts for so long.
STALE_SECONDS = 60.0
CACHE_LIMIT = 10_000
TICKET = re.compile(r"ticket_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    checked_at: float
    caller: Caller | None


class Callers:
    """Finds out who calls."""

    def __init__(self, keys: "KeyServiceAsyncStub", settings: GatewaySettings) -> None:
        self._keys = keys
        self._settings = settings
        self._tokens = Tokens(settings) if settings.has_jwt else None
        self._answers: OrderedDict[tuple[str, bytes], _Answer] = OrderedDict()
        self._has_keys: tuple[float, bool] | None = None

    async def is_login_needed(self) -> bool:
        """Whether who does not say who they are is sent away: by the settings, or since there is a key."""
        if self._settings.login is not None:
            return self._settings.login == "required"
        if self._tokens is not None:
            return True
        known = self._has_keys
        # That there is one stays so: a key that was revoked counts.
        if known is not None and (known[1] or time.monotonic() - known[0] < self._settings.key_cache_seconds):
            return known[1]
        try:
            answer = await self._keys.GetKeyring(key_service_pb2.GetKeyringRequest())
        except HearthError as error:
            if not error.retryable or known is None or time.monotonic() - known[0] > STALE_SECONDS:
                raise
            return known[1]
        self._has_keys = time.monotonic(), answer.has_keys
        return answer.has_keys

    async def of_authorization(self, values: list[str]) -> Caller:
        """Who the header `Authorization` names. Raises Unauthenticated."""
        scheme, _, credentials = values[0].partition(" ")
        if len(values) != 1 or scheme.lower() != "bearer":
            raise Unauthenticated("Send one header `Authorization: Bearer KEY`, with a key of Hearth's or a token.")
        secret = credentials.strip()
        prefix = prefix_of(secret)
        if prefix is not None:
            return await self._of_key(prefix, digest_of(secret))
        if self._tokens is not None:
            return await self._tokens.caller_of(secret)
        raise KeyRefused("This is no key of Hearth's: those begin with hearth_. Ask whoever runs Hearth for one.")

    async def of_ticket(self, ticket: str) -> Caller:
        """Whom the ticket was made for, which is used up by this. Raises TicketRefused."""
        if TICKET.fullmatch(ticket) is None:
            raise TicketRefused("This is no ticket: POST /api/v1/tickets makes one.")
        request = key_service_pb2.RedeemTicketRequest(digest=digest_of(ticket))
        caller = Caller.granted((await self._keys.RedeemTicket(request)).grant)
        await self.check(caller)
        return caller

    async def new_ticket(self, caller: Caller) -> str:
        """A ticket that stands for `caller` once, and soon."""
        ticket = f"ticket_{secrets.token_urlsafe(32)}"
        await self._keys.CreateTicket(
            key_service_pb2.CreateTicketRequest(
                digest=digest_of(ticket), grant=caller.grant(), lifetime_seconds=self._settings.ticket_seconds
            )
        )
        return ticket

    async def check(self, caller: Caller) -> None:
        """Raises KeyRefused where the caller would be let in no more."""
        if caller.expires_at is not None and caller.expires_at <= time.time():
            raise KeyRefused("The time of the token is over. Get another one.")
        if caller.key_prefix is not None and caller.key_digest is not None:
            await self._of_key(caller.key_prefix, caller.key_digest)

    async def _of_key(self, prefix: str, digest: bytes) -> Caller:
        known = self._answers.get((prefix, digest))
        now = time.monotonic()
        if known is None or now - known.checked_at >= self._settings.key_cache_seconds:
            try:
                answer = await self._keys.VerifyKey(key_service_pb2.VerifyKeyRequest(prefix=prefix, digest=digest))
                known = _Answer(checked_at=now, caller=_of(from_message(answer.key, Key), digest))
                self._has_keys = now, True
            except KeyRefused:
                known = _Answer(checked_at=now, caller=None)
            except HearthError as error:
                # The answer before stays as old as it is: it is asked for again, and believed for no longer.
                if not error.retryable or known is None or now - known.checked_at > STALE_SECONDS:
                    raise
            self._answers[prefix, digest] = known
            self._answers.move_to_end((prefix, digest))
            if len(self._answers) > CACHE_LIMIT:
                self._answers.popitem(last=False)
        if known.caller is None:
            raise KeyRefused("The key is not known, was revoked, or its time is over. Ask whoever runs Hearth.")
        if known.caller.expires_at is not None and known.caller.expires_at <= time.time():
            raise KeyRefused("The time of the key is over. Ask whoever runs Hearth for another one.")
        return known.caller


def _of(key: Key, digest: bytes) -> Caller:
    return Caller(
        actor=f"key:{key.prefix}",
        principal=Principal(
            owner=key.owner,
            sees_all=Scope.ADMIN in key.scopes,
            tasks_per_minute=key.tasks_per_minute,
            concurrent_runs=key.concurrent_runs,
            tokens_per_day=key.tokens_per_day,
        ),
        scopes=frozenset(key.scopes),
        key_prefix=key.prefix,
        key_digest=digest,
        expires_at=None if key.expires_at is None else key.expires_at.timestamp(),
    )
