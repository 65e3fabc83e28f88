from __future__ import annotations

import pytest
import requests

from tests.browser.conftest import Desk, rows
from tests.live.server import Gateway

CALLS = "/admin/usage/usagerecord/"
QUESTION = "What is only said here and kept nowhere?"


def ask(gateway: Gateway, **changes: object) -> str:
    """The request id of a call whose row has been written."""
    body = {"model": "echo", "messages": [{"role": "user", "content": QUESTION}], **changes}
    headers = {"Authorization": f"Bearer {gateway.key}"}
    answer = requests.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=10)
    request_id = answer.headers["x-request-id"]
    gateway.row(request_id)
    return request_id


@pytest.fixture(scope="package")
def answered(office: Gateway) -> str:
    return ask(office)


@pytest.fixture(scope="package")
def refused(office: Gateway) -> str:
    return ask(office, tools=[{"type": "function", "function": {"name": "weather"}}])


def test_a_call_is_in_the_list_with_its_ending(admin: Desk, answered: str, refused: str) -> None:
    for request_id, ending in ((answered, "completed"), (refused, "refused by the gateway")):
        admin.open(f"{CALLS}?q={request_id}")
        row = admin.page.locator("#result_list tbody tr").inner_text().lower()
        assert "first key" in row
        assert "echo" in row
        assert ending in row


def test_the_list_can_be_narrowed_to_what_went_wrong(admin: Desk, answered: str, refused: str) -> None:
    admin.open(CALLS)
    admin.page.get_by_text("Filters").first.click()
    admin.page.get_by_role("link", name="Anything but completed").click()
    admin.page.wait_for_load_state()
    endings = admin.page.locator("#result_list td.field-shown_ending").all_inner_texts()
    assert endings
    assert not any("completed" in ending.lower() for ending in endings)


def test_a_search_that_finds_nothing_says_so(admin: Desk, answered: str) -> None:
    admin.open(f"{CALLS}?q=no-such-request")
    assert "Nothing matches" in admin.message()


@pytest.mark.parametrize("name", ["of_key", "of_route", "of_profile", "outcome", "started_at__gte"])
@pytest.mark.parametrize("value", ["abc", "%00", "9" * 40])
def test_a_mistyped_filter_breaks_nothing(admin: Desk, name: str, value: str) -> None:
    admin.open(f"{CALLS}?{name}={value}")
    assert "Calls" in admin.page.inner_text("body")


def test_the_page_of_a_call_tells_all_but_what_was_said(admin: Desk, answered: str) -> None:
    page = admin.open_row(f"{CALLS}?q={answered}", "first key")
    said = admin.message()
    assert answered in said
    assert "Completed" in said
    assert "echo" in said
    assert QUESTION not in page.content()


def test_a_call_can_be_neither_changed_nor_deleted(admin: Desk, answered: str) -> None:
    page = admin.open_row(f"{CALLS}?q={answered}", "first key")
    assert page.locator("#content-main input:not([type=hidden]), #content-main select").count() == 0
    assert page.get_by_role("button", name="Save").count() == 0
    pk = page.url.partition(CALLS)[2].partition("/")[0]

    admin.expected = {403}
    admin.open(f"{CALLS}{pk}/delete/")
    assert "Not allowed" in page.inner_text("h1")
    admin.open(f"{CALLS}add/")
    assert "Not allowed" in page.inner_text("h1")
    assert rows(admin.gateway, "SELECT count(*) FROM usage_usagerecord WHERE request_id = ?", answered) == [(1,)]
