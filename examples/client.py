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


def create_agent(name: str, description: str = "", **config: Any) -> str:
    """A new agent's id."""
    body = {"name": name, "description": description, "model_name": MODEL, "config": config}
    return str(call("POST", "/agents/create", body)["id"])


def give_tool(agent_id: str, kind: str, **fields: Any) -> str:
    """Gives the agent a tool; its id."""
    return str(call("POST", f"/agents/{agent_id}/tools", {"tool_name": kind, **fields})["id"])


class Run:
    """A run that was started, and how far it was followed."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self._last_id = ""

    @classmethod
    def start(cls, agent_id: str, prompt: str, **fields: Any) -> "Run":
        """A new run of the agent."""
        body = {"agent_id": agent_id, "input": {"prompt": prompt}, **fields}
        return cls(str(call("POST", "/agents/run", body)["task_id"]))

    def watch(self) -> dict[str, Any]:
        """Shows what the run does, and gives the task once it has ended or waits for a person or a client. Ends the
        program where the run failed."""
        for event in self.events():
            if event["kind"] in ("step", "tool_call", "tool_result", "log"):
                print(f"  {event['kind']:<12} {event['message'][:200]}", file=sys.stderr)
            # Other agents' runs end by themselves; anything else waits for us.
            if any(pending["kind"] != "task" for pending in event.get("context", {}).get("pending", [])):
                break
        task = dict(call("GET", f"/tasks/{self.task_id}/status"))
        if task["status"] in ("failed", "cancelled"):
            sys.exit(f"The run {task['status']}: {task['error_message']}")
        return task

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens in the run, live, from where it was followed to, until it ends."""
        request = urllib.request.Request(f"{URL}/api/v1/logs/stream/{self.task_id}")
        if self._last_id:
            request.add_header("Last-Event-ID", self._last_id)
        with urllib.request.urlopen(request, timeout=600) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    self._last_id = event.get("id", self._last_id)
                    yield event
                    if event["kind"] == "end":
                        return

    def answer(self, results: list[dict[str, Any]]) -> None:
        """Answers what the run waits for."""
        call("POST", f"/tasks/{self.task_id}/resume", {"results": results})
