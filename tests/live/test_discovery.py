"""What an account offers: tested, fetched, served as routes by one command, and looked at again by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import StartGateway
from tests.fakes.ocf import FakeOCF
from tests.fakes.ollama import FakeOllama
from tests.fakes.sap_ai_core import TOKEN, FakeSAP
from tests.fakes.server import wait_until
from tests.fakes.snowflake import CHAT_MODELS, EMBEDDING_MODELS, FakeSnowflake, new_key
from tests.live.server import Gateway, Row
from tests.live.wire import CHAT, call, chat

NOWHERE = "http://127.0.0.1:9"
Connect = Callable[..., str]


@pytest.fixture(scope="module")
def shared(start_gateway: StartGateway) -> Gateway:
    return start_gateway()


@pytest.fixture
def gateway(shared: Gateway) -> Iterator[Gateway]:
    """A gateway of their own; routes of earlier tests are gone, its log is shown beside a failure."""
    before = shared.log.stat().st_size
    yield shared
    shell(shared, "Route.objects.exclude(name='echo').delete()", "Profile.objects.exclude(name='echo').delete()")
    with shared.log.open("rb") as log:
        log.seek(before)
        print(log.read().decode(errors="replace"))


def shell(gateway: Gateway, *lines: str) -> None:
    """What an administrator does in the admin."""
    opening = "from profiles import discovery\nfrom profiles.models import Deployment, Profile, Route"
    gateway.manage("shell", "--no-imports", "-c", "\n".join([opening, *lines]))


def look_again(gateway: Gateway, profile: str) -> None:
    """The time to look at the account has come."""
    # The background process may be faster; then there is nothing left to do here.
    shell(gateway, f"Profile.objects.filter(name={profile!r}).update(synced_at=None)", "discovery.sync_due()")


def refused(gateway: Gateway, *words: str, given: str | None = None) -> str:
    done = gateway.manage(*words, check=False, given=given)
    assert done.returncode != 0, done
    said = done.stderr.strip()
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1, said
    return said


def served(gateway: Gateway, profile: str) -> dict[str, list[Row]]:
    """The profile's deployments, by route."""
    rows = gateway.select(
        "SELECT r.name, r.works, r.context_window, r.max_output_tokens, d.id, d.upstream_model, d.upstream_url, "
        "d.enabled, d.vanished_at, d.listed FROM profiles_deployment d "
        "JOIN profiles_route r ON r.id = d.route_id JOIN profiles_profile p ON p.id = d.profile_id "
        "WHERE p.name = ? ORDER BY d.id",
        profile,
    )
    by_route: dict[str, list[Row]] = {}
    for row in rows:
        by_route.setdefault(row["name"], []).append(row)
    return by_route


def profile_of(gateway: Gateway, name: str) -> Row | None:
    found = gateway.select("SELECT * FROM profiles_profile WHERE name = ?", name)
    return found[0] if found else None


def on(gateway: Gateway, profile: str, route: str) -> bool:
    (row,) = served(gateway, profile)[route]
    return bool(row["enabled"])


# ---------------------------------------------------------------------------------------------- tested and fetched


def test_a_test_says_what_was_reached_as_whom_and_how_fast(gateway: Gateway) -> None:
    with FakeOllama() as ollama, FakeSAP() as sap:
        done = gateway.manage("connect", "ollama", "ollama", "--set", f"url={ollama.url}", "--test")
        first, second = done.stdout.splitlines()
        assert first.startswith(f"Reached {ollama.url} as nobody: without a key in ")
        assert first.endswith(" ms; it offers 6 model(s).")
        assert second == "Connected ollama profile 'ollama'."
        assert served(gateway, "ollama") == {}
        done = gateway.manage(
            *("connect", "sap_ai_core", "sap", "--secret", "service_key=-", "--test", "--fetch", "--routes", "all"),
            given=sap.service_key(),
        )
        assert f"Reached {sap.origin}/v2 as client {sap.client} in " in done.stdout
        assert sap.secret not in done.stdout + done.stderr
        # One login and one listing are enough for all of it.
        mine = [each for each in sap.requests if each.headers.get("authorization") or each.path == TOKEN][:3]
        assert [each.path.partition("?")[0] for each in mine[:2]] == [TOKEN, "/v2/lm/deployments"]
        assert len(sap.listings()) == 1
        assert sap.complaints == []


def test_fetched_models_are_listed_with_the_names_they_would_be_offered_under(gateway: Gateway) -> None:
    with FakeOllama() as ollama:
        done = gateway.manage("connect", "ollama", "ollama", "--set", f"url={ollama.url}", "--fetch")
        lines = done.stdout.splitlines()
        assert "qwen3:latest  qwen3:latest  tools, json_schema, thinking, streaming" in lines
        assert len(lines) == 7
        assert served(gateway, "ollama") == {}
        assert ollama.complaints == []


# ---------------------------------------------------------------------------------------------------------- routes


def test_all_models_of_ollama_become_routes_for_what_they_can_do(gateway: Gateway) -> None:
    with FakeOllama() as ollama:
        gateway.manage("connect", "ollama", "ollama", "--set", f"url={ollama.url}", "--routes", "all")
        routes = served(gateway, "ollama")
        assert set(routes) == {f"{name}:latest" for name in ollama.capabilities}
        assert "embedding" in json.loads(routes["nomic-embed-text:latest"][0]["works"])
        assert json.loads(routes["llama3.2:latest"][0]["works"]) == ["chat", "completion"]
        gateway.noticed()
        assert call(gateway, CHAT, chat("llama3.2:latest")).status == 200
        given = {"model": "nomic-embed-text:latest", "input": "Grüezi"}
        assert call(gateway, "/v1/embeddings", given).status == 200
        assert call(gateway, CHAT, chat("nomic-embed-text:latest")).status == 400
        # The same again makes nothing twice.
        gateway.manage("connect", "ollama", "ollama", "--routes", "all")
        assert served(gateway, "ollama") == routes
        assert ollama.complaints == []


def test_some_models_get_names_of_their_own(gateway: Gateway) -> None:
    with FakeOllama() as ollama:
        gateway.manage(
            "connect", "ollama", "ollama", "--set", f"url={ollama.url}", "--routes", "llama3.2, qwen3=house/thinker"
        )
        assert set(served(gateway, "ollama")) == {"llama3.2", "house/thinker"}
        gateway.noticed()
        answer = call(gateway, CHAT, chat("house/thinker"))
        assert answer.status == 200
        assert answer.json()["model"] == "house/thinker"
        assert ollama.asked()[-1].model == "qwen3"


def test_models_of_snowflake_are_offered_by_its_name_and_known_without_asking(gateway: Gateway) -> None:
    pem, public = new_key()
    words = ["connect", "snowflake", "flake", "--set", "account=MYORG-MYACCT", "--set", "user=gateway"]
    with FakeSnowflake() as upstream:
        upstream.keys.append(public)
        words += ["--set", f"url={upstream.url}"]
        names = "claude-sonnet-4-5,snowflake-arctic-embed-m-v1.5,brand-new-model"
        gateway.manage(*words, "--secret", "private_key=-", "--routes", names, given=pem)
        routes = served(gateway, "flake")
        assert set(routes) == {f"snowflake[{name}]" for name in names.split(",")}
        (claude,), (embedder,), _ = routes.values()
        assert (claude["context_window"], claude["max_output_tokens"]) == (200_000, 16_384)
        assert json.loads(claude["works"]) == ["chat", "completion"]
        assert json.loads(embedder["works"]) == ["embedding"]
        assert upstream.requests == []
        gateway.manage(*words, "--routes", "all")
        assert set(served(gateway, "flake")) == {
            f"snowflake[{name}]" for name in (*CHAT_MODELS, *EMBEDDING_MODELS, "brand-new-model")
        }
        gateway.noticed()
        answer = call(gateway, CHAT, chat("snowflake[claude-sonnet-4-5]", max_tokens=100_000))
        assert answer.status == 200
        assert answer.headers["x-gateway-clamped"] == "max_tokens=16384"
        assert upstream.complaints == []


@pytest.mark.parametrize("shape", ["usual", "paged", "snake_case"])
def test_a_model_that_is_deployed_twice_is_one_route_with_two_places(shape: str, gateway: Gateway) -> None:
    with FakeSAP() as upstream:
        if shape == "paged":
            upstream.most_listed = 3
        upstream.snake_case = shape == "snake_case"
        connect_sap(gateway, upstream, "--routes", "all")
        routes = served(gateway, "sap")
        orchestrated = {name for name in routes if name.startswith("orchestration/")}
        assert orchestrated == {f"orchestration/{model}" for model in upstream.orchestrated}
        assert len(routes) - len(orchestrated) == 8, "what is pending is not offered"
        twins = routes["gpt-4o"]
        assert {row["upstream_url"].rpartition("/")[2] for row in twins} == set(upstream.ids("gpt-4o"))
        assert all(len(places) == 1 for name, places in routes.items() if name != "gpt-4o")
        assert len(upstream.listings()) == (4 if shape == "paged" else 1)
        if shape == "usual":
            gateway.noticed()
            for model in ("gpt-4o", "anthropic--claude-4-sonnet", "gemini-2.5-flash"):
                assert call(gateway, CHAT, chat(model)).status == 200
        assert upstream.complaints == []


def connect_sap(gateway: Gateway, upstream: FakeSAP, *words: str) -> None:
    gateway.manage("connect", "sap_ai_core", "sap", "--secret", "service_key=-", *words, given=upstream.service_key())


def test_deployments_of_sap_are_looked_for_in_one_resource_group(gateway: Gateway) -> None:
    with FakeSAP() as upstream:
        words = ["connect", "sap_ai_core", "sap", "--secret", "service_key=-"]
        for group in ("nobodys", "empty"):
            upstream.groups["empty"] = []
            refused(
                gateway, *words, "--set", f"resource_group={group}", "--routes", "all", given=upstream.service_key()
            )
            assert profile_of(gateway, "sap") is None
        said = refused(gateway, *words, "--routes", "gpt-4o,gpt-5", given=upstream.service_key())
        assert said == "CommandError: The account serves no gpt-5. See what it does: --fetch."
        assert profile_of(gateway, "sap") is None
        connect_sap(gateway, upstream, "--set", "resource_group=research", "--routes", "all")
        assert set(served(gateway, "sap")) == {"gpt-4o-mini"}
        assert upstream.complaints == []


def test_machines_of_strangers_serve_a_route_only_when_it_says_so(gateway: Gateway) -> None:
    with FakeOCF() as upstream:
        words = ["connect", "ocf", "commons", "--set", f"url={upstream.url}"]
        said = gateway.manage(*words, "--routes", "Qwen/Qwen3-8B").stdout
        assert "--third-party" in said
        gateway.noticed()
        answer = call(gateway, CHAT, chat("Qwen/Qwen3-8B"))
        assert (answer.status, answer.error["code"]) == (503, "model_unavailable")
        assert upstream.asked() == []
        said = gateway.manage(*words, "--routes", "Qwen/Qwen3-8B", "--third-party").stdout
        assert "strangers" not in said
        gateway.noticed()
        assert call(gateway, CHAT, chat("Qwen/Qwen3-8B")).status == 200
        assert upstream.complaints == []


@pytest.mark.parametrize("wish", [["--test"], ["--fetch"], ["--routes", "all"]], ids=" ".join)
def test_an_account_that_cannot_be_reached_leaves_nothing_behind(wish: list[str], gateway: Gateway) -> None:
    pem, _ = new_key()
    with FakeSAP() as gone:
        key = gone.service_key()
    accounts = {
        "ollama": (["--set", f"url={NOWHERE}"], None),
        "ocf": (["--set", f"url={NOWHERE}"], None),
        "snowflake": (["--set", f"url={NOWHERE}", "--set", "user=ada", "--secret", "private_key=-"], pem),
        "sap_ai_core": (["--secret", "service_key=-"], key),
    }
    for kind, (words, given) in accounts.items():
        said = refused(gateway, "connect", kind, "gone", *words, *wish, given=given)
        assert "'gone' was not connected." in said, said
        assert "could not be reached" in said, said
        assert profile_of(gateway, "gone") is None
        assert served(gateway, "gone") == {}


def test_a_change_that_does_not_work_is_not_made(gateway: Gateway) -> None:
    with FakeOllama() as ollama:
        gateway.manage("connect", "ollama", "kept", "--set", f"url={ollama.url}", "--routes", "llama3.2")
        before, routes = profile_of(gateway, "kept"), served(gateway, "kept")
        said = refused(gateway, "connect", "ollama", "kept", "--set", f"url={NOWHERE}", "--routes", "all")
        assert "'kept' was not changed." in said
        assert (profile_of(gateway, "kept"), served(gateway, "kept")) == (before, routes)


# ------------------------------------------------------------------------------------ looked at from time to time


def test_the_background_process_looks_by_itself_and_only_where_it_was_told_to(gateway: Gateway) -> None:
    with FakeOllama() as ollama, FakeOllama() as by_hand:
        gateway.manage("connect", "ollama", "by-hand", "--set", f"url={by_hand.url}", "--sync", "manual")
        gateway.manage("connect", "ollama", "synced", "--set", f"url={ollama.url}", "--sync", "1")
        assert wait_until(lambda: "qwen3:latest" in served(gateway, "synced"), 20)
        gateway.noticed()
        assert call(gateway, CHAT, chat("qwen3:latest")).status == 200
        ollama.capabilities["brand-new"] = {"completion"}
        shell(gateway, "Profile.objects.filter(name='synced').update(synced_at='2026-01-01T00:00:00Z')")
        assert wait_until(lambda: "brand-new:latest" in served(gateway, "synced"), 20)
        assert by_hand.requests == []
        gateway.manage("connect", "ollama", "synced", "--sync", "manual")
        looked = len(ollama.requests)
        shell(gateway, "Profile.objects.update(synced_at=None)", "discovery.sync_due()")
        assert len(ollama.requests) == looked
        assert ollama.complaints == []


def test_what_vanishes_is_switched_off_and_on_again_when_it_is_back(gateway: Gateway) -> None:
    with FakeOllama() as ollama:
        gateway.manage(
            "connect", "ollama", "synced", "--set", f"url={ollama.url}", "--sync", "60", "--routes", "llama3.2=small"
        )
        look_again(gateway, "synced")
        assert wait_until(lambda: len(served(gateway, "synced")) == 6, 20)
        assert "llama3.2:latest" not in served(gateway, "synced"), "served already, under a name of its own"
        shell(gateway, "Deployment.objects.filter(upstream_model='everything:latest').update(enabled=False)")
        numbers = {row["id"] for (row,) in served(gateway, "synced").values()}
        kept = {name: ollama.capabilities.pop(name) for name in ("llama3.2", "llava", "everything")}
        look_again(gateway, "synced")
        assert wait_until(lambda: not on(gateway, "synced", "small"), 20)
        (row,) = served(gateway, "synced")["llava:latest"]
        assert not row["enabled"]
        assert row["vanished_at"]
        gateway.noticed()
        assert call(gateway, CHAT, chat("small")).error["code"] == "model_unavailable"
        assert call(gateway, CHAT, chat("qwen3:latest")).status == 200
        ollama.capabilities |= kept
        look_again(gateway, "synced")
        assert wait_until(lambda: on(gateway, "synced", "small"), 20)
        (row,) = served(gateway, "synced")["llava:latest"]
        assert row["enabled"]
        assert row["vanished_at"] is None
        assert not on(gateway, "synced", "everything:latest"), "switched off by somebody, and not by its vanishing"
        assert numbers == {row["id"] for (row,) in served(gateway, "synced").values()}, "nothing was deleted"
        gateway.noticed()
        assert call(gateway, CHAT, chat("small")).status == 200


def test_a_listing_that_is_empty_or_fails_changes_nothing_and_is_said(gateway: Gateway) -> None:
    with FakeOllama() as ollama:
        words = ["connect", "ollama", "synced", "--set", f"url={ollama.url}", "--sync", "60", "--routes", "all"]
        gateway.manage(*words)
        look_again(gateway, "synced")

        def error() -> str:
            row = profile_of(gateway, "synced")
            assert row is not None
            return str(row["sync_error"])

        before = served(gateway, "synced")
        kept = dict(ollama.capabilities)
        ollama.capabilities.clear()
        look_again(gateway, "synced")
        assert wait_until(lambda: error() == "The upstream lists no models at all. Nothing was changed.", 20)
        assert served(gateway, "synced") == before
        ollama.capabilities |= kept
        ollama.key = "asked for from now on"
        look_again(gateway, "synced")
        assert wait_until(lambda: "no models at all" not in error(), 20)
        assert error().endswith(".")
        assert served(gateway, "synced") == before
        ollama.key = ""
        look_again(gateway, "synced")
        assert wait_until(lambda: error() == "", 20)
        assert served(gateway, "synced") == before


def test_a_look_whose_token_was_revoked_is_made_again_with_a_new_one(gateway: Gateway) -> None:
    with FakeSAP() as upstream:
        connect_sap(gateway, upstream, "--sync", "60", "--routes", "all")
        look_again(gateway, "sap")
        looked = len(upstream.listings())
        upstream.revoke_all()
        # The command shares no memory with whoever holds the token.
        look_again(gateway, "sap")
        assert wait_until(lambda: len(upstream.listings()) >= looked + 2, 20)
        assert wait_until(lambda: upstream.listings()[-1].status == 200, 5)
        row = profile_of(gateway, "sap")
        assert row is not None
        assert row["sync_error"] == ""
        assert upstream.complaints == []


def test_a_model_that_is_deployed_anew_goes_on_under_its_own_name(gateway: Gateway) -> None:
    with FakeSAP() as upstream:
        connect_sap(gateway, upstream, "--sync", "60", "--routes", "o3-mini=house/thinker")
        (old,) = (each for each in upstream.groups["default"] if each["id"] in upstream.ids("o3-mini"))
        upstream.groups["default"].remove(old)
        upstream.groups["default"].append(upstream.deployment("o3-mini", "azure-openai"))
        look_again(gateway, "sap")
        assert wait_until(lambda: len(served(gateway, "sap").get("house/thinker", [])) == 2, 20)
        before, after = served(gateway, "sap")["house/thinker"]
        assert (bool(before["enabled"]), bool(after["enabled"])) == (False, True)
        assert "o3-mini" not in served(gateway, "sap")
        gateway.noticed()
        assert call(gateway, CHAT, chat("house/thinker")).status == 200
        assert upstream.complaints == []
