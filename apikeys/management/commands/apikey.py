"""`manage.py apikey create OWNER NAME`: hand out a key."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from apikeys import digests
from apikeys.models import APIKey, User
from profiles.models import Route

UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class Command(BaseCommand):
    help = "Create an API key and show it once. An owner who does not exist yet is made."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create a key")
        create.add_argument("owner", help="user name")
        create.add_argument("name", help="what the key is for")
        create.add_argument("--routes", metavar="A,B", help="may use only these routes")
        create.add_argument("--expires", metavar="30d", help="valid for so many hours (h), days (d) or weeks (w)")
        create.add_argument("--management", action="store_true", help="a management key instead of one for inference")

    def handle(self, **options: Any) -> None:
        routes = self.routes(options["routes"])
        key = digests.new_key()
        row = APIKey(
            name=options["name"],
            kind=APIKey.Kind.MANAGEMENT if options["management"] else APIKey.Kind.INFERENCE,
            all_routes=routes is None,
            expires_at=_end(options["expires"]),
        )
        row.set_key(key)
        with transaction.atomic():
            row.owner = self.owner(options["owner"])
            try:
                row.full_clean()
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from error
            row.save()
            row.routes.set(routes or [])
        until = f", valid until {row.expires_at:%Y-%m-%d %H:%M} UTC" if row.expires_at else ""
        self.stdout.write(f"Created key '{row.name}' of {row.owner}{until}; it is shown only now: {key}")

    def owner(self, name: str) -> User:
        owner: User | None = User.objects.filter(username=name).first()
        if owner is not None:
            return owner
        owner = User(username=name)
        owner.set_unusable_password()
        try:
            owner.full_clean(exclude=["password"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        owner.save()
        return owner

    def routes(self, wanted: str | None) -> list[Route] | None:
        """None: all of them."""
        if wanted is None:
            return None
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        found = {route.name: route for route in Route.objects.filter(name__in=names)}
        for name in names:
            if name not in found:
                raise CommandError(f"There is no route '{name}'.")
        if not names:
            raise CommandError("Name at least one route, or leave --routes out for all of them.")
        return list(found.values())


def _end(text: str | None) -> Any:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if match is None or int(match[1]) == 0:
        raise CommandError("Write --expires as a number of hours, days or weeks, as 12h, 30d or 4w.")
    return timezone.now() + timedelta(**{UNITS[match[2]]: int(match[1])})
