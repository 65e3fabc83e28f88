"""How keys are made, kept and shown."""

from __future__ import annotations

import hashlib
import re
import zlib

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from apikeys import digests, keyring
from apikeys.authentication import client_address
from apikeys.models import APIKey, User
from gateway import environment
from profiles.models import Route


def test_a_key_is_a_prefix_256_random_bits_and_a_checksum() -> None:
    key = digests.new_key()
    match = re.fullmatch(r"sk-sb-([0-9A-Za-z]{43})([0-9A-Za-z]{6})", key)
    assert match
    assert digests._base62(zlib.crc32(match[1].encode()), 6) == match[2]
    assert digests.digest(key) == hashlib.sha256(key.encode()).digest()
    assert len({digests.new_key() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("key", ["sk-sb-" + "a" * 49, "short", "x" * 40, "sk-sb-"])
def test_what_is_shown_of_a_key_gives_little_away(key: str) -> None:
    shown = digests.shown_prefix(key)
    assert key.startswith(shown)
    assert len(shown) <= max(6, len(key) // 4)


@pytest.mark.django_db
class TestKeyring:
    def test_an_imported_key_without_a_checksum_works(self) -> None:
        key = APIKey(owner=User.objects.create(username="ada"), name="imported")
        key.set_key("token_for_user1")
        key.save()
        assert keyring.load()[digests.digest("token_for_user1")].owner == "ada"

    def test_the_command_makes_an_owner_limits_routes_and_sets_an_end(self, capsys: pytest.CaptureFixture[str]) -> None:
        fast = Route.objects.create(name="fast")
        call_command("apikey", "create", "grace", "nightly", "--routes", "fast", "--expires", "30d")
        key = capsys.readouterr().out.strip().rpartition(" ")[2]
        held = keyring.load()[digests.digest(key)]
        assert (held.owner, held.name, held.routes) == ("grace", "nightly", frozenset([fast.pk]))
        assert held.expires is not None

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["--routes", "nobody"], "There is no route 'nobody'."),
            (["--expires", "soon"], "Write --expires as"),
            (["--expires", "0d"], "Write --expires as"),
            (["--routes", ","], "Name at least one route"),
        ],
    )
    def test_the_command_refuses_nonsense_and_leaves_nothing_behind(self, words: list[str], sentence: str) -> None:
        with pytest.raises(CommandError, match=sentence):
            call_command("apikey", "create", "grace", "nightly", *words)
        assert not User.objects.filter(username="grace").exists()

    def test_two_keys_of_one_owner_must_differ_in_name(self) -> None:
        call_command("apikey", "create", "grace", "nightly")
        with pytest.raises(CommandError, match="already exists"):
            call_command("apikey", "create", "grace", "nightly")


def test_the_callers_address_is_what_no_trusted_proxy_could_have_made_up(settings: Settings) -> None:
    forwarded = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "1.2.3.4, 203.0.113.9, 10.0.0.2"}
    assert client_address(forwarded) == "10.0.0.1", "nobody is trusted unless it is said"
    environment.Environment.ENVIRON = {"TRUSTED_PROXIES": "10.0.0.0/8"}
    settings.TRUSTED_PROXIES = environment.Environment().networks("TRUSTED_PROXIES")
    assert client_address(forwarded) == "203.0.113.9"
    assert client_address({**forwarded, "REMOTE_ADDR": "198.51.100.7"}) == "198.51.100.7"
    assert client_address({**forwarded, "REMOTE_ADDR": ""}) == "203.0.113.9"
