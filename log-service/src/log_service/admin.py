"""`hearth-admin`: what whoever runs Hearth looks at and mends by hand.

It asks log-service at HEARTH_LOG_ADDRESS, for keys and secrets agent-service at HEARTH_AGENT_ADDRESS, or else at their
sockets in HEARTH_HOME (.hearth if not set), as of `make run`.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from hearth.log.v1 import log_service_pb2, log_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import HearthError, Unavailable
from hearth_runtime.events import Event
from hearth_runtime.settings import RuntimeSettings, load_settings

from log_service import admin_keys, admin_secrets

DEFAULT_ADDRESSES = {"log": "dns:///127.0.0.1:50054", "agent": admin_keys.DEFAULT_ADDRESS}
PAGE_SIZE = 100
REQUEUE_SIZE = 100
# Ten thousand letters take a while.
REQUEUE_SECONDS = 600.0


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Exits with 0 when all is done, 1 where something was refused or is away, 2 for misuse."""
    options = _parser().parse_args(arguments)
    home = Path(os.environ.get("HEARTH_HOME") or ".hearth").expanduser().absolute()
    try:
        sys.exit(asyncio.run(_run(options, home)))
    except HearthError as error:
        sys.stderr.write(f"hearth-admin: {error.detail}\n")
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read has seen enough. What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hearth-admin", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    areas = parser.add_subparsers(dest="area", required=True)
    dead = areas.add_parser("dead", help="events that could not be persisted").add_subparsers(
        dest="action", required=True
    )
    listing = dead.add_parser("list", help="list them, the oldest first")
    listing.add_argument("--limit", type=_positive, default=100, help="how many at most (100)")
    listing.add_argument("--json", action="store_true", help="a JSON object per line")
    show = dead.add_parser("show", help="show one with all that it holds")
    show.add_argument("id", help="its id, as `list` shows it")
    show.add_argument("--json", action="store_true", help="as a JSON object")
    requeue = dead.add_parser(
        "requeue",
        help="try again to persist them; those that were are no dead letters any more",
        description="Tries again to persist dead letters, each at the place in the event stream that it had. Those "
        "that still cannot be stay, with the new reason and a new id. It does no harm twice, or cut off in the middle.",
    )
    requeue.add_argument("ids", nargs="*", metavar="id", help="their ids, as `list` shows them")
    requeue.add_argument("--all", action="store_true", help="all that are there")
    admin_keys.add_parsers(areas, _positive)
    admin_secrets.add_parsers(areas)
    return parser


async def _run(options: argparse.Namespace, home: Path) -> int:
    if options.action == "requeue" and bool(options.ids) == options.all:
        sys.stderr.write("hearth-admin dead requeue: name the ids of dead letters, or --all.\n")
        return 2
    service = "log" if options.area == "dead" else "agent"
    address = address_of(service, os.environ.get(f"HEARTH_{service.upper()}_ADDRESS"), home)
    settings = load_settings(RuntimeSettings)
    async with open_channel(service, address, settings) as channel:
        try:
            async with asyncio.timeout(settings.rpc_timeout_seconds):
                await channel.channel_ready()
        except TimeoutError as error:
            raise Unavailable(_away(service, address, home)) from error
        if options.area == "secrets":
            return await admin_secrets.run(channel, _print)
        if service == "agent":
            return await admin_keys.run(channel, options, _print)
        stub: Any = log_service_pb2_grpc.LogServiceStub(channel)
        match options.action:
            case "list":
                return await _list(stub, limit=options.limit, as_json=options.json)
            case "show":
                return await _show(stub, options.id, as_json=options.json)
            case _:
                return await _requeue(stub, options.ids)


def address_of(service: str, address: str | None, home: Path) -> str:
    """Where the service, log or agent, serves gRPC: `address`, its socket in `home`, or its own default."""
    if address:
        return address
    # A home whose path is too long for a socket has a link there, to where its sockets are. Only this link is followed:
    # a home that is short because it is a link itself stays so.
    folder = home / "run"
    try:
        socket = (folder.readlink() if folder.is_symlink() else folder) / f"{service}.sock"
        there = socket.exists()
    except OSError:
        there = False  # it is in a folder of somebody else
    return f"unix:{socket}" if there else DEFAULT_ADDRESSES[service]


def _away(service: str, address: str, home: Path) -> str:
    variable = f"HEARTH_{service.upper()}_ADDRESS"
    if address == DEFAULT_ADDRESSES[service]:
        return (
            f"{service}-service does not answer at {address}, and has no socket in {home / 'run'}. Start Hearth, or "
            f"say where it is by HEARTH_HOME or {variable}."
        )
    return f"{service}-service does not answer at {address}. Start Hearth, or say where it is by {variable}."


async def _list(stub: Any, *, limit: int, as_json: bool) -> int:
    shown = 0
    async for letter in _letters(stub):
        if shown == limit:
            sys.stderr.write(f"There are more than {limit}: raise --limit to see them.\n")
            break
        shown += 1
        values = {"id": letter.id, "stream_id": letter.stream_id, "reason": letter.reason}
        _print(json.dumps(values) if as_json else f"{letter.id}  {letter.stream_id}  {letter.reason}")
    if not shown and not as_json:
        _print("There are no dead letters.")
    return 0


async def _letters(stub: Any) -> AsyncIterator[Any]:
    token = ""
    while True:
        answer = await stub.ListDeadLetters(
            log_service_pb2.ListDeadLettersRequest(page_size=PAGE_SIZE, page_token=token)
        )
        for letter in answer.dead_letters:
            yield letter
        token = answer.next_page_token
        if not token:
            return


async def _show(stub: Any, letter_id: str, *, as_json: bool) -> int:
    letter = (await stub.GetDeadLetter(log_service_pb2.GetDeadLetterRequest(id=letter_id))).dead_letter
    values = {"id": letter.id, "stream_id": letter.stream_id, "reason": letter.reason, **_content(letter)}
    if as_json:
        _print(json.dumps(values))
    else:
        for name, value in values.items():
            _print(f"{name + ':':<11} {value if isinstance(value, str) else json.dumps(value)}")
    return 0


def _content(letter: Any) -> dict[str, Any]:
    """The event where it can be read, its bytes where not."""
    try:
        event = Event.decode(letter.value, stream_id=letter.stream_id)
    except (DecodeError, ValueError, OverflowError):
        return {"bytes": letter.value.hex()}
    names = ("id", "task_id", "agent_id", "attempt", "kind", "level", "message", "context")
    return {"event": {name: getattr(event, name) for name in names} | {"timestamp": event.timestamp.isoformat()}}


async def _requeue(stub: Any, ids: list[str]) -> int:
    count, refused = 0, 0
    for start in range(0, max(1, len(ids)), REQUEUE_SIZE):
        request = log_service_pb2.RequeueDeadLettersRequest(ids=ids[start : start + REQUEUE_SIZE])
        # That log-service is there was seen; where it ends now, nobody wants to wait for it for so long.
        answer = await stub.RequeueDeadLetters(request, timeout=REQUEUE_SECONDS, wait_for_ready=False)
        count += answer.requeued_count
        refused += len(answer.refused)
        for letter in answer.refused:
            _print(f"{letter.id}  {letter.stream_id}  still refused: {letter.reason}")
    _print(f"{count} persisted, {refused} refused.")
    return 1 if refused else 0


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _print(line: str) -> None:
    # Letters hold what anybody sent: no terminal is to obey it.
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    sys.stdout.write(f"{shown}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
