"""What the configurations of all tools that speak HTTP have in common, and the operator's word over it."""

from typing import Any

from hearth_runtime.errors import InvalidArgument

from agent_service.settings import ToolSettings
from agent_service.web_rules import WebRules, covers

HEADERS: dict[str, Any] = {
    "type": "object",
    "maxProperties": 50,
    "propertyNames": {"pattern": "^[A-Za-z0-9-]{1,100}$"},
    "additionalProperties": {"type": "string", "maxLength": 4000, "pattern": "^[ -~]*$", "writeOnly": True},
    "description": "Header fields to send, such as Authorization; secret",
}
PRIVATE: dict[str, Any] = {
    "type": "array",
    "maxItems": 100,
    "items": {"type": "string", "minLength": 1, "maxLength": 500},
    "description": "Hosts and networks (10.0.0.0/8) that may be reached though they are not public, "
    "as far as HEARTH_PRIVATE_HOSTS lets tools name them",
}
# What a request may take, redirects and all, where the agent's tool does not say.
REQUEST_SECONDS = 20.0


def web_rules(allow: tuple[str, ...], config: dict[str, Any], settings: ToolSettings, *, field: str = "") -> WebRules:
    """The rules of a tool with this configuration. `field` says where `allow` came from, where that is no field.

    Raises InvalidArgument for an entry that could never cover anything, and for a private one that the operator lets no
    tool name.
    """
    rules = WebRules(allow=allow, private=tuple(config.get("private", ())))
    if problem := rules.problem():
        raise InvalidArgument(f"{field}{problem}")
    allowed = settings.private_hosts
    if refused := [entry for entry in rules.private if "*" not in allowed and not covers(allowed, entry)]:
        known = ", ".join(allowed) or "none"
        raise InvalidArgument(
            f"`private`: {', '.join(refused)} may not be named here. HEARTH_PRIVATE_HOSTS has: {known}."
        )
    return rules
