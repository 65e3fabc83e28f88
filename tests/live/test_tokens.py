"""Tokens of upstreams: one login at a time, ahead of the end, and callers who notice nothing of it.

`TOKEN_TEST_SECONDS=60` lets the streams of short-lived tokens go on for a minute.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.fakes.openai import KEY, FakeOpenAI
from tests.fakes.sambanova import EMAIL, PASSWORD, FakeSambaNova
from tests.fakes.sap_ai_core import TOKEN, FakeSAP
from tests.fakes.scenes import Scene
from tests.fakes.server import Gate, Heard, wait_until
from tests.fakes.snowflake import FakeSnowflake, new_key
from tests.live.server import Gateway, Row
from tests.live.wire import CHAT, Answer, call, chat, stream

SECONDS = float(os.environ.get("TOKEN_TEST_SECONDS", "12"))
STREAMS = 50
LIFETIME = 5.0  # seconds a token lives in these streams
RENEWED_AT = 0.8
MODEL = "o3-mini"

PlaySAP = Callable[..., FakeSAP]


class Unhurried(Gate):
    """Lets each event through after a moment, so that streams are open while tokens end."""

    def __init__(self) -> None:
        pass

    @property
    def allowed(self) -> float:  # type: ignore[override]
        time.sleep(0.1)
        return float("inf")


@pytest.fixture(scope="module")
def four(start_gateway: StartGateway) -> Gateway:
    return start_gateway(WEB_CONCURRENCY="4")


@pytest.fixture
def gateway(four: Gateway) -> Iterator[Gateway]:
    """A gateway of four workers; its log is shown beside a failure."""
    before = four.log.stat().st_size
    yield four
    with four.log.open("rb") as log:
        log.seek(before)
        print(log.read().decode(errors="replace"))


@pytest.fixture
def sap(gateway: Gateway) -> Iterator[PlaySAP]:
    """Starts a tenant of SAP AI Core and connects it; the route has the profile's name."""
    with ExitStack() as playing:

        def start(name: str, **changes: Any) -> FakeSAP:
            upstream = playing.enter_context(FakeSAP())
            for attribute, value in changes.items():
                setattr(upstream, attribute, value)
            connect_sap(gateway, name, upstream.service_key(), "--routes", f"{MODEL}={name}")
            # The command's own login came first; then the background process has fetched one for all.
            assert wait_until(lambda: is_settled(gateway, name), 10)
            time.sleep(1.2)  # as long as a worker may take to hold it
            return upstream

        yield start


def connect_sap(gateway: Gateway, name: str, key: str, *words: str) -> None:
    gateway.manage("connect", "sap_ai_core", name, "--secret", "service_key=-", *words, given=key)


def is_settled(gateway: Gateway, profile: str) -> bool:
    return any(row["sealed"] and row["lease_until"] is None for row in tokens_of(gateway, profile))


def logins(upstream: FakeSAP | FakeSambaNova) -> list[Heard]:
    path = TOKEN if isinstance(upstream, FakeSAP) else "/co/authenticate"
    return [each for each in list(upstream.requests) if each.path.partition("?")[0] == path]


def tokens_of(gateway: Gateway, profile: str) -> list[Row]:
    return gateway.select(
        "SELECT t.* FROM profiles_token t JOIN profiles_profile p ON p.id = t.profile_id WHERE p.name = ?", profile
    )


def token_of(gateway: Gateway, profile: str) -> Row:
    """What is stored of the profile's token."""
    (row,) = tokens_of(gateway, profile)
    return row


def make_due(gateway: Gateway, profile: str) -> None:
    """The token is past its 80 percent, and good for some minutes still."""
    code = (
        "import datetime\n"
        "from django.utils import timezone\n"
        "from profiles.models import Token\n"
        "now = timezone.now()\n"
        f"assert Token.objects.filter(profile__name={profile!r}).update(\n"
        "    obtained_at=now - datetime.timedelta(minutes=50), expires_at=now + datetime.timedelta(minutes=5)) == 1"
    )
    gateway.manage("shell", "--no-imports", "-c", code)


def together(gateway: Gateway, route: str, number: int = 20) -> list[Answer]:
    """So many calls at once, each on a connection of its own; every other one is streamed."""
    line = threading.Barrier(number)

    def ask(index: int) -> Answer:
        line.wait(10)
        return call(gateway, CHAT, chat(route, stream=index % 2 == 1))

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(ask, range(number)))


def is_complete(answer: Answer) -> bool:
    if answer.status != 200 or b'"error"' in answer.body:
        return False
    return answer.body.endswith(b"data: [DONE]\n\n") if answer.body.startswith(b"data:") else bool(answer.json())


def one_after_another(upstream: FakeSAP) -> bool:
    """Whether no login began before the one before had ended."""
    assert wait_until(lambda: len(logins(upstream)) == len(upstream.tokens_issued))  # one may be under way
    begun = [each.at for each in logins(upstream)]
    ended = [when for when, _ in upstream.tokens_issued]
    return all(before < after for before, after in zip(ended, begun[1:], strict=False))


# ------------------------------------------------------------------------------------ renewed ahead of the end


def keep_streaming(gateways: list[Gateway], route: str, seconds: float) -> tuple[int, Counter[str]]:
    """Fifty streams at a time for so long: how many there were, and what went wrong."""
    last = time.monotonic() + seconds
    lock, wrong, done = threading.Lock(), Counter[str](), Counter[str]()

    def one_caller(index: int) -> None:
        gateway = gateways[index % len(gateways)]
        while time.monotonic() < last:
            try:
                answer, said = stream(gateway, chat(route))
                trouble = "" if said and said[-1] == "[DONE]" and "error" not in json.dumps(said) else str(answer.body)
            except (AssertionError, OSError) as error:
                trouble = repr(error)
            with lock:
                done["streams"] += 1
                if trouble:
                    wrong[trouble[:300]] += 1

    callers = [threading.Thread(target=one_caller, args=(index,)) for index in range(STREAMS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return done["streams"], wrong


@pytest.mark.parametrize("boxes", [1, 2], ids=["one box", "two boxes"])
def test_streams_outlive_tokens_of_five_seconds_and_the_identity_provider_is_asked_once_per_lifetime(
    boxes: int, start_gateway: StartGateway, postgres: str
) -> None:
    workers = "4" if boxes == 1 else "2"
    first = start_gateway(WEB_CONCURRENCY=workers, DATABASE_URL=postgres)
    same = {name: first.environment[name] for name in ("SECRETS_KEY", "SECRET_KEY", "BOOTSTRAP_API_KEY")}
    gateways = [first] + [
        start_gateway(WEB_CONCURRENCY=workers, DATABASE_URL=postgres, **same) for _ in range(boxes - 1)
    ]
    for other in gateways[1:]:
        other.key = first.key
    with FakeSAP() as upstream:
        # A login takes a moment, so that a second one beside it would be seen.
        upstream.token_seconds, upstream.identity_delay = LIFETIME, 0.2
        upstream.scene(MODEL, Scene(), gate=Unhurried())
        connect_sap(first, "sap", upstream.service_key(), "--routes", MODEL)
        first.noticed()
        before = len(logins(upstream))
        began = time.monotonic()
        streams, wrong = keep_streaming(gateways, MODEL, SECONDS if boxes == 1 else SECONDS / 2)
        went_on = time.monotonic() - began
        asked = len(logins(upstream)) - before
        tokens_used = {each.headers["authorization"] for each in upstream.asked(MODEL)}
        refused = sum(each.status == 401 for each in upstream.asked(MODEL))
        print(f"{boxes} box(es): {streams} streams in {went_on:.1f} s, {asked} logins, {len(tokens_used)} tokens used, "
              f"{refused} refused")  # fmt: skip
        assert not wrong
        assert streams >= STREAMS
        # Asked at 80 % of a lifetime at the earliest; the first may fall due at once.
        assert asked <= went_on / (LIFETIME * RENEWED_AT) + 1
        assert asked >= went_on / LIFETIME - 1
        # The command's own login came before.
        mine = logins(upstream)[before:]
        assert all(after.at - one.at > LIFETIME * RENEWED_AT - 0.5 for one, after in pairwise(mine))
        assert one_after_another(upstream)
        assert upstream.complaints == []
    for gateway in gateways:
        gateway.stop()


def test_an_identity_provider_that_hangs_keeps_no_other_profile_from_its_renewal(
    gateway: Gateway, sap: PlaySAP
) -> None:
    hanging, well = sap("hanging"), sap("well")
    make_due(gateway, "well")
    assert wait_until(lambda: len(well.tokens_issued) >= 3, 10), "renewed by the background process alone"
    hanging.identity_delay = 30
    before, heard = len(well.tokens_issued), len(logins(hanging))
    make_due(gateway, "hanging")
    assert wait_until(lambda: len(logins(hanging)) > heard, 10)
    make_due(gateway, "well")
    assert wait_until(lambda: len(well.tokens_issued) > before, 10)
    assert len(logins(hanging)) == heard + 1, "still the one login"
    assert call(gateway, CHAT, chat("hanging")).status == 200, "with the token that is still good"


# ------------------------------------------------------------------------------------- refused by the upstream


def test_a_token_that_was_revoked_is_renewed_once_and_no_caller_sees_it(gateway: Gateway, sap: PlaySAP) -> None:
    upstream = sap("revoked")
    before = len(logins(upstream))
    upstream.revoke_all()
    answers = together(gateway, "revoked")
    assert all(is_complete(answer) for answer in answers), answers
    assert len(logins(upstream)) == before + 1
    assert upstream.complaints == []
    # And all workers go on with it.
    assert all(is_complete(answer) for answer in together(gateway, "revoked"))
    assert len(logins(upstream)) == before + 1


def test_calls_in_all_workers_wait_for_the_one_login(gateway: Gateway, sap: PlaySAP) -> None:
    upstream = sap("slow-identity")
    before = len(logins(upstream))
    upstream.revoke_all()
    upstream.identity_delay = 2
    answers = together(gateway, "slow-identity", 40)
    assert all(is_complete(answer) for answer in answers), answers
    assert len(logins(upstream)) == before + 1


def test_a_login_whose_tokens_are_always_refused_does_not_hammer_the_identity_provider(
    gateway: Gateway, sap: PlaySAP
) -> None:
    upstream = sap("wrong-account")
    before = len(logins(upstream))
    upstream.token_seconds = 0  # it issues them, and takes none
    upstream.revoke_all()
    calls = 0
    last = time.monotonic() + 5
    seen: Counter[tuple[int, object]] = Counter()
    while time.monotonic() < last:
        for answer in together(gateway, "wrong-account", 8):
            if answer.status != 200 or not is_complete(answer):
                seen[answer.status, answer.error["code"]] += 1
            calls += 1
        time.sleep(0.2)
    assert set(seen) <= {(502, "upstream_auth_error"), (503, "upstream_login_failed")}
    assert sum(seen.values()) == calls > 40
    # At once, once more at once, then after about 4 seconds.
    assert len(logins(upstream)) - before <= 4
    assert token_of(gateway, "wrong-account")["last_error"] == "The upstream refuses a token that was made just now."
    upstream.token_seconds = 3600
    assert wait_until(lambda: is_complete(call(gateway, CHAT, chat("wrong-account"))), 20)


# ----------------------------------------------------------------------------------- the identity provider is down


def test_a_good_token_goes_on_serving_while_the_identity_provider_is_down(gateway: Gateway, sap: PlaySAP) -> None:
    upstream = sap("still-good")
    upstream.identity_fails = 500
    before = len(logins(upstream))
    make_due(gateway, "still-good")
    assert wait_until(lambda: token_of(gateway, "still-good")["failures"] >= 2, 15)
    row = token_of(gateway, "still-good")
    assert row["last_error"] == "SAP's identity provider answered with status 500 and no token."
    assert row["sealed"]
    # Asked as often as it has failed, and not each half second.
    assert len(logins(upstream)) - before == row["failures"]
    began, asked = time.monotonic(), len(logins(upstream))
    assert all(is_complete(answer) for answer in together(gateway, "still-good", 40))
    time.sleep(max(0.0, began + 2 - time.monotonic()))
    assert len(logins(upstream)) - asked <= 1
    upstream.identity_fails = None
    assert wait_until(lambda: token_of(gateway, "still-good")["last_error"] == "", 30)
    assert token_of(gateway, "still-good")["failures"] == 0
    assert all(is_complete(answer) for answer in together(gateway, "still-good", 8))


def test_without_any_token_a_caller_gets_a_sentence_and_a_time_to_come_back(gateway: Gateway, sap: PlaySAP) -> None:
    upstream = sap("nothing-valid")
    upstream.identity_fails = 500
    upstream.revoke_all()
    before = len(logins(upstream))
    for number in range(12):
        answer = call(gateway, CHAT, chat("nothing-valid", stream=number % 2 == 1))
        assert answer.status == 503
        assert answer.error["code"] == "upstream_login_failed"
        assert answer.error["type"] == "api_error"
        said = str(answer.error["message"])
        assert said.endswith(".")
        for word in ("secret", "password", "credential", "client", upstream.client, upstream.secret, upstream.origin):
            assert word not in said
        assert 1 <= int(answer.headers["retry-after"]) <= 6
    assert len(logins(upstream)) - before <= 2
    upstream.identity_fails = None
    assert wait_until(lambda: is_complete(call(gateway, CHAT, chat("nothing-valid"))), 15)


def test_the_other_deployments_of_a_route_are_tried_first(gateway: Gateway, sap: PlaySAP, upstream: FakeOpenAI) -> None:
    account = sap("preferred")
    gateway.connect("beside", upstream.url, KEY)
    gateway.route("preferred", "beside:gpt-fake", priority=9)
    account.identity_fails = 500
    account.revoke_all()
    gateway.noticed()
    answers = together(gateway, "preferred")
    assert all(is_complete(answer) for answer in answers), answers
    assert len(upstream.asked("gpt-fake")) == len(answers)
    row = gateway.row(answers[0].request_id)
    assert row["profile_name"] == "beside"


# --------------------------------------------------------------------------------------------- wrong, and put right


def test_a_wrong_service_key_is_tried_rarely_and_the_right_one_works_at_once(gateway: Gateway) -> None:
    with FakeSAP() as upstream:
        wrong = json.loads(upstream.service_key()) | {"clientsecret": "mistyped-secret"}
        connect_sap(gateway, "mistyped", json.dumps(wrong))
        place = next(each["deploymentUrl"] for each in upstream.groups["default"])
        gateway.manage("route", "mistyped", f"mistyped:{MODEL}", "--url", place)
        gateway.noticed()
        for _ in range(3):
            answers = together(gateway, "mistyped")
            assert {(answer.status, answer.error["code"]) for answer in answers} == {(503, "upstream_login_failed")}
            assert not any("mistyped-secret" in str(answer.body) for answer in answers)
        assert len(logins(upstream)) <= 4
        row = token_of(gateway, "mistyped")
        assert len(logins(upstream)) == row["failures"]
        assert row["last_error"].startswith("SAP's identity provider does not accept the service key (unauthorized).")
        connect_sap(gateway, "mistyped", upstream.service_key())
        gateway.noticed()
        assert all(is_complete(answer) for answer in together(gateway, "mistyped"))
        assert len(upstream.tokens_issued) == 1
        assert token_of(gateway, "mistyped")["last_error"] == ""
        assert upstream.complaints == []


def test_with_another_service_key_the_old_token_is_not_used_any_more(gateway: Gateway, sap: PlaySAP) -> None:
    upstream = sap("changed")
    old = {token for _, token in upstream.tokens_issued}
    upstream.client, upstream.secret = "sb-another!b1|aicore!b540", "another-secret-0123456789"
    connect_sap(gateway, "changed", upstream.service_key())
    gateway.noticed()
    issued = len(upstream.tokens_issued)
    seen = len(upstream.asked())
    assert all(is_complete(answer) for answer in together(gateway, "changed"))
    used = {each.headers["authorization"].removeprefix("Bearer ") for each in upstream.asked()[seen:]}
    assert not used & old
    assert len(used) == 1
    assert len(upstream.tokens_issued) == issued == len(old) + 1


# -------------------------------------------------------------------------------------------------- the warm path


def test_a_warm_call_with_a_token_makes_no_query_whatever_else_was_changed(
    start_gateway: StartGateway, upstream: FakeOpenAI
) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="1", application="tests.live.counting:application")

    def queries(streamed: bool = False) -> str:
        answer = call(gateway, CHAT, chat("sap", stream=streamed))
        assert is_complete(answer)
        return answer.headers["x-queries"]

    with FakeSAP() as account:
        connect_sap(gateway, "sap", account.service_key(), "--routes", f"{MODEL}=sap")
        gateway.noticed()
        queries()
        assert [queries(), queries(streamed=True)] == ["0", "0"]
        # The catalog is read anew: the token is taken over without a look into the database.
        gateway.connect("other", upstream.url, KEY, routes="gpt-fake")
        assert queries() == "0"
        gateway.noticed()
        assert [queries(), queries(streamed=True)] == ["0", "0"]
        # And so is one that the background process has renewed.
        issued = len(account.tokens_issued)
        make_due(gateway, "sap")
        assert wait_until(lambda: len(account.tokens_issued) > issued, 10)
        gateway.noticed()
        assert queries() == "0"
        newest = account.tokens_issued[-1][1]
        assert account.asked()[-1].headers["authorization"] == f"Bearer {newest}"


def test_a_stored_token_can_be_read_nowhere(gateway: Gateway, sap: PlaySAP) -> None:
    upstream = sap("sealed")
    for _ in range(2):
        upstream.revoke_all()
        together(gateway, "sealed", 8)
    secrets = [token for _, token in upstream.tokens_issued]
    assert len(secrets) >= 3
    secrets += [upstream.secret, json.dumps(upstream.secret)[1:-1], "clientsecret"]
    assert_hidden(gateway, secrets)


def assert_hidden(gateway: Gateway, secrets: list[str]) -> None:
    """None of them is in the database, the journals or the log."""
    files = [path for path in gateway.folder.rglob("*") if path.is_file() and "static" not in path.parts]
    assert any(path.suffix == ".sqlite3" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path


# ---------------------------------------------------------------------------------------------- signed key pairs


def connect_snowflake(gateway: Gateway, name: str, upstream: FakeSnowflake, *words: str, **secrets: str) -> None:
    for secret, value in secrets.items():
        path = gateway.folder / f"{name}-{secret}.pem"
        path.write_text(value)
        words += ("--secret", f"{secret}=@{path}")
    gateway.manage(
        *("connect", "snowflake", name, "--set", f"url={upstream.url}", "--set", f"account={upstream.account}"),
        *("--set", f"user={upstream.user.lower()}", "--routes", f"claude-sonnet-4-5={name}", *words),
    )
    for secret in secrets:
        (gateway.folder / f"{name}-{secret}.pem").unlink()


def test_two_profiles_at_once_have_a_token_each(gateway: Gateway) -> None:
    with FakeSnowflake() as one, FakeSnowflake(account="OTHERORG-ACCT2", user="OTHER") as two:
        for name, upstream in (("flake-one", one), ("flake-two", two)):
            pem, public = new_key()
            upstream.keys.append(public)
            connect_snowflake(gateway, name, upstream, private_key=pem)
        gateway.noticed()
        with ThreadPoolExecutor(2) as pool:
            for answers in pool.map(lambda name: together(gateway, name), ("flake-one", "flake-two")):
                assert all(is_complete(answer) for answer in answers), answers
        assert len(one.tokens_seen) == len(two.tokens_seen) == 1
        assert not one.tokens_seen.keys() & two.tokens_seen.keys()
        assert one.complaints == two.complaints == []


def test_every_form_of_a_private_key_signs_tokens_and_is_found_in_no_file(gateway: Gateway) -> None:
    phrase, forms = "open sesame, please", ("pkcs8", "encrypted", "pkcs1")
    with ExitStack() as playing:
        upstreams = {form: playing.enter_context(FakeSnowflake()) for form in forms}
        hidden = [phrase]
        for form, upstream in upstreams.items():
            pem, public = new_key(form, phrase)  # type: ignore[arg-type]
            upstream.keys.append(public)
            hidden += pem.splitlines()[2:5]
            words = ["--secret", f"passphrase={phrase}"] if form == "encrypted" else []
            connect_snowflake(gateway, f"key-{form}", upstream, *words, private_key=pem)
        gateway.noticed()
        for form, upstream in upstreams.items():
            assert all(is_complete(answer) for answer in together(gateway, f"key-{form}", 8))
            assert len(upstream.tokens_seen) == 1
            assert upstream.complaints == []
            hidden += upstream.tokens_seen
    assert_hidden(gateway, hidden)


def test_the_second_key_takes_over_when_the_first_is_taken_from_the_account(gateway: Gateway) -> None:
    (first, first_public), (second, second_public) = new_key(), new_key()
    with FakeSnowflake() as upstream:
        upstream.keys += [first_public, second_public]
        connect_snowflake(gateway, "rotated", upstream, private_key=first, private_key_2=second)
        gateway.noticed()
        assert all(is_complete(answer) for answer in together(gateway, "rotated"))
        assert len(upstream.tokens_seen) == 1
        upstream.keys.remove(first_public)
        assert all(is_complete(answer) for answer in together(gateway, "rotated"))
        assert len(upstream.tokens_seen) == 2
        gateway.noticed()
        assert all(is_complete(answer) for answer in together(gateway, "rotated"))
        assert len(upstream.tokens_seen) == 2
        assert token_of(gateway, "rotated")["made_with"].startswith("key 2, ")
        assert upstream.complaints == []


# ----------------------------------------------------------------------------------------------- a console's session


def connect_console(gateway: Gateway, name: str, upstream: FakeSambaNova, password: str) -> None:
    gateway.manage(
        *("connect", "sambanova", name, "--set", f"url={upstream.url}", "--set", f"console_url={upstream.console_url}"),
        *("--set", f"email={EMAIL}", "--secret", f"password={password}", "--routes", f"gpt-oss-120b={name}"),
    )


def test_a_console_is_logged_in_to_once_and_again_when_the_session_ends(gateway: Gateway) -> None:
    with FakeSambaNova() as upstream:
        connect_console(gateway, "console", upstream, PASSWORD)
        gateway.noticed()
        assert all(is_complete(answer) for answer in together(gateway, "console"))
        before = len(upstream.logins)
        assert before == 1, "by the background process; the command has no need of one"
        upstream.revoke_all()
        upstream.login_seconds = 1
        assert all(is_complete(answer) for answer in together(gateway, "console"))
        assert len(upstream.logins) == before + 1
        assert upstream.complaints == []


def test_a_wrong_password_is_tried_rarely_and_the_right_one_works_at_once(gateway: Gateway) -> None:
    with FakeSambaNova() as upstream:
        connect_console(gateway, "locked-out", upstream, "not the pass phrase")
        gateway.noticed()
        for _ in range(3):
            answers = together(gateway, "locked-out")
            assert {(answer.status, answer.error["code"]) for answer in answers} == {(503, "upstream_login_failed")}
        assert len(upstream.logins) <= 3
        connect_console(gateway, "locked-out", upstream, PASSWORD)
        gateway.noticed()
        assert all(is_complete(answer) for answer in together(gateway, "locked-out"))
