"""The workflow `chat`: one answer of the model to the conversation."""

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from agent_service.workflow import Changes, GraphWorkflow, RunContext, ended, step


class ChatState(TypedDict, total=False):
    """What the chat ends with."""

    output: dict[str, Any]


class ChatWorkflow(GraphWorkflow):
    """One step: `generate`."""

    def __init__(self) -> None:
        graph = StateGraph(ChatState, context_schema=RunContext)
        graph.add_node("generate", step("generate", _generate))
        graph.add_edge(START, "generate")
        graph.add_edge("generate", END)
        super().__init__(graph)


async def _generate(_: ChatState, context: RunContext) -> Changes:
    answer, spent = await context.model_calls.answer("generate", context.prompt())
    return {"output": ended(answer.output(), spent)}
