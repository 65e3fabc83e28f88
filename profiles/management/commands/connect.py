"""`manage.py connect KIND NAME`: make or change a profile, and routes to its models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from profiles.models import Deployment, Profile, Route
from profiles.secrets import SealBroken
from providers.base import Provider
from providers.registry import kinds
from providers.wire import control
from providers.wire.errors import ProviderError

TIMEOUTS = ("connect_timeout", "first_event_timeout", "idle_timeout", "total_timeout")


class Command(BaseCommand):
    help = "Connect an account at an upstream: make the profile, or change the one of this name."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", help=f"one of {', '.join(kinds())}")
        parser.add_argument("name", help="what you call this account")
        parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="fields")
        parser.add_argument(
            "--secret", action="append", default=[], metavar="FIELD=VALUE", help="VALUE, @FILE, or - for standard input"
        )
        parser.add_argument("--routes", metavar="all|A,B", help="make routes of these upstream models")
        parser.add_argument("--proxy", metavar="URL", help="reach the upstream through this proxy")
        parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="send this header too")
        for name in TIMEOUTS:
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="SECONDS", dest=name)

    def handle(self, **options: Any) -> None:
        provider = kinds().get(options["kind"])
        if provider is None:
            raise CommandError(f"There is no kind '{options['kind']}'. The kinds are {', '.join(kinds())}.")
        profile = Profile.objects.filter(name=options["name"]).first()
        made = profile is None
        profile = profile or Profile(name=options["name"], kind=provider.kind, third_party=provider.third_party)
        if profile.kind != provider.kind:
            raise CommandError(f"The profile '{profile.name}' is of the kind '{profile.kind}'. Choose another name.")
        self.fill(profile, provider, options)
        try:
            profile.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        # Asked before anything is written, so that a wrong address or key leaves nothing behind.
        models = self.models(profile, provider, options["routes"]) if options["routes"] else []
        with transaction.atomic():
            profile.save()
            routes = [self.serve(profile, model) for model in models]
        done = f"{'Connected' if made else 'Changed'} {provider.kind} profile '{profile.name}'"
        self.stdout.write(f"{done} with {len(routes)} route(s): {', '.join(routes)}." if routes else f"{done}.")

    def fill(self, profile: Profile, provider: Provider, options: dict[str, Any]) -> None:
        values = dict(profile.settings)
        for name, value in _pairs(options["fields"]):
            values[name] = self.clean(provider, name, value, secret=False)
        for setting in provider.settings:
            if not setting.secret and not values.get(setting.name):
                values[setting.name] = self.clean(provider, setting.name, "", secret=False)
        profile.settings = values
        try:
            sealed = profile.sealed_values()
        except SealBroken as error:
            raise CommandError(str(error)) from error
        for name, value in _pairs(options["secret"]):
            sealed["secrets"][name] = self.clean(provider, name, _read_secret(value), secret=True)
        for setting in provider.settings:
            if setting.secret and setting.required and not sealed["secrets"].get(setting.name):
                raise CommandError(f"{setting.label} is needed: --secret {setting.name}=VALUE.")
        if options["proxy"] is not None:
            sealed["proxy_url"] = options["proxy"]
        sealed["headers"].update(_pairs(options["header"]))
        profile.seal(sealed)
        for name in TIMEOUTS:
            if options[name] is not None:
                setattr(profile, name, options[name])

    def clean(self, provider: Provider, name: str, value: str, secret: bool) -> str:
        fitting = [setting.name for setting in provider.settings if setting.secret is secret]
        if name not in fitting:
            word = "secret" if secret else "setting"
            raise CommandError(f"{provider.label} has no {word} '{name}'. It has {', '.join(fitting) or 'none'}.")
        try:
            return provider.setting(name).clean(value)
        except ValueError as error:
            raise CommandError(str(error)) from error

    def models(self, profile: Profile, provider: Provider, wanted: str) -> list[str]:
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        if names != ["all"]:
            return names
        try:
            found = control.list_models(provider, profile.open())
        except ProviderError as error:
            raise CommandError(f"The models could not be listed. {error.message}") from error
        if not found:
            raise CommandError("The upstream lists no models. Name them: --routes a,b.")
        return [model.name for model in found]

    def serve(self, profile: Profile, model: str) -> str:
        route, _ = Route.objects.get_or_create(name=model)
        Deployment.objects.get_or_create(route=route, profile=profile, upstream_model=model)
        return route.name


def _pairs(items: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise CommandError("Write it as FIELD=VALUE.")
        pairs.append((name, value))
    return pairs


def _read_secret(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    if value.startswith("@"):
        try:
            return Path(value[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The file {value[1:]} could not be read.") from error
    return value
