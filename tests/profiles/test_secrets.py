"""Credentials are sealed; keys can be rotated; a seal that cannot be opened says so."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from pytest_django import Settings

from profiles import catalog
from profiles.models import Deployment, Profile, Route
from profiles.secrets import SealBroken, seal, unseal

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_the_first_key_seals_and_all_of_them_open(settings: Settings) -> None:
    settings.SECRETS_KEYS = [OLD]
    sealed = seal({"a": "secret"})
    settings.SECRETS_KEYS = [NEW, OLD]
    assert unseal(sealed) == {"a": "secret"}
    again = seal({"a": "secret"})
    settings.SECRETS_KEYS = [NEW]
    assert unseal(again) == {"a": "secret"}
    with pytest.raises(SealBroken):
        unseal(sealed)


@pytest.mark.django_db
def test_a_profile_that_cannot_be_opened_is_left_out_and_the_others_serve(settings: Settings) -> None:
    route = Route.objects.create(name="fast")
    for name, key in (("lost", OLD), ("good", NEW)):
        settings.SECRETS_KEYS = [key]
        profile = Profile(name=name, kind="openai", settings={"url": "http://127.0.0.1:9/v1"})
        profile.seal({"secrets": {"api_key": "secret"}, "proxy_url": "", "headers": {}})
        profile.save()
        Deployment.objects.create(route=route, profile=profile, upstream_model="m")
    served = catalog.load().routes["fast"].deployments
    assert [place.target.profile for place in served] == ["good"]
    assert served[0].target.secrets == {"api_key": "secret"}
