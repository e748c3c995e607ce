from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottle_fsm.backend.docker.addresses import candidates, free
from bottle_fsm.doctor.engine import LOW_DISK, EngineFacts, engine_rows, free_subnets
from bottle_fsm.doctor.engine_look import hidden
from bottle_fsm.doctor.rows import Level, Row

GOOD = EngineFacts(
    url="unix:///run/x.sock",
    source="DOCKER_HOST",
    version="27.0",
    api_version="1.46",
    root_dir="/var/lib/docker",
    free=LOW_DISK,
    runtimes=("runc", "runsc"),
    images={"bottle-agent:1": True, "bottle-sidecar:2": True},
    networks=3,
    pool=("10.213.0.0/16",),
)


def row(facts: EngineFacts, name: str) -> Row:
    (found,) = (r for r in engine_rows(facts) if r.name == name)
    return found


def test_finds_nothing_wrong_with_a_good_engine() -> None:
    rows = engine_rows(GOOD)
    assert {r.level for r in rows} == {Level.OK}
    assert rows[0].found == "version 27.0, API 1.46, at unix:///run/x.sock (DOCKER_HOST)"
    names = ["answers", "storage", "runsc", "bottle-agent", "bottle-sidecar", "networks"]
    assert [r.name for r in rows] == names


def test_says_only_that_it_does_not_answer_when_it_does_not() -> None:
    (only,) = engine_rows(replace(GOOD, problem="no engine answers", hint="Start it"))
    assert (only.level, only.remedy) == (Level.FAILED, "Start it")
    assert only.found == "no engine answers (unix:///run/x.sock, DOCKER_HOST)"


def test_does_not_name_the_address_twice() -> None:
    (only,) = engine_rows(replace(GOOD, problem="nobody at unix:///run/x.sock"))
    assert only.found == "nobody at unix:///run/x.sock (DOCKER_HOST)"
    assert only.remedy == "Start an engine, or set DOCKER_HOST or a docker context to one"


def test_fails_an_engine_that_answers_but_cannot_be_looked_at() -> None:
    first, second = engine_rows(replace(GOOD, unknown="no answer within 5 s"))
    assert first.level is Level.OK
    assert (second.level, second.found) == (Level.FAILED, "it answers, but cannot be looked at: no answer within 5 s")


def test_fails_an_engine_of_windows_containers() -> None:
    found = row(replace(GOOD, os="windows"), "containers")
    assert found.level is Level.FAILED
    assert "Linux containers" in found.remedy


@pytest.mark.parametrize(
    ("facts", "name", "remedy"),
    [
        (replace(GOOD, free=LOW_DISK - 1), "storage", "docker system df"),
        (replace(GOOD, free=None), "storage", "df -h"),
        (replace(GOOD, runtimes=("runc",)), "runsc", "`runsc install`"),
        (replace(GOOD, subnets=("10.213.0.0/16",)), "networks", 'networks: {pool: ["10.214.0.0/16"]}'),
    ],
)
def test_warns_of_what_bottles_can_do_without(facts: EngineFacts, name: str, remedy: str) -> None:
    found = row(facts, name)
    assert found.level is Level.WARNING
    assert remedy in found.remedy


def test_says_that_a_missing_image_will_be_built() -> None:
    found = row(replace(GOOD, images={"bottle-agent:1": False}), "bottle-agent")
    assert found.level is Level.OK
    assert "bottle-agent:1 will be built by the first launch" in found.found


def test_warns_when_less_than_one_bottle_fits_into_the_pool() -> None:
    three_free, two_free = ("10.0.0.0/27", ["10.0.0.0/29"]), ("10.0.0.0/27", ["10.0.0.0/28"])
    for (pool, taken), level in ((three_free, Level.OK), (two_free, Level.WARNING)):
        assert row(replace(GOOD, pool=(pool,), subnets=tuple(taken)), "networks").level is level


networks = st.builds(
    lambda address, prefix: str(ipaddress.IPv4Network((address, prefix), strict=False)),
    st.integers(int(ipaddress.IPv4Address("10.0.0.0")) - 600, int(ipaddress.IPv4Address("10.0.3.0"))),
    st.integers(22, 32),
)


@given(st.lists(networks | st.sampled_from(["", "fd00::/64", "rubbish"]), max_size=8))
def test_counts_the_subnets_that_a_launch_would_find_free(taken: list[str]) -> None:
    pool, prefix = ("10.0.0.0/24", "10.0.2.0/25"), 29
    subnets = list(candidates(pool, prefix, "seed"))
    assert free_subnets(pool, prefix, taken) == (len(list(free(subnets, taken))), len(subnets))


@given(
    st.builds(
        EngineFacts,
        problem=st.sampled_from(["", "no"]),
        unknown=st.sampled_from(["", "late"]),
        os=st.sampled_from(["linux", "windows"]),
        free=st.none() | st.integers(0, 1 << 40),
        runtimes=st.lists(st.sampled_from(["runc", "runsc"])).map(tuple),
        images=st.dictionaries(st.sampled_from(["a:1", "b:2"]), st.booleans()),
        subnets=st.lists(networks, max_size=3).map(tuple),
        pool=st.just(("10.0.0.0/28",)),
    )
)
def test_always_says_what_to_do_about_what_is_not_well(facts: EngineFacts) -> None:
    for found in engine_rows(facts):
        assert bool(found.remedy) == (found.level is not Level.OK)


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("at ssh://u:pw@h failed", "ssh://u:pw@h", "at ssh://u:***@h failed"),
        ("http://u:pw@h:1/version", "tcp://u:pw@h:1", "http://u:***@h:1/version"),
        ("at tcp://h:1", "tcp://h:1", "at tcp://h:1"),
        ("at tcp://[", "tcp://[", "at tcp://["),
        ("anything", "", "anything"),
    ],
)
def test_hides_the_password_of_an_address(text: str, url: str, shown: str) -> None:
    assert hidden(text, url) == shown
