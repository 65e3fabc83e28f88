from __future__ import annotations

from tests.browser.conftest import Desk

GRACE = """
from apikeys.models import User
User.objects.create_superuser("grace", None, "the right password of grace")
"""


def test_an_operator_signs_in_and_is_told_what_to_do_first(stranger: Desk) -> None:
    stranger.open("/admin/")
    assert "/admin/login/" in stranger.page.url

    stranger.sign_in("admin", stranger.gateway.password)

    steps = stranger.page.locator(".steps li").all_inner_texts()
    assert [step.split("\n")[0] for step in steps] == [
        "Connect an account",
        "Name a model",
        "Hand out a key",
        "Make a call",
        "Look at it",
    ]


def test_a_wrong_password_is_refused_with_a_sentence(stranger: Desk) -> None:
    stranger.sign_in("ada", "wrong")
    assert "Please enter the correct username and password" in stranger.page.inner_text("body")


def test_five_wrong_passwords_lock_a_name_out_even_with_the_right_one(stranger: Desk) -> None:
    stranger.gateway.manage("shell", "--no-imports", "-c", GRACE)
    stranger.expected = {429}
    for attempt in range(5):
        stranger.sign_in("grace", f"wrong {attempt}")
    assert "Too many attempts" in stranger.page.inner_text("h1")

    stranger.sign_in("grace", "the right password of grace")
    assert "Too many attempts" in stranger.page.inner_text("h1")


def test_an_administrator_sees_who_is_locked_out_and_lets_them_in(stranger: Desk, admin: Desk) -> None:
    stranger.expected = {429}
    for attempt in range(5):
        stranger.sign_in("edsger", f"wrong {attempt}")

    admin.open_row("/admin/axes/accessattempt/", "edsger")
    assert "locked out" in admin.message()
    admin.page.get_by_role("link", name="Delete").click()
    admin.press("Yes, I’m sure")

    stranger.expected = set()
    stranger.sign_in("edsger", "wrong again")
    assert "Too many attempts" not in stranger.page.inner_text("body")
