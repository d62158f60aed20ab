"""A small client of Hearth's REST API for the examples: the standard library alone.

HEARTH_URL names the instance (default http://127.0.0.1:8000), HEARTH_MODEL the model (default the embedded one).
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

URL = os.environ.get("HEARTH_URL", "http://127.0.0.1:8000").rstrip("/")
MODEL = os.environ.get("HEARTH_MODEL", "smollm2:135m")


def call(method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Any:
    """The JSON answer of one request; `body` is sent as JSON, bytes as they are. Ends the program on a problem."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}/api/v1{path}", data, {"content-type": content_type}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        problem = json.loads(error.read())
        sys.exit(f"{method} {path}: {problem.get('detail') or problem.get('title')}")
    except urllib.error.URLError as error:
        sys.exit(f"Hearth is not there at {URL} ({error.reason}). Start it with `make run`, or set HEARTH_URL.")


def create_agent(name: str, **config: Any) -> str:
    """A new agent's id."""
    return str(call("POST", "/agents/create", {"name": name, "model_name": MODEL, "config": config})["id"])


def give_tool(agent_id: str, kind: str, **fields: Any) -> str:
    """Gives the agent a tool; its id."""
    return str(call("POST", f"/agents/{agent_id}/tools", {"tool_name": kind, **fields})["id"])


def start(agent_id: str, prompt: str, **fields: Any) -> str:
    """Starts a run; the task's id."""
    return str(call("POST", "/agents/run", {"agent_id": agent_id, "input": {"prompt": prompt}, **fields})["task_id"])


def events(task_id: str) -> Iterator[dict[str, Any]]:
    """What happens in the run, live, until it ends or waits for an answer."""
    with urllib.request.urlopen(f"{URL}/api/v1/logs/stream/{task_id}", timeout=600) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                yield event
                if event["kind"] == "end" or event.get("context", {}).get("status") == "waiting":
                    return


def task(task_id: str) -> dict[str, Any]:
    """The task now."""
    return dict(call("GET", f"/tasks/{task_id}/status"))


def watch(task_id: str) -> dict[str, Any]:
    """Shows what the run does, and gives the task once it has ended or waits. Ends the program where it failed."""
    for event in events(task_id):
        match event["kind"]:
            case "step" | "tool_call" | "tool_result" | "log":
                print(f"  {event['kind']:<12} {event['message'][:200]}", file=sys.stderr)
    now = task(task_id)
    if now["status"] in ("failed", "cancelled"):
        sys.exit(f"The run {now['status']}: {now['error_message']}")
    return now
