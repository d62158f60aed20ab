"""A model's verdict on what was made: the problem, if there is one, in words, and then a yes or no."""

import orjson
from hearth_runtime.agents import AgentConfig

VERDICT_TOKENS = 160
DEFAULT_MAX_REVISIONS = 2


def verdict_schema(approved: str) -> str:
    """The JSON Schema of a verdict: {"problem": text, `approved`: bool}."""
    return orjson.dumps(
        {
            "type": "object",
            "properties": {"problem": {"type": "string", "maxLength": 300}, approved: {"type": "boolean"}},
            "required": ["problem", approved],
            "additionalProperties": False,
        }
    ).decode()


def max_revisions(config: AgentConfig) -> int:
    """How often at most an agent does again what falls short."""
    return DEFAULT_MAX_REVISIONS if config.max_revisions is None else config.max_revisions
