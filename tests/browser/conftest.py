"""A real browser before a live gateway; whatever it complains about on the way fails the test."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright

from tests.conftest import lacking, starter
from tests.live.server import Gateway

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
AXE = "axe-core@4.14.1"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@dataclass
class Desk:
    """One person's browser at the gateway."""

    gateway: Gateway
    page: Page
    expected: set[int] = field(default_factory=set)  # refusals that the test asks for
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(10_000)  # milliseconds
        self.page.on("console", self.on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("request", self.on_request)
        self.page.on("response", self.on_response)

    def on_console(self, message: ConsoleMessage) -> None:
        # A refused page is said twice, here and as a response.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.gateway.url}/", "data:")):
            self.complaints.append(f"{self.page.url} asks for {request.url}")

    def on_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.complaints.append(f"{response.url} answers {response.status}")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.gateway.url}{path}")
        self.page.wait_for_load_state()
        return self.page

    def sign_in(self, name: str, password: str) -> None:
        self.open("/admin/login/")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.page.locator("#login-form [type=submit]").click()
        self.page.wait_for_load_state()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.wait_for_load_state()

    def save(self) -> None:
        self.press("Save")

    def open_row(self, path: str, text: str) -> Page:
        """The page of the row with this text in the list at `path`."""
        self.open(path)
        self.page.locator("#result_list tbody").filter(has_text=text).locator("th a").first.click()
        self.page.wait_for_load_state()
        return self.page

    def message(self) -> str:
        return self.page.locator("#main").inner_text()


def rows(gateway: Gateway, query: str, *values: Any) -> list[Any]:
    """Straight from the gateway's database."""
    path = next((gateway.folder / "data").glob("*.sqlite3"))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        return database.execute(query, values).fetchall()


def staff(desk: Desk, name: str, *may: str) -> None:
    """Signs in somebody who may do these things alone, as `view_profile`."""
    password = f"{name} has a long password"
    code = (
        "from apikeys.models import User; from django.contrib.auth.models import Permission\n"
        f"if not User.objects.filter(username={name!r}).exists():\n"
        f"    user = User.objects.create_user({name!r}, None, {password!r}, is_staff=True)\n"
        f"    user.user_permissions.set(Permission.objects.filter(codename__in={may!r}))"
    )
    desk.gateway.manage("shell", "--no-imports", "-c", code)
    desk.sign_in(name, password)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        lacking("Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def office(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway of these tests, as fresh as a stranger's."""
    with starter(tmp_path_factory) as start:
        yield start(WEB_CONCURRENCY="1")


@pytest.fixture(scope="package")
def session(browser: Browser, office: Gateway) -> Any:
    """The cookies of an administrator who has signed in."""
    context = browser.new_context()
    Desk(office, context.new_page()).sign_in("admin", office.password)
    state = context.storage_state()
    context.close()
    return state


def at_desk(gateway: Gateway, context: BrowserContext) -> Iterator[Desk]:
    desk = Desk(gateway, context.new_page())
    yield desk
    context.close()
    assert desk.complaints == []


@pytest.fixture
def stranger(browser: Browser, office: Gateway) -> Iterator[Desk]:
    """Somebody who has not signed in."""
    yield from at_desk(office, browser.new_context(viewport=DESKTOP))  # type: ignore[arg-type]


@pytest.fixture
def admin(browser: Browser, office: Gateway, session: Any) -> Iterator[Desk]:
    yield from at_desk(office, browser.new_context(viewport=DESKTOP, storage_state=session))  # type: ignore[arg-type]


@pytest.fixture
def phone(browser: Browser, office: Gateway, session: Any) -> Iterator[Desk]:
    """The administrator, on the way home, in the dark."""
    context = browser.new_context(
        viewport=PHONE, is_mobile=True, has_touch=True, color_scheme="dark", storage_state=session
    )  # type: ignore[arg-type]
    yield from at_desk(office, context)


@pytest.fixture(scope="package")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, which looks for what some people cannot use."""
    npm = shutil.which("npm")
    if npm is None:
        lacking("npm, for axe-core")
    folder = tmp_path_factory.mktemp("axe")
    words = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        lacking(f"{AXE}, which npm could not fetch,")
    return Path(folder, "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
