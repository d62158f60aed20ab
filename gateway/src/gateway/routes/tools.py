"""Tools: the kinds that there are, those that agents have, and calling one by hand."""

import json
from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from hearth.agent.v1 import tool_service_pb2

from gateway import tool_examples as examples
from gateway.dependencies import GatewayDep, ServicesDep
from gateway.documentation import (
    AGENT_NOT_FOUND,
    AGENT_RESERVED,
    BAD_AGENT_ID,
    BAD_LIMIT,
    BAD_TOOL_CONFIG,
    BODY_ERRORS,
    SECRET_KEY_MISSING,
    SECRET_UNREADABLE,
    TOO_MANY_TOOLS,
    TOO_MANY_TRIALS,
    TOOL_KIND_NOT_FOUND,
    TOOL_NAME_TAKEN,
    TOOL_NOT_FOUND,
    UNKNOWN_PARAMETER,
    answers,
)
from gateway.route import Route, ToolRoute
from gateway.routes.parameters import AgentId, Cursor, Limit, ToolId
from gateway.schemas.tools import (
    KIND_PATTERN,
    AgentTool,
    ToolCheck,
    ToolDraft,
    ToolKinds,
    ToolPage,
    Trial,
    TrialResult,
)
from gateway.tool_translation import check_of, draft_fields, kind_of, tool_of, trial_of

router = APIRouter(prefix="/api/v1", tags=["tools"], route_class=Route)
slow_router = APIRouter(prefix="/api/v1", tags=["tools"], route_class=ToolRoute)

OF_AGENT = "/agents/{agent_id:agent}/tools"
DraftBody = Annotated[ToolDraft, Body(openapi_examples={"calculator": {"value": examples.TOOL_DRAFT}})]


@router.get(
    "/tools",
    operation_id="list_tool_kinds",
    summary="List the kinds of tools",
    responses=answers(200, examples.KINDS, UNKNOWN_PARAMETER),
)
async def list_tool_kinds(services: ServicesDep) -> ToolKinds:
    """The kinds of tools that agents can be given, and how each is configured."""
    answer = await services.tools.ListToolKinds(tool_service_pb2.ListToolKindsRequest())
    return ToolKinds(items=[kind_of(kind) for kind in answer.kinds])


@slow_router.post(
    "/tools/{name}/try",
    operation_id="try_tool",
    summary="Call a tool by hand",
    responses=answers(
        200,
        examples.TRIAL_RESULT,
        *BODY_ERRORS,
        TOOL_NOT_FOUND,
        AGENT_NOT_FOUND,
        BAD_TOOL_CONFIG,
        SECRET_UNREADABLE,
        TOO_MANY_TRIALS,
    ),
)
async def try_tool(
    gateway: GatewayDep,
    name: Annotated[
        str,
        Path(
            pattern=KIND_PATTERN,
            description="The kind of tool; or, with `agent_id`, the name of a tool that the agent has",
            examples=["calculator"],
        ),
    ],
    trial: Annotated[
        Trial,
        Body(
            openapi_examples={
                "call": {"summary": "Call it", "value": examples.TRIAL},
                "list": {"summary": "See what an agent's tool can be called with", "value": examples.TRIAL_OF_AN_AGENT},
            }
        ),
    ],
) -> TrialResult:
    """Calls a tool outside any run, within its time-out and its result's bound. What goes wrong with the tool is a
    result with `is_error`. A tool that needs a run, as to ask a person, says so. Without `arguments` nothing is called
    and `tools` tells what there is: so a server is looked at before an agent is given it.
    """
    answer = await gateway.services.tools.TryTool(
        tool_service_pb2.TryToolRequest(
            name=name,
            agent_id=trial.agent_id,
            tool_config=None if trial.tool_config is None else json.dumps(trial.tool_config),
            tool=trial.tool,
            arguments=None if trial.arguments is None else json.dumps(trial.arguments),
        ),
        timeout=gateway.settings.tool_timeout_seconds,
    )
    return trial_of(answer)


@router.post(
    OF_AGENT,
    operation_id="create_tool",
    summary="Give an agent a tool",
    status_code=201,
    responses=answers(
        201,
        examples.TOOL,
        *BODY_ERRORS,
        AGENT_NOT_FOUND,
        BAD_TOOL_CONFIG,
        TOOL_KIND_NOT_FOUND,
        TOOL_NAME_TAKEN,
        TOO_MANY_TOOLS,
        SECRET_KEY_MISSING,
        AGENT_RESERVED,
        location="The tool's path",
    ),
)
async def create_tool(services: ServicesDep, response: Response, agent_id: AgentId, draft: DraftBody) -> AgentTool:
    """Gives the agent a tool from its next run on. An agent may have several of a kind, each by a `name` of its own,
    and 50 in all.
    """
    answer = await services.tools.CreateTool(
        tool_service_pb2.CreateToolRequest(agent_id=agent_id, **draft_fields(draft))
    )
    response.headers["Location"] = f"/api/v1/agents/{agent_id}/tools/{answer.tool.id}"
    return tool_of(answer.tool)


@router.get(
    OF_AGENT,
    operation_id="list_tools",
    summary="List an agent's tools",
    responses=answers(200, examples.TOOL_PAGE, AGENT_NOT_FOUND, BAD_LIMIT),
)
async def list_tools(services: ServicesDep, agent_id: AgentId, limit: Limit = 50, cursor: Cursor = None) -> ToolPage:
    """Pages through the tools that the agent has, the oldest first; also of a deleted agent."""
    answer = await services.tools.ListTools(
        tool_service_pb2.ListToolsRequest(agent_id=agent_id, page_size=limit, page_token=cursor or "")
    )
    return ToolPage(items=[tool_of(tool) for tool in answer.tools], next_cursor=answer.next_page_token or None)


@router.get(
    f"{OF_AGENT}/{{tool_id}}",
    operation_id="get_tool",
    summary="Read an agent's tool",
    responses=answers(200, examples.TOOL, TOOL_NOT_FOUND, BAD_AGENT_ID),
)
async def get_tool(services: ServicesDep, agent_id: AgentId, tool_id: ToolId) -> AgentTool:
    """Reads one tool. Secrets in its configuration are shown as `********`."""
    answer = await services.tools.GetTool(tool_service_pb2.GetToolRequest(agent_id=agent_id, id=tool_id))
    return tool_of(answer.tool)


@router.put(
    f"{OF_AGENT}/{{tool_id}}",
    operation_id="replace_tool",
    summary="Replace an agent's tool",
    responses=answers(
        200,
        examples.TOOL,
        *BODY_ERRORS,
        TOOL_NOT_FOUND,
        BAD_TOOL_CONFIG,
        TOOL_KIND_NOT_FOUND,
        TOOL_NAME_TAKEN,
        SECRET_KEY_MISSING,
        SECRET_UNREADABLE,
    ),
)
async def replace_tool(services: ServicesDep, agent_id: AgentId, tool_id: ToolId, draft: DraftBody) -> AgentTool:
    """Replaces all that a client may set; what is left out goes back to its default. `********` in the place of a
    secret keeps the one that is stored. Runs see it from their next attempt on.
    """
    answer = await services.tools.UpdateTool(
        tool_service_pb2.UpdateToolRequest(agent_id=agent_id, id=tool_id, **draft_fields(draft))
    )
    return tool_of(answer.tool)


@router.delete(
    f"{OF_AGENT}/{{tool_id}}",
    operation_id="delete_tool",
    summary="Take a tool from an agent",
    status_code=204,
    responses=answers(204, None, TOOL_NOT_FOUND, BAD_AGENT_ID),
)
async def delete_tool(services: ServicesDep, agent_id: AgentId, tool_id: ToolId) -> None:
    """Takes the tool from the agent, and forgets its secrets."""
    await services.tools.DeleteTool(tool_service_pb2.DeleteToolRequest(agent_id=agent_id, id=tool_id))


@slow_router.get(
    f"{OF_AGENT}/{{tool_id}}/check",
    operation_id="check_tool",
    summary="See whether an agent's tool works",
    responses=answers(200, examples.CHECK, TOOL_NOT_FOUND, BAD_AGENT_ID, SECRET_UNREADABLE, TOO_MANY_TRIALS),
)
async def check_tool(gateway: GatewayDep, agent_id: AgentId, tool_id: ToolId) -> ToolCheck:
    """Opens the tool as a run would, which reaches the server that it stands for, and lists what it gives. Nothing is
    called.
    """
    answer = await gateway.services.tools.CheckTool(
        tool_service_pb2.CheckToolRequest(agent_id=agent_id, id=tool_id), timeout=gateway.settings.tool_timeout_seconds
    )
    return check_of(answer)
