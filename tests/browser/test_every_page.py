"""What holds on each page: it fits a phone, nobody is shut out, an empty list says what to do."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Desk

OURS = (
    "/",
    "/admin/",
    "/admin/profiles/profile/",
    "/admin/profiles/profile/add/",
    "/admin/profiles/profile/add/?kind=echo",
    "/admin/profiles/profile/add/?kind=openai",
    "/admin/profiles/route/",
    "/admin/profiles/route/add/",
    "/admin/profiles/deployment/",
    "/admin/profiles/deployment/add/",
    "/admin/profiles/token/",
    "/admin/profiles/workerstate/",
    "/admin/apikeys/apikey/",
    "/admin/apikeys/apikey/add/",
    "/admin/apikeys/user/",
    "/admin/apikeys/user/add/",
    "/admin/auth/group/",
    "/admin/auth/group/add/",
    "/admin/usage/usagerecord/",
    "/admin/axes/accessattempt/",
)
ROWS = (
    "/admin/profiles/profile/",
    "/admin/profiles/route/",
    "/admin/profiles/deployment/",
    "/admin/profiles/workerstate/",
    "/admin/apikeys/apikey/",
    "/admin/apikeys/user/",
)
SERIOUS = "() => axe.run().then((found) => found.violations.filter((v) => ['serious', 'critical'].includes(v.impact)))"


def has_no_barrier(desk: Desk, axe: str) -> bool:
    desk.page.evaluate(f"{axe};0")
    found = desk.page.evaluate(SERIOUS)
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []
    return True


@pytest.mark.parametrize("path", [*OURS, "/docs"])
def test_it_fits_a_phone(phone: Desk, path: str) -> None:
    phone.open(path)
    assert phone.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("path", ROWS)
def test_the_page_of_a_row_fits_a_phone_and_a_desk(phone: Desk, admin: Desk, path: str) -> None:
    for desk in (phone, admin):
        desk.open(path)
        desk.page.locator("#result_list tbody th a").first.click()
        desk.page.wait_for_load_state()
        assert desk.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("path", OURS)
def test_nobody_is_shut_out_by_day(admin: Desk, axe: str, path: str) -> None:
    admin.open(path)
    assert has_no_barrier(admin, axe)


@pytest.mark.parametrize("path", OURS)
def test_nobody_is_shut_out_by_night(phone: Desk, axe: str, path: str) -> None:
    phone.open(path)
    assert has_no_barrier(phone, axe)


@pytest.mark.parametrize("path", ROWS)
def test_nobody_is_shut_out_of_the_page_of_a_row(admin: Desk, axe: str, path: str) -> None:
    admin.open(path)
    admin.page.locator("#result_list tbody th a").first.click()
    admin.page.wait_for_load_state()
    assert has_no_barrier(admin, axe)


def test_the_page_that_asks_for_a_password_shuts_nobody_out(stranger: Desk, axe: str) -> None:
    stranger.open("/admin/login/")
    assert has_no_barrier(stranger, axe)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/admin/profiles/token/", "No token is held"), ("/admin/auth/group/", "Add one to let staff see")],
)
def test_an_empty_list_says_what_to_do(admin: Desk, path: str, sentence: str) -> None:
    admin.open(path)
    assert sentence in admin.message()


def test_an_address_that_is_none_says_so(stranger: Desk) -> None:
    stranger.expected = {404}
    stranger.open("/nothing/here")
    assert stranger.page.inner_text("h1") == "Nothing here"


def test_staff_who_may_only_look_find_no_secret_and_no_raw_price(admin: Desk, stranger: Desk) -> None:
    made = """
from apikeys.models import User
from django.contrib.auth.models import Permission
from profiles.models import Deployment, Profile
ada = User.objects.create_user("ada", None, "only looking at all of this", is_staff=True)
ada.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
profile = Profile(name="looked at", kind="openai", settings={"url": "http://127.0.0.1:9/v1"})
profile.seal({"secrets": {"api_key": "sk-not-for-ada"}, "proxy_url": "", "headers": {}})
profile.save()
Deployment.objects.create(route_id=1, profile=profile, upstream_model="m", price_input=2500000, enabled=False)
"""
    admin.gateway.manage("shell", "--no-imports", "-c", made)
    stranger.sign_in("ada", "only looking at all of this")

    page = stranger.open_row("/admin/profiles/profile/", "looked at")
    assert "Secrets" in stranger.message()
    assert "sk-not-for-ada" not in page.content()
    stranger.open_row("/admin/profiles/deployment/", "looked at")
    assert "2.5" in stranger.message()
    assert "2500000" not in page.content()
    stranger.open_row("/admin/profiles/route/", "echo")
    assert "2500000" not in page.content()
    assert page.get_by_role("button", name="Save").count() == 0
    stranger.open_row("/admin/apikeys/apikey/", "first key")
    stranger.expected = {403}
    stranger.open("/admin/profiles/profile/add/")
    assert page.inner_text("h1") == "Not allowed"
