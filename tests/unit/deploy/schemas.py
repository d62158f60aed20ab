"""The schemas of Kubernetes' API, which the package kubernetes-validate brings.

Its own reader takes them from disk anew for each object, 0.1 s every time.
"""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs


def check(found: dict[str, Any], version: str) -> None:
    """Raises jsonschema_rs.ValidationError where the API of this version ("1.37") would not take the object as it is:
    a field that it does not know, which it would only drop, is an error."""
    _validator(found["kind"], found["apiVersion"], version).validate(found)


@cache
def _validator(kind: str, api_version: str, version: str) -> jsonschema_rs.Draft202012Validator:
    # networking.k8s.io/v1 is networking-v1.
    api = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    return jsonschema_rs.Draft202012Validator(_read(version, f"{kind.lower()}-{api}"), registry=_definitions(version))


@cache
def _definitions(version: str) -> jsonschema_rs.Registry:
    return jsonschema_rs.Registry([("json-schema:///api/_definitions.json", _read(version, "_definitions"))])


def _read(version: str, name: str) -> Any:
    folder = files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{version}.0-local-strict")
    return json.loads(folder.joinpath(f"{name}.json").read_text())
