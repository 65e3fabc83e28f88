from __future__ import annotations

import pytest

from tests.browser.conftest import Desk, rows

PROFILES = "/admin/profiles/profile/"
SECRET = "sk-upstream-7f3a-never-to-be-seen"  # what must be on no page


def connect(admin: Desk, name: str, secret: str = SECRET) -> None:
    admin.open(f"{PROFILES}add/")
    admin.page.get_by_role("link", name="OpenAI or compatible").click()
    admin.page.wait_for_load_state()
    admin.page.fill("[name=name]", name)
    admin.page.fill("[name=setting_url]", "http://127.0.0.1:9/v1")
    admin.page.fill("[name=secret_api_key]", secret)
    admin.save()


def sealed(admin: Desk, name: str) -> str:
    return str(rows(admin.gateway, "SELECT sealed FROM profiles_profile WHERE name = ?", name)[0][0])


def test_a_new_profile_asks_for_its_kind_and_then_for_what_that_kind_needs(admin: Desk) -> None:
    admin.open(f"{PROFILES}add/")
    assert admin.page.locator(".kinds a").count() >= 2
    admin.page.get_by_role("link", name="Echo").click()
    admin.page.get_by_label("Delay before the first word").wait_for()
    assert admin.page.get_by_label("Base URL").count() == 0


@pytest.mark.parametrize("kind", ["", "teletype", "%00"])
def test_a_kind_that_is_not_known_leads_to_the_choice(admin: Desk, kind: str) -> None:
    admin.open(f"{PROFILES}add/?kind={kind}")
    assert "What kind of account is it?" in admin.message()


def test_a_secret_is_kept_sealed_and_shown_nowhere(admin: Desk) -> None:
    connect(admin, "vault")
    assert "was added successfully" in admin.message()
    assert SECRET not in sealed(admin, "vault")

    for path in (PROFILES, "/admin/", f"{PROFILES}?q=vault"):
        assert SECRET not in admin.open(path).content()
    page = admin.open_row(PROFILES, "vault")
    assert SECRET not in page.content()
    assert page.locator("[name=secret_api_key]").get_attribute("placeholder") == "Set. Leave empty to keep it"
    page.get_by_role("link", name="History").click()
    assert SECRET not in page.content()


def test_an_empty_secret_field_keeps_the_secret(admin: Desk) -> None:
    connect(admin, "keeper")
    before = sealed(admin, "keeper")
    page = admin.open_row(PROFILES, "keeper")
    page.fill("[name=notes]", "Looked at in spring.")
    admin.save()

    page = admin.open_row(PROFILES, "keeper")
    assert page.input_value("[name=notes]") == "Looked at in spring."
    assert page.locator("[name=secret_api_key]").get_attribute("placeholder") == "Set. Leave empty to keep it"
    assert before != ""
    assert sealed(admin, "keeper") != ""


def test_a_secret_can_be_forgotten(admin: Desk) -> None:
    connect(admin, "forgetful")
    page = admin.open_row(PROFILES, "forgetful")
    page.locator("[name=forget_secret_api_key]").press("Space")
    admin.save()
    assert sealed(admin, "forgetful") == ""

    page = admin.open_row(PROFILES, "forgetful")
    assert page.locator("[name=secret_api_key]").get_attribute("placeholder") == "Not set"
    assert page.locator("[name=forget_secret_api_key]").count() == 0


def test_an_error_elsewhere_names_its_field_and_does_not_show_the_secret(admin: Desk) -> None:
    admin.open(f"{PROFILES}add/?kind=openai")
    page = admin.page
    page.fill("[name=name]", "mistyped")
    page.fill("[name=setting_url]", "ftp://example.com")
    page.fill("[name=secret_api_key]", SECRET)
    page.locator("summary", has_text="Network").click()
    page.fill("[name=proxy_url]", f"http://user:{SECRET}@proxy:99999")
    page.fill("[name=extra_headers]", f"X-Team {SECRET}")
    page.fill("[name=ca]", "not a certificate")
    admin.save()

    said = admin.message()
    assert "Base URL must be an address that begins with http:// or https://." in said
    assert "The proxy must be an address" in said
    assert "Write each header on a line of its own" in said
    assert "This is no certificate in PEM form" in said
    assert SECRET not in page.content()
    assert rows(admin.gateway, "SELECT 1 FROM profiles_profile WHERE name = 'mistyped'") == []


def test_a_header_that_would_break_requests_is_refused(admin: Desk) -> None:
    admin.open(f"{PROFILES}add/?kind=openai")
    page = admin.page
    page.fill("[name=name]", "smuggler")
    page.locator("summary", has_text="Network").click()
    page.fill("[name=extra_headers]", "Content-Length: 5")
    admin.save()
    assert "Content-Length is set by the gateway itself." in admin.message()
