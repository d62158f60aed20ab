"""Agents: what is run."""

import base64
from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Response
from hearth.agent.v1 import agent_service_pb2, task_service_pb2
from hearth_runtime.identifiers import new_id
from pydantic import Field
from starlette.convertors import Convertor, register_url_convertor

from gateway import examples
from gateway.dependencies import LinksDep, ServicesDep
from gateway.documentation import (
    AGENT_INACTIVE,
    AGENT_NOT_FOUND,
    AGENT_RESERVED,
    BAD_AGENT_ID,
    BAD_INPUT,
    BAD_LIMIT,
    BAD_TEMPERATURE,
    BODY_ERRORS,
    DOCUMENT_UNREADABLE,
    IDEMPOTENCY_CONFLICT,
    IMAGES_UNSEEN,
    QUEUE_FULL,
    QUOTA_EXCEEDED,
    TOO_MANY_ATTACHMENTS,
    answers,
)
from gateway.route import Route
from gateway.routes.parameters import AgentId, Cursor, Limit
from gateway.schemas.agents import Agent, AgentDraft, AgentPage, AgentReplacement
from gateway.schemas.fields import STORABLE
from gateway.schemas.tasks import RunAccepted, RunRequest
from gateway.translation import accepted_of, agent_of, config_message, tool_messages


class _AgentSegment(Convertor[str]):
    """A segment of a path that names an agent, and not something to do."""

    regex = "(?!create$|run$)[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("agent", _AgentSegment())

router = APIRouter(prefix="/api/v1/agents", tags=["agents"], route_class=Route)


@router.post(
    "/create",
    operation_id="create_agent",
    summary="Create an agent",
    status_code=201,
    response_model_exclude_unset=True,
    responses=answers(201, examples.AGENT, *BODY_ERRORS, BAD_TEMPERATURE, location="The agent's path"),
)
async def create_agent(
    services: ServicesDep,
    response: Response,
    draft: Annotated[AgentDraft, Body(openapi_examples={"helper": {"value": examples.AGENT_DRAFT}})],
) -> Agent:
    """Makes an agent: a model, and how it is called. The model need not be there before the first run."""
    answer = await services.agents.CreateAgent(
        agent_service_pb2.CreateAgentRequest(
            name=draft.name,
            description=draft.description,
            model_name=draft.model_name,
            config=config_message(draft.config),
        )
    )
    response.headers["Location"] = f"/api/v1/agents/{answer.agent.id}"
    return agent_of(answer.agent)


@router.post(
    "/run",
    operation_id="run_agent",
    summary="Start a run",
    status_code=202,
    responses=answers(
        202,
        examples.RUN_ACCEPTED,
        *BODY_ERRORS,
        AGENT_NOT_FOUND,
        AGENT_INACTIVE,
        AGENT_RESERVED,
        BAD_INPUT,
        DOCUMENT_UNREADABLE,
        IMAGES_UNSEEN,
        IDEMPOTENCY_CONFLICT,
        QUEUE_FULL,
        QUOTA_EXCEEDED,
        TOO_MANY_ATTACHMENTS,
        location="Where the task's status is",
    ),
)
async def run_agent(
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    run: Annotated[
        RunRequest,
        Body(
            openapi_examples={
                "prompt": {"summary": "A single question", "value": examples.RUN},
                "session": {"summary": "The next turn of a conversation", "value": examples.RUN_IN_SESSION},
                "attachment": {"summary": "With a file", "value": examples.RUN_WITH_FILE},
                "client tool": {"summary": "With a tool in your own process", "value": examples.RUN_WITH_TOOL},
            }
        ),
    ],
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=r"^[\x21-\x7e]{1,255}$",
            description=(
                "A key of your choosing that makes repeating the call harmless: the same key and body give the same "
                "task, another body is an error. 1 to 255 visible ASCII characters"
            ),
            examples=["5f2a7c1e"],
        ),
    ] = None,
) -> RunAccepted:
    """Accepts a run. From the answer on the task will end, as `completed`, `failed` or `cancelled`, whatever process
    dies meanwhile.
    """
    answer = await services.tasks.CreateTask(
        task_service_pb2.CreateTaskRequest(
            agent_id=run.agent_id,
            input=run.input.model_dump_json(exclude_unset=True),
            session_id=run.session_id,
            user=run.user,
            tools=tool_messages(run.tools or ()),
            attachments=[
                task_service_pb2.Attachment(name=a.name, media_type=a.media_type, data=base64.b64decode(a.data))
                for a in run.attachments or ()
            ],
            # With a key of ours the call can be repeated when agent-service restarts under it.
            idempotency_key=idempotency_key or new_id(),
        )
    )
    accepted = accepted_of(answer.task, links)
    response.headers["Location"] = accepted.links.status
    return accepted


@router.get(
    "",
    operation_id="list_agents",
    summary="List agents",
    response_model_exclude_unset=True,
    responses=answers(200, examples.AGENT_PAGE, BAD_LIMIT),
)
async def list_agents(
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    is_active: Annotated[bool | None, Query(description="Only those that are, or are not, deleted")] = None,
    name: Annotated[
        Annotated[str, Field(max_length=200), STORABLE] | None, Query(description="A part of the name, in any case")
    ] = None,
) -> AgentPage:
    """Pages through the agents, the newest first, deleted ones among them unless `is_active` is given."""
    answer = await services.agents.ListAgents(
        agent_service_pb2.ListAgentsRequest(page_size=limit, page_token=cursor or "", is_active=is_active, name=name)
    )
    return AgentPage(items=[agent_of(a) for a in answer.agents], next_cursor=answer.next_page_token or None)


@router.get(
    "/{agent_id:agent}",
    operation_id="get_agent",
    summary="Read an agent",
    response_model_exclude_unset=True,
    responses=answers(200, examples.AGENT, AGENT_NOT_FOUND, BAD_AGENT_ID),
)
async def get_agent(services: ServicesDep, agent_id: AgentId) -> Agent:
    """Reads one agent, also a deleted one."""
    answer = await services.agents.GetAgent(agent_service_pb2.GetAgentRequest(id=agent_id))
    return agent_of(answer.agent)


@router.put(
    "/{agent_id:agent}",
    operation_id="replace_agent",
    summary="Replace an agent",
    response_model_exclude_unset=True,
    responses=answers(200, examples.AGENT, *BODY_ERRORS, AGENT_NOT_FOUND, AGENT_RESERVED, BAD_TEMPERATURE),
)
async def replace_agent(
    services: ServicesDep,
    agent_id: AgentId,
    agent: Annotated[AgentReplacement, Body(openapi_examples={"helper": {"value": examples.AGENT_DRAFT}})],
) -> Agent:
    """Replaces all that a client may set; what is left out goes back to its default. Runs under way are unaffected."""
    answer = await services.agents.UpdateAgent(
        agent_service_pb2.UpdateAgentRequest(
            id=agent_id,
            name=agent.name,
            description=agent.description,
            model_name=agent.model_name,
            config=config_message(agent.config),
            is_active=agent.is_active,
        )
    )
    return agent_of(answer.agent)


@router.delete(
    "/{agent_id:agent}",
    operation_id="delete_agent",
    summary="Delete an agent",
    status_code=204,
    responses=answers(204, None, AGENT_NOT_FOUND, AGENT_RESERVED, BAD_AGENT_ID),
)
async def delete_agent(services: ServicesDep, agent_id: AgentId) -> None:
    """Makes new runs of the agent impossible. Its tasks and logs stay readable, and so does the agent itself, with
    `is_active` false. Repeating it is harmless.
    """
    await services.agents.DeleteAgent(agent_service_pb2.DeleteAgentRequest(id=agent_id))
