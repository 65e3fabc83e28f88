"""The buttons on a profile's page, before strict upstreams: test, fetch, serve, sync, make a key pair."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import APIResponse

from tests.browser.conftest import Desk, rows, staff
from tests.browser.test_every_page import has_no_barrier
from tests.fakes.ocf import FakeOCF
from tests.fakes.ollama import FakeOllama
from tests.fakes.sap_ai_core import SECRET, FakeSAP
from tests.fakes.snowflake import FakeSnowflake, new_key
from tests.live.server import Gateway

PROFILES = "/admin/profiles/profile/"
ASKING = ("test", "fetch", "serve", "sync", "keypair")
PRIVATE = "PRIVATE KEY"


@pytest.fixture
def snowflake() -> Iterator[FakeSnowflake]:
    with FakeSnowflake() as upstream:
        yield upstream
        assert upstream.complaints == []


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama() as upstream:
        yield upstream
        assert upstream.complaints == []


@pytest.fixture
def ocf() -> Iterator[FakeOCF]:
    with FakeOCF() as upstream:
        yield upstream
        assert upstream.complaints == []


@pytest.fixture
def sap() -> Iterator[FakeSAP]:
    with FakeSAP() as upstream:
        yield upstream
        assert upstream.complaints == []


@pytest.fixture
def connect(office: Gateway) -> Iterator[Callable[..., str]]:
    """Stores a profile and gives the path of its page; it is gone after the test, with its routes."""
    made: list[str] = []

    def connect(kind: str, name: str, *words: str, **settings: str) -> str:
        made.append(name)
        pairs = [word for each in settings.items() for word in ("--set", "=".join(each))]
        office.manage("connect", kind, name, *pairs, *words)
        (pk,) = rows(office, "SELECT id FROM profiles_profile WHERE name = ?", name)[0]
        return f"{PROFILES}{pk}/change/"

    yield connect
    code = f"from profiles.models import *; Route.objects.filter(deployments__profile__name__in={made}).delete(); "
    office.manage("shell", "--no-imports", "-c", f"{code}Profile.objects.filter(name__in={made}).delete()")


@pytest.fixture
def cortex(connect: Callable[..., str], snowflake: FakeSnowflake, tmp_path: Any) -> str:
    """The page of a Snowflake account that is let in by its first key."""
    private, public = new_key()
    snowflake.keys.append(public)
    pem = tmp_path / "rsa_key.p8"
    pem.write_text(private)
    named = {"url": snowflake.url, "user": "gateway", "account": "MYORG-MYACCT"}
    return connect("snowflake", "Cortex", "--secret", f"private_key=@{pem}", **named)


def routes_of(desk: Desk, profile: str) -> dict[str, str]:
    """Route -> upstream model."""
    query = """SELECT r.name, d.upstream_model FROM profiles_deployment d JOIN profiles_route r ON r.id = d.route_id
               JOIN profiles_profile p ON p.id = d.profile_id WHERE p.name = ?"""
    return dict(rows(desk.gateway, query, profile))


def post(desk: Desk, path: str, **fields: str) -> APIResponse:
    """A POST that no page of ours has made, but with the right token against forgery."""
    token = next(cookie["value"] for cookie in desk.page.context.cookies() if cookie["name"] == "csrftoken")
    form: dict[str, Any] = {"csrfmiddlewaretoken": token, **fields}
    headers = {"Referer": desk.gateway.url}
    return desk.page.request.post(f"{desk.gateway.url}{path}", form=form, headers=headers, max_redirects=5)


# -- Test


def test_a_test_says_what_was_reached_as_whom_and_how_fast(admin: Desk, cortex: str, snowflake: FakeSnowflake) -> None:
    admin.open(cortex)
    assert snowflake.requests == []
    admin.press("Test")
    said = admin.message()
    assert f"Reached {snowflake.url} as user GATEWAY of MYORG-MYACCT" in said
    assert " ms; it offers 12 model(s)." in said
    assert [heard.method for heard in snowflake.requests] == ["GET"]


def test_a_test_that_fails_says_why_to_the_one_who_can_do_something(
    admin: Desk, cortex: str, snowflake: FakeSnowflake
) -> None:
    snowflake.cortex_user = False
    admin.open(cortex)
    admin.press("Test")
    assert "refused the gateway's credential." in admin.message()
    assert "Ask your administrator" not in admin.message()


def test_an_account_whose_secrets_cannot_be_opened_says_so_at_every_button(admin: Desk, cortex: str) -> None:
    code = "from profiles.models import Profile; Profile.objects.filter(name='Cortex').update(sealed='gAAAAA-broken')"
    admin.gateway.manage("shell", "--no-imports", "-c", code)
    for button in ("Test", "Fetch models", "Sync now", "Generate key pair"):
        admin.open(cortex)
        admin.press(button)
        assert "sealed with a SECRETS_KEY that is not set here" in admin.message()
    admin.open(PROFILES)
    assert "cannot be opened" in admin.message().lower()


# -- Fetch models


def test_ticked_models_become_routes_under_the_names_that_were_typed(
    admin: Desk, cortex: str, snowflake: FakeSnowflake
) -> None:
    page = admin.open(cortex)
    admin.press("Fetch models")
    assert "Cortex offers 12 models" in admin.message()
    row = page.get_by_role("row", name="claude-sonnet-4-5")
    assert page.get_by_label("Route name of claude-sonnet-4-5").input_value() == "snowflake[claude-sonnet-4-5]"
    assert "200,000" in row.inner_text()
    assert "without tools" in page.get_by_role("row", name="mistral-large2").inner_text()
    asked = len(snowflake.requests)

    page.get_by_label("Serve claude-sonnet-4-5").check()
    page.get_by_label("Route name of claude-sonnet-4-5").fill("smart")
    page.get_by_label("Serve e5-base-v2").check()
    admin.press("Serve what is ticked")
    assert "Cortex now serves 2 models: smart, snowflake[e5-base-v2]." in admin.message()
    assert routes_of(admin, "Cortex") == {"smart": "claude-sonnet-4-5", "snowflake[e5-base-v2]": "e5-base-v2"}
    works = "SELECT works FROM profiles_route WHERE name = 'snowflake[e5-base-v2]'"
    assert rows(admin.gateway, works) == [('["embedding"]',)]
    assert len(snowflake.requests) == asked

    page.get_by_role("link", name="smart").click()
    page.wait_for_load_state()
    assert page.input_value("[name=name]") == "smart"


def test_what_is_served_already_is_marked_and_left_as_it_is(admin: Desk, connect: Any, ollama: FakeOllama) -> None:
    path = connect("ollama", "box", "--routes", "all", url=ollama.url)
    before = routes_of(admin, "box")
    page = admin.open(path)
    admin.press("Fetch models")
    assert admin.message().count("Served already as") == len(before)
    page.get_by_label("All that are not served yet").check()
    admin.press("Serve what is ticked")
    assert "Tick at least one model." in admin.message()
    page.get_by_label("Serve qwen3:latest").check()
    admin.press("Serve what is ticked")
    assert "All of these were served already" in admin.message()
    assert routes_of(admin, "box") == before


def test_a_long_list_can_be_narrowed_and_ticked_as_far_as_it_is_in_sight(admin: Desk, cortex: str) -> None:
    page = admin.open(cortex)
    admin.press("Fetch models")
    page.get_by_label("Show only models with these letters").fill("claude")
    page.get_by_label("All that are not served yet").check()
    admin.press("Serve what is ticked")
    assert sorted(routes_of(admin, "Cortex").values()) == ["claude-haiku-4-5", "claude-opus-4-7", "claude-sonnet-4-5"]


def test_models_that_are_known_are_offered_when_the_account_cannot_be_asked(
    admin: Desk, cortex: str, snowflake: FakeSnowflake
) -> None:
    snowflake.cortex_user = False
    page = admin.open(cortex)
    admin.press("Fetch models")
    assert "The account could not be asked." in admin.message()
    page.get_by_label("Serve claude-4-opus").check()
    admin.press("Serve what is ticked")
    assert routes_of(admin, "Cortex") == {"snowflake[claude-4-opus]": "claude-4-opus"}


def test_an_account_that_is_down_and_of_no_known_models_says_so(admin: Desk, connect: Any) -> None:
    path = connect("ollama", "nowhere", url="http://127.0.0.1:9")
    admin.open(path)
    admin.press("Fetch models")
    assert "could not be reached" in admin.message()
    assert admin.page.url.endswith(path)


def test_two_deployments_of_one_model_become_two_places_of_one_route(
    admin: Desk, connect: Any, sap: FakeSAP, tmp_path: Any
) -> None:
    key = tmp_path / "key.json"
    key.write_text(sap.service_key())
    page = admin.open(connect("sap_ai_core", "AI Core", "--secret", f"service_key=@{key}"))
    admin.press("Fetch models")
    for box in page.get_by_label("Serve gpt-4o", exact=True).all():
        box.check()
    for number, id in enumerate(sap.ids("gpt-4o")):
        assert f"deployment {id}" in page.get_by_role("row", name="gpt-4o").nth(number).inner_text()
    admin.press("Serve what is ticked")
    query = (
        "SELECT upstream_url FROM profiles_deployment d JOIN profiles_profile p ON p.id = profile_id WHERE p.name = ?"
    )
    urls = {url for (url,) in rows(admin.gateway, query, "AI Core")}
    assert {url.rpartition("/")[2] for url in urls} == set(sap.ids("gpt-4o"))
    assert set(routes_of(admin, "AI Core")) == {"gpt-4o"}


def test_a_third_partys_models_serve_only_once_that_is_said(admin: Desk, connect: Any, ocf: FakeOCF) -> None:
    page = admin.open(connect("ocf", "mesh", url=ocf.url))
    admin.press("Fetch models")
    page.locator("[name=tick]").first.check()
    admin.press("Serve what is ticked")
    assert "a route serves from it only once" in admin.message()
    (name,) = routes_of(admin, "mesh")
    admin.open(f"/admin/profiles/route/?q={name}")
    assert "third party only" in admin.message().lower()
    admin.open_row(f"/admin/profiles/route/?q={name}", name)
    assert "third party: the route does not allow it" in admin.message()

    admin.open(f"{PROFILES}?q=mesh")
    admin.open_row(f"{PROFILES}?q=mesh", "mesh")
    admin.press("Fetch models")
    page.locator("[name=tick]").nth(1).check()
    page.get_by_label("These routes may leave for third parties").check()
    admin.press("Serve what is ticked")
    (second,) = routes_of(admin, "mesh").keys() - {name}
    admin.open(f"/admin/profiles/route/?q={second}")
    assert "serving" in admin.page.locator("#result_list tbody").filter(has_text=second).inner_text().lower()


# -- Sync now


def test_a_sync_serves_what_is_new_switches_off_what_is_gone_and_tells(
    admin: Desk, cortex: str, snowflake: FakeSnowflake
) -> None:
    snowflake.models = ["claude-sonnet-4-5", "claude-haiku-4-5"]
    admin.open(cortex)
    admin.press("Sync now")
    assert "2 new (claude-sonnet-4-5, claude-haiku-4-5)." in admin.message()
    admin.press("Sync now")
    assert "nothing has changed." in admin.message()
    snowflake.models = ["claude-sonnet-4-5"]
    admin.press("Sync now")
    assert "1 gone and switched off (claude-haiku-4-5)." in admin.message()
    admin.open_row("/admin/profiles/route/?q=haiku", "haiku")
    assert "claude-haiku-4-5, vanished on" in admin.message()
    admin.open("/admin/profiles/deployment/?q=haiku")
    assert "vanished" in admin.message().lower()
    snowflake.models = ["claude-sonnet-4-5", "claude-haiku-4-5"]
    admin.open(cortex)
    admin.press("Sync now")
    assert "1 back (claude-haiku-4-5)." in admin.message()


def test_a_sync_that_failed_is_on_the_page_and_in_the_list(admin: Desk, connect: Any) -> None:
    path = connect("ollama", "gone away", url="http://127.0.0.1:9")
    admin.open(path)
    admin.press("Sync now")
    admin.open(path)
    assert "It failed: 'gone away' could not be reached" in admin.message()
    admin.open(f"{PROFILES}?q=gone")
    assert "failed: 'gone away' could not be reached" in admin.message()


def test_how_often_models_are_looked_for_is_a_field(admin: Desk, connect: Any) -> None:
    page = admin.open(connect("ollama", "often", url="http://127.0.0.1:9"))
    page.get_by_label("Look for models every").fill("0")
    admin.save()
    assert "greater than or equal to 1" in admin.message()
    page.get_by_label("Look for models every").fill("10080")
    admin.save()
    assert rows(admin.gateway, "SELECT sync_minutes FROM profiles_profile WHERE name = 'often'") == [(10080,)]


# -- key pairs


def test_an_account_is_connected_with_a_key_pair_made_here(admin: Desk, connect: Any, snowflake: FakeSnowflake) -> None:
    page = admin.open(f"{PROFILES}add/?kind=snowflake")
    for name, value in {"url": snowflake.url, "user": "gateway", "account": "MYORG-MYACCT", "role": 'we "ask"'}.items():
        page.fill(f"[name=setting_{name}]", value)
    page.fill("[name=name]", "made here")
    page.locator("[name=new_key_pair]").press("Space")
    with page.expect_response(lambda answer: answer.request.method == "POST") as posted:
        admin.save()
    assert "no-store" in posted.value.headers["cache-control"]
    line = page.get_by_label("The public key alone").input_value()
    statements = [box.input_value() for box in page.locator("textarea").all()]
    assert f"ALTER USER \"GATEWAY\" SET RSA_PUBLIC_KEY='{line}';" in statements
    assert 'GRANT DATABASE ROLE SNOWFLAKE.CORTEX_USER TO ROLE "we ""ask""";' in statements
    assert any('ALTER USER "GATEWAY" SET DEFAULT_ROLE = "we ""ask""";' in each for each in statements)
    assert PRIVATE not in page.content()
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_text("Copied").or_(page.get_by_text("Marked")).wait_for()

    snowflake.keys.append(public_key(line))
    page.get_by_role("link", name="Back to the profile").click()
    page.wait_for_load_state()
    admin.press("Test")
    assert "Reached" in admin.message()
    assert line not in page.content()
    assert PRIVATE not in page.content()
    connect("snowflake", "made here")  # so that it is cleared away


def public_key(line: str) -> Any:
    return serialization.load_der_public_key(base64.b64decode(line))


def test_keys_are_changed_without_a_gap_by_a_second_pair(admin: Desk, cortex: str, snowflake: FakeSnowflake) -> None:
    page = admin.open(cortex)
    admin.press("Generate second key pair")
    line = page.get_by_label("The public key alone").input_value()
    assert f"RSA_PUBLIC_KEY_2='{line}'" in page.get_by_label("Register the key with the user").input_value()
    assert "put the user's default role in place of YOUR_ROLE" in admin.message()
    snowflake.keys[:] = [public_key(line)]  # the first one is taken away
    admin.open(cortex)
    admin.press("Test")
    admin.press("Test")
    assert "Reached" in admin.message()


def test_a_key_pair_in_use_is_only_replaced_when_that_is_said_twice(admin: Desk, cortex: str) -> None:
    query = "SELECT sealed FROM profiles_profile WHERE name = 'Cortex'"
    before = rows(admin.gateway, query)
    admin.open(cortex)
    admin.press("Replace the key pair …")
    assert "overwritten" in admin.message()
    assert rows(admin.gateway, query) == before
    admin.press("Replace it")
    assert "Cortex has a new key pair" in admin.message()
    assert rows(admin.gateway, query) != before


def test_a_key_pair_without_a_user_is_refused(admin: Desk, connect: Any) -> None:
    admin.open(connect("snowflake", "no user", "--secret", "pat=a-token-of-mine", url="http://127.0.0.1:9", auth="pat"))
    admin.press("Generate key pair")
    assert "a key pair belongs to a user" in admin.message()


# -- the form


def test_a_key_pasted_by_a_browser_works(admin: Desk, connect: Any, snowflake: FakeSnowflake) -> None:
    private, public = new_key("pkcs1")
    snowflake.keys.append(public)
    page = admin.open(f"{PROFILES}add/?kind=snowflake")
    page.fill("[name=name]", "pasted")
    for name, value in {"url": snowflake.url, "user": "gateway", "account": "MYORG-MYACCT"}.items():
        page.fill(f"[name=setting_{name}]", value)
    page.fill("[name=secret_private_key]", private)
    admin.save()
    page = admin.open_row(f"{PROFILES}?q=pasted", "pasted")
    assert private[40:90] not in page.content()
    assert page.locator("[name=secret_private_key]").get_attribute("placeholder") == "Set. Leave empty to keep it"
    admin.press("Test")
    assert "Reached" in admin.message()
    connect("snowflake", "pasted")


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        ("snowflake", {"setting_auth": "pat"}, "A programmatic access token is needed for auth pat."),
        ("snowflake", {"setting_token_lifetime": "0", "new_key_pair": "on"}, "must be between 1 and 60 minutes"),
        ("snowflake", {"setting_token_lifetime": "61"}, "less than or equal to 60"),
        ("sap_ai_core", {"secret_service_key": '{"clientsecret": "canary"}'}, "The service key holds no"),
        ("sap_ai_core", {"secret_service_key": "canary"}, "Paste the whole key, from { to }."),
        ("sambanova", {}, "An API key is needed, or else an e-mail address and its password."),
        ("ocf", {"setting_peer": "../.."}, "Peer must be an id"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_a_sentence(
    admin: Desk, kind: str, fields: dict[str, str], sentence: str
) -> None:
    page = admin.open(f"{PROFILES}add/?kind={kind}")
    page.fill("[name=name]", "unfit")
    for name, value in {"setting_url": "http://127.0.0.1:9", "setting_user": "ada", **fields}.items():
        field = page.locator(f"[name={name}]")
        if field.count() == 0:
            continue
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        elif value == "on":
            field.press("Space")
        else:
            field.fill(value)
    admin.save()
    assert sentence in admin.message()
    assert "canary" not in page.content()
    assert rows(admin.gateway, "SELECT 1 FROM profiles_profile WHERE name = 'unfit'") == []


def test_a_service_key_is_written_and_never_read(admin: Desk, connect: Any, sap: FakeSAP) -> None:
    page = admin.open(f"{PROFILES}add/?kind=sap_ai_core")
    page.fill("[name=name]", "whole key")
    page.fill("[name=secret_service_key]", sap.service_key())
    admin.save()
    page = admin.open_row(f"{PROFILES}?q=whole", "whole key")
    assert "clientsecret" not in page.content()
    assert SECRET not in page.content()
    admin.press("Test")
    assert f"Reached {sap.origin}/v2 as client {sap.client}" in admin.message()
    assert SECRET not in page.content()
    connect("sap_ai_core", "whole key")


# -- who may, and by what


@pytest.mark.parametrize("name", ASKING)
def test_nothing_goes_out_because_a_page_was_opened(
    admin: Desk, cortex: str, snowflake: FakeSnowflake, name: str
) -> None:
    admin.open(cortex.replace("change", name))
    assert admin.page.url.endswith(cortex)
    assert snowflake.requests == []
    assert PRIVATE not in admin.page.content()


@pytest.mark.parametrize("name", ASKING)
def test_a_forged_post_is_refused(admin: Desk, cortex: str, snowflake: FakeSnowflake, name: str) -> None:
    admin.open(cortex)
    answer = admin.page.request.post(
        f"{admin.gateway.url}{cortex.replace('change', name)}", form={"slot": "private_key"}
    )
    assert answer.status == 403
    assert snowflake.requests == []


@pytest.mark.parametrize("pk", ["0", "abc", "%00", "9" * 40])
def test_a_profile_that_is_none_is_asked_for_nothing(admin: Desk, pk: str) -> None:
    admin.open(PROFILES)
    for name in ASKING:
        answer = post(admin, f"{PROFILES}{pk}/{name}/")
        assert answer.status == 200
        assert "doesn’t exist" in answer.text()


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("serve", {}, "This list is too old, or incomplete."),
        ("serve", {"listing": "ImZvcmdlZCI:1:2", "tick": "0"}, "This list is too old, or incomplete."),
        ("keypair", {"slot": "passphrase"}, "This profile has no place for such a key."),
        ("keypair", {}, "This profile has no place for such a key."),
    ],
)
def test_odd_posts_are_answered_with_a_sentence(
    admin: Desk, cortex: str, name: str, fields: dict[str, str], sentence: str
) -> None:
    admin.open(cortex)
    answer = post(admin, cortex.replace("change", name), **fields)
    assert answer.status == 200
    assert sentence in answer.text()


@pytest.mark.parametrize(
    ("ticks", "name", "sentence"),
    [("0", "n" * 201, "at most 200 characters"), ("0", "a\nb", "a line break"), ("999", "x", "Tick at least one"),
     ("-1", "x", "Tick at least one"), ("zero", "x", "Tick at least one")],
)  # fmt: skip
def test_a_name_that_cannot_be_one_is_refused_beside_its_field(
    admin: Desk, cortex: str, ticks: str, name: str, sentence: str
) -> None:
    page = admin.open(cortex)
    admin.press("Fetch models")
    listing = page.locator("[name=listing]").get_attribute("value") or ""
    answer = post(admin, cortex.replace("change", "serve"), listing=listing, tick=ticks, **{"name-0": name})
    assert sentence in answer.text()
    assert routes_of(admin, "Cortex") == {}


def test_a_list_of_one_account_cannot_be_used_for_another(admin: Desk, cortex: str, connect: Any) -> None:
    other = connect("ollama", "other", url="http://127.0.0.1:9")
    page = admin.open(cortex)
    admin.press("Fetch models")
    listing = page.locator("[name=listing]").get_attribute("value") or ""
    answer = post(admin, other.replace("change", "serve"), listing=listing, tick="0")
    assert "This list is too old, or incomplete." in answer.text()
    assert routes_of(admin, "other") == {}


def test_staff_who_may_only_look_see_no_button_and_are_refused(
    stranger: Desk, cortex: str, snowflake: FakeSnowflake
) -> None:
    staff(stranger, "hedy", "view_profile", "view_token")
    page = stranger.open(cortex)
    assert "Models synced" in stranger.message()
    assert page.locator(".asks").count() == 0
    for name in ASKING:
        assert post(stranger, cortex.replace("change", name), slot="private_key").status == 403
        stranger.expected = {403}
        stranger.open(cortex.replace("change", name))
        assert page.inner_text("h1") == "Not allowed"
    assert snowflake.requests == []


def test_staff_who_may_make_no_routes_test_and_look_but_serve_nothing(stranger: Desk, cortex: str) -> None:
    staff(stranger, "edsger", "view_profile", "change_profile")
    page = stranger.open(cortex)
    assert page.get_by_role("button", name="Sync now").count() == 0
    stranger.press("Test")
    assert "Reached" in stranger.message()
    stranger.press("Fetch models")
    assert "claude-sonnet-4-5" in stranger.message()
    assert page.locator("[name=tick]").count() == 0
    assert page.get_by_role("button", name="Serve what is ticked").count() == 0
    listing = page.locator("[name=listing]").get_attribute("value") or ""
    for name in ("serve", "sync"):
        assert post(stranger, cortex.replace("change", name), listing=listing, tick="0").status == 403
    assert routes_of(stranger, "Cortex") == {}


# -- looks


@pytest.mark.parametrize("button", ["Test", "Fetch models", "Sync now", "Replace the key pair …",
                                    "Generate second key pair"])  # fmt: skip
def test_what_a_button_leads_to_shuts_nobody_out_and_fits_a_phone(
    admin: Desk, phone: Desk, cortex: str, axe: str, button: str
) -> None:
    for desk in (admin, phone):
        desk.open(cortex)
        desk.press(button)
        if desk is phone and desk.page.get_by_role("button", name="Replace it").count():
            desk.press("Replace it")
        assert desk.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert has_no_barrier(desk, axe)
