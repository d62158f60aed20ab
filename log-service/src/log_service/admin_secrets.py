"""`hearth-admin secrets`: the secrets of tools, and the keys that they are encrypted with. agent-service does it."""

from collections.abc import Callable
from typing import Any

from hearth.agent.v1 import tool_service_pb2, tool_service_pb2_grpc


def add_parsers(areas: Any) -> None:
    """Adds the area to those of `hearth-admin`."""
    secrets = areas.add_parser("secrets", help="what tools keep encrypted").add_subparsers(dest="action", required=True)
    secrets.add_parser(
        "rotate",
        help="encrypt all secrets with the first key of HEARTH_SECRET_KEY",
        description="Encrypts the secrets of all agents' tools with the first of agent-service's keys, after which the "
        "others can go. It does no harm twice, cut off in the middle, or while runs go on. Exits with 1 where secrets "
        "are left that no key can read.",
    )


async def run(channel: Any, show: Callable[[str], None]) -> int:
    """Encrypts all of them again, and prints by `show` what came of it. Raises HearthError."""
    stub: Any = tool_service_pb2_grpc.ToolServiceStub(channel)
    rotated, current, unreadable, token = 0, 0, 0, ""
    while True:
        answer = await stub.RotateSecrets(tool_service_pb2.RotateSecretsRequest(page_token=token))
        rotated += answer.rotated_count
        current += answer.current_count
        unreadable += len(answer.unreadable)
        for tool in answer.unreadable:
            show(f"The agent {tool.agent_id} has a tool {tool.name!r} whose secrets no key can read: {tool.id}")
        token = answer.next_page_token
        if not token:
            break
    show(
        f"Tools whose secrets were encrypted again: {rotated}; were already: {current}; no key can read: {unreadable}."
    )
    if unreadable:
        show("Put the key that they were stored with behind the others, or store them again by PUT; then try again.")
    return 1 if unreadable else 0
