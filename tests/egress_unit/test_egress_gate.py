"""What the gate says about a request that is only asked about, and that the guard is asked about the same one."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from bottle_fsm.egress.gate import gate_answer
from bottle_fsm.egress.policy import compile_policy
from bottle_fsm.egress.scan import Answer, ScanClient

POLICY = compile_policy(
    bottle="p/a",
    launch="l",
    allow=[
        ("a.com", 443),
        {"host": "api.com", "port": 443, "methods": ["POST", "GET"], "paths": ["/repos/*/x", "/user"]},
        {"host": "*.put.com", "port": 80, "methods": ["PUT"]},
    ],
    ssh=[("g.com", 22)],
)


class Guard:
    """Answers each question with the same words, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def url(self, url: str, token: str) -> Answer:
        assert token == "t"
        self.asked.append(url)
        return self.answer


def ask(guard: Guard, **question: str | int) -> tuple[int, dict[str, Any]]:
    target = f"/verdict?{urlencode(question)}"
    return asyncio.run(gate_answer(POLICY, cast("ScanClient", guard), target, "t"))


@pytest.mark.parametrize(
    ("question", "said", "url"),
    [
        (
            {"host": "a.com", "port": 443},
            {"method": "GET", "path": "/", "rule": "https://a.com:443"},
            "https://a.com:443/",
        ),
        (
            {"host": "api.com", "port": 443},
            {"method": "GET", "path": "/repos/bottle-selftest/x", "rule": "https://api.com:443"},
            "https://api.com:443/repos/bottle-selftest/x",
        ),
        (
            {"host": "API.com.", "port": 443, "method": "POST", "path": "/user?a=b&c"},
            {"method": "POST", "path": "/user?a=b&c", "rule": "https://api.com:443"},
            "https://api.com:443/user?a=b&c",
        ),
        (
            {"host": "x.put.com", "port": 80},
            {"method": "PUT", "path": "/", "rule": "http://*.put.com:80"},
            "http://x.put.com:80/",
        ),
        ({"host": "g.com", "port": 22}, {"rule": "ssh-tcp://g.com:22"}, "https://g.com:22/"),
    ],
)
def test_allows_what_the_rule_and_the_guard_allow(question: dict[str, Any], said: dict[str, str], url: str) -> None:
    guard = Guard(Answer(allow=True, rules=("dns_unresolved",)))
    status, answer = ask(guard, **question)
    host, port = question["host"], question["port"]
    assert (status, answer) == (
        200,
        {"host": host, "port": port, "decision": "allow", "by": "guard", "reason": "",
         "findings": ["dns_unresolved"], **said},
    )  # fmt: skip
    assert guard.asked == [url]


@pytest.mark.parametrize(
    ("question", "reason", "rule"),
    [
        ({"host": "b.com", "port": 443}, "not_listed", ""),
        ({"host": "api.com", "port": 443, "method": "DELETE"}, "method_not_allowed", "https://api.com:443"),
        ({"host": "api.com", "port": 443, "method": ""}, "method_refused", "https://api.com:443"),
        ({"host": "api.com", "port": 443, "path": "/users"}, "path_not_allowed", "https://api.com:443"),
        ({"host": "api.com", "port": 443, "path": "/repos/../x"}, "path_ambiguous", "https://api.com:443"),
        ({"host": "api.com", "port": 443, "path": "/user?_method=PUT"}, "method_override", "https://api.com:443"),
        ({"host": "api.com", "port": 443, "path": ""}, "target_form_refused", "https://api.com:443"),
        ({"host": "a.com", "port": 443, "method": "TRACE"}, "method_refused", "https://a.com:443"),
        ({"host": "g.com", "port": 22, "path": "/"}, "protocol_not_allowed", "ssh-tcp://g.com:22"),
    ],
)
def test_refuses_by_itself_what_no_rule_allows(question: dict[str, Any], reason: str, rule: str) -> None:
    guard = Guard(Answer(allow=True))
    status, answer = ask(guard, **question)
    assert status == 200
    assert (answer["decision"], answer["by"], answer["reason"], answer["rule"]) == ("deny", "interceptor", reason, rule)
    assert guard.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Answer(allow=False, rules=("x",)), "guard_refused"), (Answer(allow=False, failure="guard_dead"), "guard_dead")],
)
def test_refuses_what_the_guard_does_not_allow(answer: Answer, reason: str) -> None:
    _, said = ask(Guard(answer), host="api.com", port=443)
    assert (said["decision"], said["by"], said["reason"]) == ("deny", "guard", reason)


@pytest.mark.parametrize(
    "query",
    ["", "host=a.com", "host=a.com&port=x", "host=a.com&host=b.com&port=443", "host=a.com&port=443&path=/&path=/x",
     "host=a.com&port=443&method=GET&method=PUT"],
)  # fmt: skip
def test_answers_one_question_at_a_time(query: str) -> None:
    answer = asyncio.run(gate_answer(POLICY, cast("ScanClient", Guard(Answer(allow=True))), f"/verdict?{query}", "t"))
    assert answer[0] == 400
