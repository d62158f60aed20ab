"""Requests that go only where they may: tricks with names, addresses, redirects and answers, against a real server."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from agent_service.builtin.http_request import HttpRequest, HttpRequestKind, result_of
from agent_service.builtin.mcp import connection_of
from agent_service.builtin.openapi import OpenApiKind
from agent_service.builtin.web_search import WebSearchKind
from agent_service.html_files import html_text
from agent_service.settings import ToolSettings
from agent_service.tool import ToolHost, ToolKind, ToolScope
from agent_service.web import MAX_STREAM_BYTES, Web, WebAnswer, WebFailed, WebRequest, WebTransport
from agent_service.web_rules import WebRefused, WebRules
from hearth_runtime.errors import InvalidArgument


class Server:
    """Answers each path with the bytes that a test has set for it; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            path = head.split(" ")[1]
            if path.startswith("/hang"):
                await reader.read()
            writer.write(self.answers.get(path, answer("hello")))
            await writer.drain()
        finally:
            writer.close()


def answer(body: str, *, status: str = "200 OK", content_type: str = "text/plain", **fields: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body.encode())}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


def web(*allow: str, private: tuple[str, ...] = (), names: dict[str, list[Sequence[str]]] | None = None) -> Web:
    """`names` are the answers of a name server, one after the other, the last for ever."""
    known = names or {}

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host in known:
            return known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        if host.replace(".", "").isdigit() or ":" in host:
            return [host]
        raise OSError("unknown")

    return Web(WebRules(allow=allow, private=private), timeout_seconds=1, max_bytes=1000, resolve=resolve)


def site() -> Web:
    """What may go to site.test, which is this machine."""
    return web("site.test", private=("site.test",), names={"site.test": [["127.0.0.1"]]})


def get(url: str, **headers: str) -> WebRequest:
    return WebRequest(method="GET", url=url, headers=headers)


async def test_what_is_allowed_is_fetched(server: Server) -> None:
    url = f"http://site.test:{server.port}/page?q=1#part"
    answer = await site().request(get(url, X_A="b"))
    assert (answer.status, answer.text, answer.is_cut) == (200, "hello", False)
    assert server.asked[0].startswith("GET /page?q=1 HTTP/1.1")
    assert f"Host: site.test:{server.port}" in server.asked[0]


@pytest.mark.parametrize(
    ("allow", "url", "is_allowed"),
    [
        ("api.test", "https://api.test/x", True),
        ("api.test", "https://API.test/x", True),
        ("api.test", "https://api.test.evil.test/x", False),
        ("api.test", "https://evil-api.test/x", False),
        ("*.api.test", "https://a.b.api.test/x", True),
        ("*.api.test", "https://api.test/x", False),
        ("*.api.test", "https://evilapi.test/x", False),
        ("https://api.test/v1/", "https://api.test/v1/x", True),
        ("https://api.test/v1", "https://api.test/v1", True),
        ("https://api.test/v1", "https://api.test/v10", False),
        ("https://api.test/v1/", "https://api.test/v1/../admin", False),
        ("https://api.test/v1/", "https://api.test/v1/%2e%2e/admin", False),
        ("https://api.test/v1/", "https://api.test/v1/%252e%252e/admin", False),
        ("https://api.test/v1/", "https://api.test/v1/x%2f..%2f..%2fadmin", False),
        ("https://api.test/v1/", "https://api.test/v1/..;/admin", False),
        ("https://api.test/v1/", "https://api.test/v1/%5c..%5cadmin", False),
        ("https://api.test/v1/", "https://api.test/v1/a..b/c.d", True),
        ("https://api.test/v1/", "http://api.test/v1/x", False),
        ("https://api.test/v1/", "https://api.test:444/v1/x", False),
        ("*", "https://anything.test/", True),
    ],
)
def test_where_requests_may_go(allow: str, url: str, is_allowed: bool) -> None:
    rules = WebRules(allow=(allow,))
    if is_allowed:
        rules.check_url(url)
    else:
        with pytest.raises(WebRefused, match="not allowed"):
            rules.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://site.test/",
        "file:///etc/passwd",
        "//site.test/",
        "site.test",
        "http://",
        "http://user:secret@site.test/",
        "http://site.test@evil.test/",
        "http://site.test\\@evil.test/",
        "http://site.test/a b",
        "http://site.test/\r\nX: y",
        "http://ſite.test/",
        "http://site.test:0/",
        "http://site.test:99999/",
        "http://[::1/",
        "http://site.test/" + "x" * 5000,
    ],
)
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(WebRefused):
        await web("*").request(get(url))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2001:0:53aa:64c:0:fbff:80ff:fffe", "2001:db8::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1",
        "64:ff9b:1::7f00:1", "192.88.99.1", "4000::1",
    ],
)  # fmt: skip
async def test_no_name_leads_to_an_address_that_is_not_public(address: str) -> None:
    with pytest.raises(WebRefused, match="no public address"):
        await web("*", names={"site.test": [[address]]}).request(get("http://site.test/"))
    with pytest.raises(WebRefused, match="no public address"):
        # A public one beside it does not help.
        await web("*", names={"site.test": [["8.8.8.8", address]]}).request(get("http://site.test/"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "2130706433", "0x7f000001", "0177.0.0.1"]
)
async def test_no_spelling_of_a_loopback_address_gets_through(host: str) -> None:
    # With the real name service, which knows all of these spellings.
    with pytest.raises((WebRefused, WebFailed)):
        await Web(WebRules(allow=("*",)), timeout_seconds=1, max_bytes=10).request(get(f"http://{host}/"))


@pytest.mark.parametrize("named", ["site.test", "127.0.0.0/8", "127.0.0.1"])
async def test_a_private_address_that_is_named_is_reached(server: Server, named: str) -> None:
    fetch = web("site.test", private=(named,), names={"site.test": [["127.0.0.1"]]})
    assert (await fetch.request(get(f"http://site.test:{server.port}/"))).status == 200


async def test_a_second_answer_of_the_name_server_changes_nothing(server: Server) -> None:
    # Public when looked at, private when connected to: there is no second look.
    rebinding = web("site.test", names={"site.test": [["192.0.0.9"], ["127.0.0.1"]]})
    with pytest.raises((WebRefused, WebFailed)):
        await rebinding.request(get(f"http://site.test:{server.port}/"))
    assert server.asked == []


async def test_redirects_are_followed_where_they_may_go(server: Server) -> None:
    server.answers["/old"] = answer("", status="302 Found", Location="/new")
    server.answers["/new"] = answer("moved here")
    fetch = site()
    got = await fetch.request(get(f"http://site.test:{server.port}/old", Authorization="Bearer secret"))
    assert (got.text, got.url) == ("moved here", f"http://site.test:{server.port}/new")
    assert all("Bearer secret" in asked for asked in server.asked)


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://evil.test/",
        "file:///etc/passwd",
        "//evil.test/",
        "http://[::1]/",
        "http://[::1",
        "http://2130706433/",
        "http://site.test@evil.test/",
    ],
)
async def test_redirects_lead_nowhere_else(server: Server, location: str) -> None:
    server.answers["/old"] = answer("", status="307 Temporary Redirect", Location=location)
    names: dict[str, list[Sequence[str]]] = {"site.test": [["127.0.0.1"]], "evil.test": [["127.0.0.1"]]}
    with pytest.raises(WebRefused):
        await web("site.test", private=("site.test",), names=names).request(get(f"http://site.test:{server.port}/old"))
    assert len(server.asked) == 1


async def test_secrets_do_not_go_along_to_another_place(server: Server) -> None:
    server.answers["/old"] = answer("", status="302 Found", Location=f"http://other.test:{server.port}/new")
    names: dict[str, list[Sequence[str]]] = {"site.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    fetch = web("site.test", "other.test", private=("127.0.0.1",), names=names)
    await fetch.request(get(f"http://site.test:{server.port}/old", Authorization="Bearer secret"))
    assert ["Bearer secret" in asked for asked in server.asked] == [True, False]


async def test_redirects_end(server: Server) -> None:
    server.answers["/loop"] = answer("", status="302 Found", Location="/loop")
    fetch = site()
    with pytest.raises(WebRefused, match="more than 5 times"):
        await fetch.request(get(f"http://site.test:{server.port}/loop"))
    assert len(server.asked) == 6


async def test_a_large_answer_is_cut(server: Server) -> None:
    server.answers["/large"] = answer("x" * 100_000)
    fetch = site()
    got = await fetch.request(get(f"http://site.test:{server.port}/large"))
    assert (len(got.body), got.is_cut) == (1000, True)


async def test_a_compressed_answer_is_refused(server: Server) -> None:
    server.answers["/bomb"] = answer("xx", Content_Encoding="gzip")
    fetch = site()
    with pytest.raises(WebRefused, match="encoding"):
        await fetch.request(get(f"http://site.test:{server.port}/bomb"))


async def test_a_server_that_says_nothing_is_given_up(server: Server) -> None:
    fetch = site()
    with pytest.raises(WebFailed, match="no answer within 1 seconds"):
        await fetch.request(get(f"http://site.test:{server.port}/hang"))


async def test_a_server_that_never_comes_to_an_end_is_given_up() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        try:
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()

    listening = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(WebFailed, match="no answer within 1 seconds"):
        await site().request(get(f"http://site.test:{port}/"))
    listening.close()


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
async def test_a_name_that_no_host_can_have_says_so(host: str) -> None:
    with pytest.raises(WebFailed, match="not known"):
        await Web(WebRules(allow=("*",)), timeout_seconds=1, max_bytes=10).request(get(f"http://{host}/"))


@pytest.mark.parametrize(
    ("allow", "private", "says"),
    [
        (["example.com:8080"], [], "write the whole URL"),
        (["example.com/v1"], [], "write the whole URL"),
        (["https://u@example.com/"], [], "no user name"),
        (["https://example.com/?key=1"], [], "end with its path"),
        (["example.com"], ["10.0.0.1/8"], "no network"),
        (["example.com"], ["http://10.0.0.1"], "no network"),
    ],
)
def test_an_entry_that_covers_nothing_is_named(allow: list[str], private: list[str], says: str) -> None:
    assert says in str(WebRules(allow=tuple(allow), private=tuple(private)).problem())


@pytest.mark.parametrize("entry", ["*", "example.com", "*.example.com", "https://example.com/v1", "8.8.8.8", "::1"])
def test_an_entry_that_covers_something_is_none(entry: str) -> None:
    assert WebRules(allow=(entry,), private=("10.0.0.0/8", "fd00::/8", "localhost", "::1")).problem() is None


@pytest.mark.parametrize(
    ("rules", "url", "may_go"),
    [
        (WebRules(allow=("api.test",)), "https://api.test/", True),
        (WebRules(allow=("api.test",)), "http://api.test/", False),
        (WebRules(allow=("http://api.test/v1",)), "http://api.test/v1/x", True),
        (WebRules(allow=("api.test",), private=("api.test",)), "http://api.test/", True),
    ],
)
def test_secrets_are_not_sent_for_all_to_read(rules: WebRules, url: str, may_go: bool) -> None:
    if may_go:
        rules.check_secrets(url)
    else:
        with pytest.raises(WebRefused, match="https"):
            rules.check_secrets(url)


async def test_secrets_are_for_hosts_that_are_named() -> None:
    anybody: Any = None
    with pytest.raises(InvalidArgument, match="name the hosts"):
        async with HttpRequestKind().open({"allow": ["*"], "headers": {"Authorization": "s"}}, anybody, lent()):
            pass
    with pytest.raises(InvalidArgument, match="whole URL"):
        async with HttpRequestKind().open({"allow": ["example.com:8080"]}, anybody, lent()):
            pass


async def test_what_is_read_as_it_comes_is_bounded_too(server: Server) -> None:
    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    rules = WebRules(allow=("site.test",), private=("site.test",))
    url = f"http://site.test:{server.port}"
    server.answers["/large"] = answer("x" * (MAX_STREAM_BYTES + 1))
    server.answers["/bomb"] = answer("xx", Content_Encoding="gzip")
    async with httpx.AsyncClient(transport=WebTransport(rules, resolve=here), trust_env=False) as client:
        assert (await client.get(f"{url}/")).text == "hello"
        assert "Accept-Encoding: identity" in server.asked[-1]
        with pytest.raises(WebRefused, match="longer"):
            await client.get(f"{url}/large")
        with pytest.raises(WebRefused, match="encoding"):
            await client.get(f"{url}/bomb")
        with pytest.raises(WebRefused, match="not allowed"):
            await client.get("http://evil.test/")


async def test_an_unknown_host_says_so() -> None:
    with pytest.raises(WebFailed, match="not known"):
        await web("*").request(get("http://nowhere.test/"))


async def test_the_tool_gives_what_a_reader_sees(server: Server) -> None:
    server.answers["/page"] = answer(
        "<head><title>T</title></head><h1>Title</h1><script>evil()</script><p>One &amp; two</p><ul><li>a<li>b</ul>",
        content_type="text/html; charset=utf-8",
    )
    rules = WebRules(allow=("site.test",), private=("site.test",))
    tool = HttpRequest(site(), rules, ["GET"], {})
    result = await tool.call({"url": f"http://site.test:{server.port}/page"}, call_id="c")
    assert result.content == f"HTTP 200 http://site.test:{server.port}/page\nT\n\nTitle\n\nOne & two\n\n- a\n\n- b"
    refused = await tool.call({"url": "http://evil.test/"}, call_id="c")
    assert refused.is_error
    assert "Allowed: site.test" in refused.content


@pytest.mark.parametrize(
    ("methods", "repeatable"), [(["GET"], True), (["GET", "HEAD"], True), (["GET", "POST"], False)]
)
def test_only_reading_may_be_repeated(methods: list[str], repeatable: bool) -> None:
    rules = WebRules(allow=("site.test",))
    assert HttpRequest(web("site.test"), rules, methods, {}).spec.repeatable is repeatable


@pytest.mark.parametrize(
    ("content_type", "body", "shown"),
    [
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("text/plain; charset=latin-1", b"caf\xe9", "café"),
        ("text/plain; charset=no-such", b"x", "x"),
        ("text/plain; charset=idna", b"x\xff", "x\ufffd"),
        ("text/plain; charset=punycode", b"x", "x"),
        ("text/plain; charset=iso-8859-99", b"x", "x"),
        ("image/png", b"\x89PNG", "(4 bytes of image/png, which is no text)"),
    ],
)
def test_answers_are_shown_by_their_type(content_type: str, body: bytes, shown: str) -> None:
    got = WebAnswer(status=404, url="u", content_type=content_type, body=body, is_cut=False)
    result = result_of(got)
    assert (result.content, result.is_error) == (f"HTTP 404 u\n{shown}", True)


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<a ", "<a b='", "<![CDATA[", "<!DOCTYPE ", "<script>", "</", "<", "&#", "<title>", "&#9999999999;"],
)
def test_no_page_takes_long_to_read(piece: str) -> None:
    began = time.process_time()
    html_text(piece * (300_000 // len(piece)))
    # Python's own parser takes minutes for the first two.
    assert time.process_time() - began < 5


def test_what_no_reader_sees_is_left_out() -> None:
    page = (
        "a<!-- c -->b<script>var x = '<!--</p>'</script><p title='1 > 0'>one<style>p {}</style >two</p>"
        "<svg/>three &lt;b&gt; &#x110000; 1 < 2<!-- never ends <p>four"
    )
    assert html_text(page) == "ab\n\nonetwo\n\nthree <b> \ufffd 1 < 2"


@pytest.mark.parametrize("html", ["<", "<script>", "<p", "&#xd800;", "</p></p>", "<![CDATA[", "a" * 10])
def test_broken_html_is_read_as_far_as_it_goes(html: str) -> None:
    value: Any = html_text(html)
    assert isinstance(value, str)


def lent(**settings: Any) -> ToolHost:
    """What a process of these settings lends to tools."""
    anybody: Any = None
    return ToolHost(settings=ToolSettings(**settings), storage=anybody, inference=anybody)


def scoped(**fields: Any) -> ToolScope:
    """A trial's."""
    anybody: Any = None
    return ToolScope(agent=anybody, session_id=None, task_id=None, requests=None, **fields)


@pytest.mark.parametrize("kind", ["http_request", "openapi", "web_search"])
async def test_a_call_may_take_what_the_agents_tool_says(server: Server, kind: str) -> None:
    at = f"http://127.0.0.1:{server.port}"
    document = json.dumps({"openapi": "3.0.0", "paths": {"/hang": {"get": {}}}})
    kinds: dict[str, tuple[ToolKind, dict[str, Any], dict[str, Any]]] = {
        "http_request": (HttpRequestKind(), {"allow": ["127.0.0.1"], "private": ["127.0.0.1"]}, {"url": f"{at}/hang"}),
        "openapi": (OpenApiKind(), {"document": document, "base_url": at, "private": ["127.0.0.1"]}, {}),
        "web_search": (WebSearchKind(), {}, {"query": "q"}),
    }
    opened, config, arguments = kinds[kind]
    host = lent(searxng_url=f"{at}/hang")
    async with opened.open(config, scoped(timeout_seconds=0.2), host) as (tool,):
        result = await tool.call(arguments, call_id="c")
    assert result.is_error
    assert "no answer within 0.2 seconds" in result.content


@pytest.mark.parametrize(
    ("allowed", "private", "refused"),
    [
        (["*"], ["10.0.0.1", "wiki.local", "0.0.0.0/0"], ""),
        ([], [], ""),
        ([], ["10.0.0.1"], "10.0.0.1"),
        (["10.0.0.0/8", "Wiki.local"], ["10.1.0.0/16", "10.9.9.9", "wiki.local"], ""),
        (["10.1.0.0/16"], ["10.0.0.0/8", "10.1.2.3"], "10.0.0.0/8"),
        (["10.0.0.0/8"], ["wiki.local", "::1"], "wiki.local, ::1"),
        (["10.0.0.0/8"], ["11.0.0.1", "9.0.0.1"], "11.0.0.1, 9.0.0.1"),
        (["::/0"], ["10.0.0.1"], "10.0.0.1"),
    ],
)
async def test_a_tool_names_private_hosts_as_far_as_the_operator_lets_it(
    allowed: list[str], private: list[str], refused: str
) -> None:
    scope = scoped()
    host = lent(private_hosts=allowed)
    document = {"openapi": "3.0.0", "paths": {"/x": {"get": {"operationId": "x"}}}}
    openapi = {"document": json.dumps(document), "base_url": "https://a.test", "private": private}
    mcp = {"url": "https://a.test/mcp", "private": private}

    async def open_all() -> None:
        async with HttpRequestKind().open({"allow": ["a.test"], "private": private}, scope, host):
            pass
        async with OpenApiKind().open(openapi, scope, host):
            pass
        connection_of(mcp, host.settings, 1.0)

    if not refused:
        await open_all()
        return
    message = f"`private`: {refused} may not be named here. HEARTH_PRIVATE_HOSTS has: {', '.join(allowed) or 'none'}."
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        await open_all()
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        async with OpenApiKind().open(openapi, scope, host):
            pass
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        async with OpenApiKind().open({"url": "https://a.test/doc", "private": private}, scope, host):
            pass
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        connection_of(mcp, host.settings, 1.0)
