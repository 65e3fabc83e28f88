"""`manage.py connect KIND NAME`: make or change a profile, and routes to its models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from profiles import discovery
from profiles.models import Profile
from profiles.secrets import SealBroken
from providers.base import Provider, UpstreamModel
from providers.registry import kinds
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
        parser.add_argument("--test", action="store_true", help="say what was reached, as whom, and how fast")
        parser.add_argument("--fetch", action="store_true", help="list the models of the account")
        parser.add_argument(
            "--routes", metavar="all|A,B=NAME", help="make routes of these upstream models, under names of your own"
        )
        parser.add_argument("--sync", metavar="MINUTES|manual", help="look for new and vanished models so often")
        parser.add_argument(
            "--third-party", action="store_true", help="the routes made may leave for machines of strangers"
        )
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
        try:
            models, names = self.ask(profile, provider, options)
        except ProviderError as error:
            raise CommandError(f"'{profile.name}' was not {'connected' if made else 'changed'}. {error}") from error
        with transaction.atomic():
            profile.save()
            served = discovery.adopt(profile, models, names, options["third_party"])
        routes = [deployment.route.name for deployment in served]
        done = f"{'Connected' if made else 'Changed'} {provider.kind} profile '{profile.name}'"
        self.stdout.write(f"{done} with {len(routes)} route(s): {', '.join(routes)}." if routes else f"{done}.")
        if profile.third_party and routes and not options["third_party"]:
            self.stdout.write(
                "Its machines are strangers', so a route serves from it only when it says so: "
                "connect with --third-party, or tick “May leave for third parties” on the route."
            )

    def fill(self, profile: Profile, provider: Provider, options: dict[str, Any]) -> None:
        values = dict(profile.settings)
        for name, value in _pairs(options["fields"]):
            values[name] = self.clean(provider, name, value, secret=False)
        for setting in provider.settings:
            if not setting.secret and not values.get(setting.name):
                values[setting.name] = self.clean(provider, setting.name, "", secret=False)
        profile.settings = values
        if options["sync"] is not None:
            profile.sync_minutes = self.minutes(options["sync"])
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
        try:
            provider.check(profile.open())
        except ValueError as error:
            raise CommandError(str(error)) from error

    def clean(self, provider: Provider, name: str, value: str, secret: bool) -> str:
        fitting = [setting.name for setting in provider.settings if setting.secret is secret]
        if name not in fitting:
            word = "secret" if secret else "setting"
            raise CommandError(f"{provider.label} has no {word} '{name}'. It has {', '.join(fitting) or 'none'}.")
        try:
            return provider.setting(name).clean(value)
        except ValueError as error:
            raise CommandError(str(error)) from error

    def ask(
        self, profile: Profile, provider: Provider, options: dict[str, Any]
    ) -> tuple[list[UpstreamModel], dict[str, str]]:
        """The models that shall be served, and the names wished for them. Raises ProviderError."""
        target = profile.open()
        found: list[UpstreamModel] = []
        if options["test"]:
            reached = discovery.reach(provider, target)
            self.stdout.write(str(reached))
            found = list(reached.models)
        wanted = dict(_wish(word) for word in (options["routes"] or "").split(",") if word.strip())
        everything = list(wanted) == ["all"]
        # A model with an address of its own cannot be served before its address is known.
        needed = options["fetch"] or everything or (wanted and provider.has_addressed_models)
        if needed and not options["test"]:  # which has listed them already, and an identity provider counts logins
            found = discovery.fetch(provider, target)
        if options["fetch"]:
            self.show(provider, found)
        if everything:
            if not found:
                raise CommandError("The upstream lists no models. Name them: --routes a,b.")
            return found, {}
        if not provider.has_addressed_models:
            listed = {model.name: model for model in [*provider.known_models(), *found]}
            return [listed.get(name, UpstreamModel(name)) for name in wanted], wanted
        if absent := wanted.keys() - {model.name for model in found}:
            raise CommandError(f"The account serves no {', '.join(sorted(absent))}. See what it does: --fetch.")
        return [model for model in found if model.name in wanted], wanted

    def show(self, provider: Provider, found: list[UpstreamModel]) -> None:
        for model in found:
            able = ", ".join(name for name, has in model.capabilities.items() if has)
            words = (model.name, provider.offered_as(model.name), able, model.note)
            self.stdout.write("  ".join(word for word in words if word))

    def minutes(self, wish: str) -> int | None:
        if wish == "manual":
            return None
        if not wish.isdecimal():
            raise CommandError("--sync takes a number of minutes, or manual.")
        return int(wish)


def _wish(word: str) -> tuple[str, str]:
    """An upstream's model and the name it shall have, empty for the usual one."""
    model, _, name = word.strip().rpartition("=") if "=" in word else (word.strip(), "", "")
    return model, name


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
