"""Whatever changes the configuration adds one to the revision, so that every worker hears of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apikeys.models import APIKey, User
from profiles.models import Deployment, Profile, Revision, Route

pytestmark = pytest.mark.django_db


@pytest.fixture
def route() -> Route:
    return Route.objects.create(name="fast")


@pytest.fixture
def ada_key() -> APIKey:
    key = APIKey(owner=User.objects.create(username="ada"), name="laptop")
    key.set_key("sk-sb-a-key-for-this-test-0001")
    key.save()
    return key


def changed_by(change: Callable[[], object]) -> bool:
    before = Revision.current()
    change()
    return Revision.current() > before


def test_saving_and_deleting(route: Route) -> None:
    assert changed_by(route.save)
    assert changed_by(lambda: Profile.objects.create(name="house", kind="echo"))
    assert changed_by(route.delete)


def test_bulk_changes(route: Route) -> None:
    house = Profile.objects.create(name="house", kind="echo")
    place = Deployment(route=route, profile=house, upstream_model="echo")
    assert changed_by(lambda: Route.objects.filter(pk=route.pk).update(enabled=False))
    assert changed_by(lambda: Deployment.objects.bulk_create([place]))
    assert changed_by(lambda: Deployment.objects.bulk_update([place], ["weight"]))
    assert changed_by(lambda: house.deployments.update(enabled=False))
    assert changed_by(lambda: route.deployments.all().delete())


def test_links_between_keys_and_routes(route: Route, ada_key: APIKey) -> None:
    assert changed_by(lambda: ada_key.routes.add(route))
    assert changed_by(lambda: ada_key.routes.clear())
    assert changed_by(lambda: route.keys.add(ada_key))
    assert changed_by(lambda: route.keys.remove(ada_key))


def test_people(ada_key: APIKey) -> None:
    ada = ada_key.owner
    ada.is_active = False
    assert changed_by(ada.save)
    assert changed_by(lambda: User.objects.filter(pk=ada.pk).update(is_active=True))
    assert changed_by(ada.delete)


def test_that_a_key_was_used_is_no_change(ada_key: APIKey) -> None:
    assert not changed_by(lambda: APIKey._base_manager.filter(pk=ada_key.pk).update(last_used_at=None))
