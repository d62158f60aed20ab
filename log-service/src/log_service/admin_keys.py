"""`hearth-admin keys` and `hearth-admin audit`: who is let in, and what was done. agent-service is asked for both."""

import argparse
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hearth.agent.v1 import key_pb2, key_service_pb2, key_service_pb2_grpc
from hearth_runtime.codec import from_message, timestamp
from hearth_runtime.keys import Action, Key, Scope

PAGE_SIZE = 100
DEFAULT_ADDRESS = "dns:///127.0.0.1:50052"
SCOPES = ", ".join(scope.value for scope in Scope)


def add_parsers(areas: Any, positive: Callable[[str], int]) -> None:
    """Adds the two areas to those of `hearth-admin`."""
    keys = areas.add_parser("keys", help="who is let in").add_subparsers(dest="action", required=True)
    create = keys.add_parser(
        "create",
        help="make a key, which is shown once",
        description="Makes a key and prints it: it is shown this once, and kept nowhere but with you.",
    )
    create.add_argument("name", help="what it is called, such as the program that will use it")
    create.add_argument("--scopes", required=True, help=f"one or more, separated by commas: {SCOPES}")
    create.add_argument("--owner", help="whose data it makes and sees; by default it is an owner by itself")
    create.add_argument("--expires-days", type=positive, help="after how many days it lets in no more")
    create.add_argument("--tasks-per-minute", type=positive, help="how many tasks it may start within a minute")
    create.add_argument("--concurrent-runs", type=positive, help="how many of its owner's runs may be going on")
    create.add_argument("--tokens-per-day", type=positive, help="how many tokens its owner's runs may use in 24 hours")
    create.add_argument("--json", action="store_true", help="as a JSON object")
    listing = keys.add_parser("list", help="list the keys, the newest first, without what lets in")
    listing.add_argument("--json", action="store_true", help="a JSON object per line")
    revoke = keys.add_parser("revoke", help="let a key in no more, within seconds")
    revoke.add_argument("prefix", help="what stands between the first two `_` after hearth, as `list` shows it")
    audit = areas.add_parser("audit", help="what was done with keys, or tried without, the last first")
    audit.set_defaults(action="audit")
    audit.add_argument("--actor", help="only what this one did: key:PREFIX, jwt:SUBJECT or admin")
    audit.add_argument("--limit", type=positive, default=100, help="how many at most (100)")
    audit.add_argument("--json", action="store_true", help="a JSON object per line")


async def run(channel: Any, options: argparse.Namespace, show: Callable[[str], None]) -> int:
    """Does what was asked for, and prints by `show`. Raises HearthError."""
    stub: Any = key_service_pb2_grpc.KeyServiceStub(channel)
    match options.action:
        case "create":
            await _create(stub, options, show)
        case "list":
            async for key in _keys(stub):
                show(json.dumps(_values(key)) if options.json else _line(key))
        case "revoke":
            answer = await stub.RevokeKey(key_service_pb2.RevokeKeyRequest(prefix=options.prefix))
            show(f"{answer.key.prefix} lets nobody in any more, within seconds; its streams end soon after.")
        case _:
            async for action in _actions(stub, actor=options.actor, limit=options.limit):
                values = {**vars_of(action), "at": action.at.isoformat()}
                show(json.dumps(values) if options.json else "  ".join(str(v) for v in values.values() if v != ""))
    return 0


async def _create(stub: Any, options: argparse.Namespace, show: Callable[[str], None]) -> None:
    expires_at = None
    if options.expires_days is not None:
        expires_at = timestamp(datetime.now(UTC) + timedelta(days=options.expires_days))
    answer = await stub.CreateKey(
        key_service_pb2.CreateKeyRequest(
            name=options.name,
            owner=options.owner,
            scopes=[scope.strip() for scope in options.scopes.split(",") if scope.strip()],
            tasks_per_minute=options.tasks_per_minute,
            concurrent_runs=options.concurrent_runs,
            tokens_per_day=options.tokens_per_day,
            expires_at=expires_at,
        )
    )
    if options.json:
        show(json.dumps({**_values(answer.key), "secret": answer.secret}))
        return
    show(answer.secret)
    show(f"This is shown once. It is {answer.key.prefix} from now on, and its data is {answer.key.owner}'s.")


async def _keys(stub: Any) -> AsyncIterator[key_pb2.Key]:
    token = ""
    while True:
        answer = await stub.ListKeys(key_service_pb2.ListKeysRequest(page_size=PAGE_SIZE, page_token=token))
        for key in answer.keys:
            yield key
        token = answer.next_page_token
        if not token:
            return


async def _actions(stub: Any, *, actor: str | None, limit: int) -> AsyncIterator[Action]:
    token = ""
    while limit > 0:
        request = key_service_pb2.ListActionsRequest(page_size=min(PAGE_SIZE, limit), page_token=token, actor=actor)
        answer = await stub.ListActions(request)
        for action in answer.actions:
            yield from_message(action, Action)
        limit -= len(answer.actions)
        token = answer.next_page_token
        if not token:
            return


def vars_of(action: Action) -> dict[str, Any]:
    """The action's fields by their names."""
    return {name: getattr(action, name) for name in ("at", "actor", "action", "target", "status", "code", "address")}


def _values(message: key_pb2.Key) -> dict[str, Any]:
    key = from_message(message, Key)
    times = {
        name: None if (at := getattr(key, name)) is None else at.isoformat()
        for name in ("created_at", "expires_at", "revoked_at", "last_used_at")
    }
    return {
        "prefix": key.prefix,
        "name": key.name,
        "owner": key.owner,
        "scopes": list(key.scopes),
        "tasks_per_minute": key.tasks_per_minute,
        "concurrent_runs": key.concurrent_runs,
        "tokens_per_day": key.tokens_per_day,
        **times,
    }


def _line(message: key_pb2.Key) -> str:
    values = _values(message)
    state = f"revoked {values['revoked_at']}" if values["revoked_at"] else f"used {values['last_used_at'] or 'never'}"
    return "  ".join((values["prefix"], values["name"], values["owner"], ",".join(values["scopes"]), state))
