"""How much work a JSON Schema asks for, before it is done.

Tools bring schemas of strangers, and a small one, of branches that refer to the same branches, can ask for 2^60 steps.
"""

from typing import Any

from agent_service.references import target_of

MAX_STEPS = 100_000
# Pairs of a schema and a value that are looked at to count the steps.
MAX_PAIRS = 100_000
MAX_DEPTH = 200

_BRANCHES = ("allOf", "anyOf", "oneOf")
_SAME_VALUE = ("if", "then", "else", "not")
_OTHER_REFERENCES = ("$dynamicRef", "$recursiveRef")


def check_cost(schema: Any, value: Any) -> None:
    """Raises ValueError where checking `value` by `schema` may take more than `MAX_STEPS`, or cannot be reckoned."""
    _Reckoning(schema).steps(schema, value, 0)


class _Reckoning:
    """Steps of pairs of a part of the schema and a part of the value; each pair is reckoned once."""

    def __init__(self, root: Any) -> None:
        self._root = root
        # None while a pair is being reckoned: who meets it again goes in a circle, as validating would.
        self._known: dict[tuple[int, int], int | None] = {}

    def steps(self, schema: Any, value: Any, depth: int) -> int:
        """An upper bound."""
        if not isinstance(schema, dict):
            return 1
        pair = (id(schema), id(value))
        if pair in self._known:
            known = self._known[pair]
            if known is None:
                raise ValueError("refers to itself without end")
            return known
        if len(self._known) >= MAX_PAIRS or depth >= MAX_DEPTH:
            raise ValueError("is too large or too deep for these arguments")
        if any(keyword in schema for keyword in _OTHER_REFERENCES) or ("$id" in schema and schema is not self._root):
            raise ValueError("uses $dynamicRef, $recursiveRef or an inner $id, which are not taken")
        self._known[pair] = None
        total = 1 + sum(self.steps(child, part, depth + 1) for child, part in self._children(schema, value))
        if total > MAX_STEPS:
            raise ValueError(f"asks for more than {MAX_STEPS} steps")
        self._known[pair] = total
        return total

    def _children(self, schema: dict[str, Any], value: Any) -> list[tuple[Any, Any]]:
        found = [(schema[keyword], value) for keyword in _SAME_VALUE if keyword in schema]
        found += [(branch, value) for keyword in _BRANCHES for branch in _list(schema.get(keyword))]
        found += [(child, value) for child in _dict(schema.get("dependentSchemas")).values()]
        if isinstance(reference := schema.get("$ref"), str):
            found.append((self._target(reference), value))
        match value:
            case dict():
                named, patterns = _dict(schema.get("properties")), _dict(schema.get("patternProperties"))
                others = [schema[k] for k in ("additionalProperties", "unevaluatedProperties") if k in schema]
                for name, part in value.items():
                    fitting = [named[name]] if name in named else []
                    fitting += patterns.values()
                    found += [(child, part) for child in (*fitting, *others)]
                    found.append((schema.get("propertyNames"), name))
            case list():
                first = _list(schema.get("prefixItems"))
                rest = [schema[k] for k in ("items", "unevaluatedItems", "contains") if k in schema]
                for number, part in enumerate(value):
                    found += [(child, part) for child in (*first[number : number + 1], *rest)]
        return found

    def _target(self, reference: str) -> Any:
        try:
            return target_of(self._root, reference)
        except KeyError:
            raise ValueError(f"refers to {reference[:200]}, which is not there") from None
        except ValueError:
            raise ValueError(
                f"refers to {reference[:200]}, and only references such as #/$defs/name are followed"
            ) from None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
