"""`manage.py route NAME PROFILE:UPSTREAM_MODEL`: serve a public model name from a profile."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from profiles.models import WORKS, Deployment, Profile, Route, all_works
from providers.capabilities import CAPABILITIES


class Command(BaseCommand):
    help = "Make a route, or give an existing one another deployment."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what callers put into 'model'")
        parser.add_argument("deployment", metavar="PROFILE:UPSTREAM_MODEL")
        parser.add_argument("--weight", type=int, default=None, help="share among equal priorities (1)")
        parser.add_argument("--priority", type=int, default=None, help="lower is tried first (0)")
        parser.add_argument("--max-output-tokens", type=int, default=None, help="larger requests are lowered to this")
        parser.add_argument(
            "--works",
            type=_works,
            metavar="KINDS",
            help=f"of work, with commas between them: all, or some of {', '.join(all_works())}",
        )
        parser.add_argument("--context-window", type=int, default=None, help="tokens, shown to callers")

        parser.add_argument("--url", metavar="ADDRESS", help="of the model itself, where each has its own")
        parser.add_argument("--can", action="append", default=[], choices=CAPABILITIES, help="what the model can do")
        parser.add_argument("--cannot", action="append", default=[], choices=CAPABILITIES, help="what it cannot do")
        parser.add_argument("--third-party", action="store_true", help="it may leave for machines of strangers")

    def handle(self, **options: Any) -> None:
        profile_name, colon, model = options["deployment"].partition(":")
        if not colon or not model:
            raise CommandError("Write the deployment as PROFILE:UPSTREAM_MODEL.")
        profile = Profile.objects.filter(name=profile_name).first()
        if profile is None:
            raise CommandError(f"There is no profile '{profile_name}'. Make it with 'manage.py connect'.")
        with transaction.atomic():
            route = Route.objects.filter(name=options["name"]).first() or Route(name=options["name"])
            made_route = route._state.adding
            for name in ("works", "max_output_tokens", "context_window"):
                if options[name] is not None:
                    setattr(route, name, options[name])
            route.third_party = route.third_party or options["third_party"]
            _save(route)
            named = {"route": route, "profile": profile, "upstream_model": model}
            if options["url"] is not None:
                named["upstream_url"] = options["url"]
            deployment = Deployment.objects.filter(**named).first() or Deployment(**named)
            made_deployment = deployment._state.adding
            deployment.capabilities |= dict.fromkeys(options["can"], True) | dict.fromkeys(options["cannot"], False)
            for name in ("weight", "priority"):
                if options[name] is not None:
                    setattr(deployment, name, options[name])
            _save(deployment)
        if made_route:
            self.stdout.write(f"Made route '{route.name}', served by {model} at {profile.name}.")
        elif made_deployment:
            self.stdout.write(f"Route '{route.name}' is now also served by {model} at {profile.name}.")
        else:
            self.stdout.write(f"Changed how route '{route.name}' is served by {model} at {profile.name}.")


def _works(text: str) -> list[str]:
    named = all_works() if text == "all" else text.split(",")
    if unknown := set(named) - {work for work, _ in WORKS}:
        raise ArgumentTypeError(f"there is no such kind of work: {', '.join(sorted(unknown))}")
    return named


def _save(row: Route | Deployment) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from error
    row.save()
