"""Who calls, once that is known, and in which request."""

import json
from contextvars import ContextVar
from dataclasses import asdict, dataclass

from hearth_runtime.principals import Principal


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who was let in: `actor` is key:PREFIX or jwt:SUBJECT. `expires_at` is in seconds since 1970, None for never."""

    actor: str
    principal: Principal
    scopes: frozenset[str]
    key_prefix: str | None = None
    key_digest: bytes | None = None
    expires_at: float | None = None

    def grant(self) -> str:
        """The caller as a ticket holds it, for `granted`."""
        digest = None if self.key_digest is None else self.key_digest.hex()
        return json.dumps({**asdict(self), "scopes": sorted(self.scopes), "key_digest": digest})

    @classmethod
    def granted(cls, grant: str) -> "Caller":
        """Whom `grant` told of."""
        fields = json.loads(grant)
        digest = fields["key_digest"]
        return cls(
            **{
                **fields,
                "principal": Principal(**fields["principal"]),
                "scopes": frozenset(fields["scopes"]),
                "key_digest": None if digest is None else bytes.fromhex(digest),
            }
        )


_caller: ContextVar[Caller | None] = ContextVar("hearth_caller", default=None)


def current_caller() -> Caller | None:
    """Who makes the present request; None where nobody needs to say."""
    return _caller.get()


def set_caller(caller: Caller | None) -> None:
    """From now on, in this context, the request is `caller`'s."""
    _caller.set(caller)
