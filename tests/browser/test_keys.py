from __future__ import annotations

import time

import pytest
import requests

from tests.browser.conftest import Desk, rows

KEYS = "/admin/apikeys/apikey/"
PATIENCE = 10  # seconds for every worker to notice


def make_key(admin: Desk, name: str) -> str:
    admin.open(f"{KEYS}add/")
    admin.page.fill("[name=name]", name)
    admin.save()
    return admin.page.get_by_label("The new key").input_value()


def status(admin: Desk, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.get(f"{admin.gateway.url}/v1/models", headers=headers, timeout=10).status_code


def test_a_key_is_shown_once_and_works(admin: Desk) -> None:
    key = make_key(admin, "nightly report")
    assert key.startswith("sk-sb-")
    assert status(admin, key) == 200

    admin.open_row(KEYS, "nightly report")
    later = [admin.page.content()]
    later += [admin.open(path).content() for path in (KEYS, f"{KEYS}?q=nightly", "/admin/", "/admin/apikeys/user/")]
    admin.open_row(KEYS, "nightly report")
    admin.page.get_by_role("link", name="History").click()
    later.append(admin.page.content())
    assert not any(key in page for page in later)
    assert key.encode() not in b"".join(path.read_bytes() for path in admin.gateway.folder.rglob("*.sqlite3*"))


def test_the_page_that_shows_a_key_is_not_stored_by_the_browser(admin: Desk) -> None:
    admin.open(f"{KEYS}add/")
    admin.page.fill("[name=name]", "not stored")
    with admin.page.expect_response(lambda answer: answer.request.method == "POST") as posted:
        admin.save()
    assert "no-store" in posted.value.headers["cache-control"]


def test_a_revoked_key_stops_working_and_the_list_says_so(admin: Desk) -> None:
    key = make_key(admin, "leaked")
    assert status(admin, key) == 200
    admin.open(f"{KEYS}?q=leaked")
    admin.page.locator("#result_list tbody input.action-select").check(force=True)
    admin.page.select_option("select[name=action]", label="Revoke the chosen keys")
    admin.press("Run")

    assert "Revoked 1 key." in admin.message()
    row = admin.page.locator("#result_list tbody").filter(has_text="leaked")
    assert "revoked" in row.inner_text().lower()
    deadline = time.monotonic() + PATIENCE
    while status(admin, key) != 401:
        assert time.monotonic() < deadline, "the key still works"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("allowed_ips", "10.0.0.1/8", "is not an address or a network"),
        ("expires_at_0", "2020-01-01", "the key would never work"),
        ("tags", "x" * 51, "tags of up to 50 characters"),
        ("max_body_mb", "99999999999999999999", "less than or equal to 1024"),
        ("name", "first key", "has a key of this name already"),
    ],
)
def test_what_a_key_cannot_be_is_said_beside_the_field(admin: Desk, field: str, value: str, sentence: str) -> None:
    admin.open(f"{KEYS}add/")
    admin.page.fill("[name=name]", "odd")
    admin.page.fill("[name=expires_at_1]", "00:00" if field == "expires_at_0" else "")
    admin.page.fill(f"[name={field}]", value)
    admin.save()
    assert sentence in admin.message()
    assert rows(admin.gateway, "SELECT 1 FROM apikeys_apikey WHERE name = 'odd'") == []


def test_a_key_without_any_route_is_refused(admin: Desk) -> None:
    admin.open(f"{KEYS}add/")
    admin.page.fill("[name=name]", "useless")
    admin.page.locator("[name=all_routes]").uncheck(force=True)
    admin.save()
    assert "Choose at least one route, or allow all of them." in admin.message()
