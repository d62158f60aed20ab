"""What each call of the contract needs of the key that is used for it.

An operation that stands nowhere here is an error when the application is made, so none is open by oversight.
"""

from collections.abc import Iterable, Mapping

import grpc
from hearth_runtime.errors import HearthError
from hearth_runtime.keys import Scope

# Anybody may: probes have no key. What they tell is how Hearth is, and nothing of anybody's.
OPEN = frozenset({"get_health", "get_live"})

_ANY_OF: Mapping[tuple[Scope, ...], tuple[str, ...]] = {
    (Scope.AGENTS_READ,): (
        "list_agents",
        "get_agent",
        "list_tool_kinds",
        "list_tools",
        "get_tool",
        "list_sessions",
        "get_session",
        "export_session",
        "list_memories",
        "get_memory",
        "search_memories",
        "list_collections",
        "get_collection",
        "list_documents",
        "get_document",
        "get_document_content",
        "search",
        "list_models",
    ),
    (Scope.AGENTS_WRITE,): (
        "create_agent",
        "replace_agent",
        "delete_agent",
        "create_tool",
        "replace_tool",
        "delete_tool",
        "check_tool",
        "try_tool",
        "rename_session",
        "fork_session",
        "delete_session",
        "create_memory",
        "update_memory",
        "delete_memory",
        "forget_memories",
        "create_collection",
        "replace_collection",
        "delete_collection",
        "upload_document",
        "delete_document",
    ),
    (Scope.RUNS_WRITE,): ("run_agent", "retry_task", "resume_task", "cancel_task", "fork_task", "replay_task"),
    # Who starts runs sees what becomes of them.
    (Scope.RUNS_WRITE, Scope.LOGS_READ): ("list_tasks", "get_task", "list_attempts"),
    (Scope.LOGS_READ,): ("list_task_logs", "list_logs", "stream_task", "list_checkpoints"),
    (Scope.METRICS_READ,): ("get_metrics",),
    # Each stream asks what it needs of the key that the ticket is made with.
    tuple(scope for scope in Scope): ("create_ticket",),
}
NEEDED: Mapping[str, tuple[Scope, ...]] = {
    operation: scopes for scopes, operations in _ANY_OF.items() for operation in operations
}
# What both sockets need.
SOCKETS = (Scope.LOGS_READ,)


class ScopeMissing(HearthError):
    code = "scope_missing"
    title = "The key is not for this"
    status = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403


def check(needed: tuple[Scope, ...], held: Iterable[str]) -> None:
    """Raises ScopeMissing where none of the scopes that are `needed` is held. `admin` is all of them."""
    if not {Scope.ADMIN, *needed} & set(held):
        named = " or ".join(scope.value for scope in needed)
        raise ScopeMissing(
            f"This needs a key with the scope {named}. Use another key, or ask whoever runs Hearth for one.",
            metadata={"scope": " ".join(scope.value for scope in needed)},
        )
