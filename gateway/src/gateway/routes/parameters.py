"""Parameters that more than one call has."""

from typing import Annotated

from fastapi import Path, Query

from gateway.document_examples import DOCUMENT_ID
from gateway.examples import AGENT_ID, SESSION_ID, TASK_ID, TOOL_ID
from gateway.schemas.documents import CollectionName
from gateway.schemas.fields import AtMostManyValues, CommaSeparated, Contains, Id, Kind, Level, TaskStatus, Time

AgentId = Annotated[Id, Path(description="The agent's id", examples=[AGENT_ID])]
SessionId = Annotated[Id, Path(description="The session's id", examples=[SESSION_ID])]
ToolId = Annotated[Id, Path(description="The tool's id", examples=[TOOL_ID])]
TaskId = Annotated[Id, Path(description="The task's id", examples=[TASK_ID])]

DocumentId = Annotated[Id, Path(description="The document's id", examples=[DOCUMENT_ID])]
CollectionPath = Annotated[CollectionName, Path(description="The collection's name", examples=["handbooks"])]

Limit = Annotated[int, Query(ge=1, le=500, description="How many items a page has at most")]
Cursor = Annotated[
    str | None,
    Query(pattern=r"^[\x21-\x7e]{1,1024}$", description="The `next_cursor` of the page before; the first without it"),
]

ContainsQuery = Annotated[Contains | None, Query(description="A text in the message, in any case")]
Since = Annotated[Time | None, Query(description="Not before this time")]
Until = Annotated[Time | None, Query(description="Before this time")]
Descending = Annotated[bool, Query(description="The newest first")]

Statuses = Annotated[
    list[TaskStatus] | None, CommaSeparated, Query(description="Any of these states; repeated or separated by commas")
]
Levels = Annotated[
    list[Level] | None, CommaSeparated, Query(description="Any of these levels; repeated or separated by commas")
]
Kinds = Annotated[
    list[Kind] | None, CommaSeparated, Query(description="Any of these kinds; repeated or separated by commas")
]
TaskIds = Annotated[
    list[Id] | None,
    CommaSeparated,
    AtMostManyValues,
    Query(description="Any of these tasks, 100 at most; repeated or separated by commas"),
]
AgentIds = Annotated[
    list[Id] | None,
    CommaSeparated,
    AtMostManyValues,
    Query(description="Any of these agents, 100 at most; repeated or separated by commas"),
]
