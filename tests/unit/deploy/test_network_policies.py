"""Who may reach whom in Kubernetes, worked out from the NetworkPolicies as their documentation says.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from typing import Any

import pytest
from unit.deploy.manifests import OVERLAYS, of_kind, pods, selects

WORLD = "8.8.8.8"
OWN = {
    "gateway": 8000,
    "agent-service": 50052,
    "inference-service": 50053,
    "log-service": 50054,
    "storage-service": 50055,
}
# Of each process, whom it may call.
CALLS: dict[str, set[str]] = {
    "gateway": {"agent-service", "inference-service", "log-service", "storage-service"},
    "agent-service": {"inference-service", "storage-service"},
    "agent-worker": {"inference-service", "storage-service"},
    "inference-service": set(),
    "log-service": {"agent-service", "storage-service"},
    "storage-service": set(),
    "migrations": set(),
}

METERED = CALLS.keys() - {"migrations"}

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def labels(overlay: str) -> dict[str, dict[str, str]]:
    return {name: template["metadata"]["labels"] for name, template in pods(overlay).items()}


def rules(overlay: str, pod: dict[str, str], direction: str) -> list[dict[str, Any]]:
    """What the policies that select the pod let through; at least one must, else everything is let through."""
    found = [
        policy["spec"]
        for policy in of_kind(overlay, "NetworkPolicy").values()
        if direction.capitalize() in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod)
    ]
    assert found, "no policy selects it, so anybody may"
    return [rule for spec in found for rule in spec.get(direction, ())]


def lets(rule: dict[str, Any], peers: str, peer: dict[str, str] | None, port: int) -> bool:
    """Whether the rule lets through what goes to, or comes from, a pod with these labels (None: from outside)."""
    if "ports" in rule and port not in [item["port"] for item in rule["ports"]]:
        return False
    if peers not in rule:
        return True
    for found in rule[peers]:
        if peer is not None and "podSelector" in found and "namespaceSelector" not in found:
            if selects(found["podSelector"], peer):
                return True
        elif peer is None and found.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
            return True
    return False


def reaches(overlay: str, caller: dict[str, str], called: dict[str, str], port: int) -> bool:
    out = any(lets(rule, "to", called, port) for rule in rules(overlay, caller, "egress"))
    return out and any(lets(rule, "from", caller, port) for rule in rules(overlay, called, "ingress"))


def base_name(name: str) -> str:
    return name.removesuffix("-long")


def test_each_process_calls_those_that_it_needs_and_no_others(overlay: str) -> None:
    known = labels(overlay)
    for caller, its_labels in known.items():
        if base_name(caller) not in CALLS:
            continue
        reached = {name for name, port in OWN.items() if reaches(overlay, its_labels, known[name], port)}
        assert reached == CALLS[base_name(caller)], caller


def test_prometheus_reaches_the_metrics_of_each_process_and_nothing_else_of_it(overlay: str) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for name, its_labels in labels(overlay).items():
        found = [rule for rule in rules(overlay, its_labels, "ingress") if monitoring in rule.get("from", ())]
        expected = [{"from": [monitoring], "ports": [{"port": 9464}]}] if base_name(name) in METERED else []
        assert found == expected, name


def test_only_the_gateway_is_reached_from_outside(overlay: str) -> None:
    ports = {**OWN, "agent-worker": 50056, "agent-worker-long": 50056, "postgres": 5432, "redis": 6379, "migrations": 1}
    open_ones = {
        name
        for name, its_labels in labels(overlay).items()
        if any(lets(rule, "from", None, ports[name]) for rule in rules(overlay, its_labels, "ingress"))
    }
    assert open_ones == {"gateway"}


OWNERS = {
    5432: {"storage-service", "migrations"},
    6379: {"agent-service", "agent-worker", "log-service"},
    11434: {"inference-service"},
}


@pytest.mark.parametrize("port", OWNERS)
def test_only_its_owners_reach_a_store(overlay: str, port: int) -> None:
    reached = {
        base_name(name)
        for name, its_labels in labels(overlay).items()
        for rule in rules(overlay, its_labels, "egress")
        if "ports" not in rule or port in [item["port"] for item in rule["ports"]]
    }
    assert reached == OWNERS[port]


def test_the_stores_of_the_trial_take_nobody_else(overlay: str) -> None:
    known = labels(overlay)
    for store, port in (("postgres", 5432), ("redis", 6379)):
        if store in known:
            callers = {base_name(name) for name in known if reaches(overlay, known[name], known[store], port)}
            assert callers == OWNERS[port]


def test_tools_reach_the_world_but_nothing_private(overlay: str) -> None:
    for name, its_labels in labels(overlay).items():
        outside = [rule for rule in rules(overlay, its_labels, "egress") if lets(rule, "to", None, 443)]
        assert bool(outside) == base_name(name).startswith("agent-"), name
        for rule in outside:
            (block,) = [found["ipBlock"] for found in rule["to"] if found["ipBlock"]["cidr"] == "0.0.0.0/0"]
            assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(block["except"])


def test_names_are_looked_up_by_all(overlay: str) -> None:
    for name, its_labels in labels(overlay).items():
        ports = [
            item
            for rule in rules(overlay, its_labels, "egress")
            if any("namespaceSelector" in peer for peer in rule.get("to", ()))
            for item in rule["ports"]
        ]
        assert {"port": 53, "protocol": "UDP"} in ports, name
