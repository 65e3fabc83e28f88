"""`manage.py bootstrap`: bring the database up to date and, the first time, make what a first call needs."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q

from apikeys import digests
from apikeys.models import APIKey, User
from gateway.environment import BASE_DIR
from gateway.settings import env
from profiles.models import Deployment, Profile, Route
from profiles.secrets import SealBroken

LEAST_KEY = 20  # characters of a preset key


class Command(BaseCommand):
    help = "Migrate, collect static files, and create admin, echo route and first key if there are none."

    def handle(self, **options: Any) -> None:
        self.migrate()
        self.collect()
        self.refuse_foreign_secrets()
        password = self.admin()
        self.echo()
        key = self.first_key()
        if password or key:
            self.say_what_next(password, key)

    def migrate(self) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)

    def collect(self) -> None:
        """Static files change with the packages and with ours: a mark says for which they were collected."""
        state = hashlib.sha256((BASE_DIR / "requirements.txt").read_bytes())
        for finder in get_finders():
            for path, storage in sorted(finder.list([]), key=lambda item: item[0]):
                if storage.location == str(BASE_DIR / "gateway" / "static"):
                    state.update(path.encode() + Path(storage.path(path)).read_bytes())
        mark = Path(settings.STATIC_ROOT) / ".collected"
        if not mark.is_file() or mark.read_text() != state.hexdigest():
            call_command("collectstatic", interactive=False, verbosity=0, clear=True)
            mark.write_text(state.hexdigest())

    def refuse_foreign_secrets(self) -> None:
        """Raises CommandError when what is stored was sealed with other keys."""
        for profile in Profile.objects.exclude(sealed=""):
            try:
                profile.sealed_values()
            except SealBroken as error:
                raise CommandError(
                    f"The credentials of profile '{profile.name}' were sealed with another SECRETS_KEY. "
                    "Put the old key back, behind a comma after the new one if you are rotating."
                ) from error

    def admin(self) -> str | None:
        """The new superuser's password, or None when there is one already."""
        if User.objects.filter(is_superuser=True).exists():
            return None
        password = env.str("BOOTSTRAP_ADMIN_PASSWORD", default="") or secrets.token_urlsafe(12)
        User.objects.create_superuser("admin", None, password)
        return password

    def echo(self) -> None:
        if Profile.objects.exists() or Route.objects.exists():
            return
        profile = Profile.objects.create(name="echo", kind="echo", notes="Answers by itself; delete it when you like.")
        route = Route.objects.create(name="echo", public=True)
        Deployment.objects.create(route=route, profile=profile, upstream_model="echo")

    def first_key(self) -> str | None:
        """The new key, or None when there is one already."""
        if APIKey.objects.exists():
            return None
        key = env.str("BOOTSTRAP_API_KEY", default="") or digests.new_key()
        if len(key) < LEAST_KEY:
            raise CommandError(f"BOOTSTRAP_API_KEY must have at least {LEAST_KEY} characters.")
        owner = User.objects.filter(Q(username="admin") | Q(is_superuser=True)).order_by("date_joined").first()
        first = APIKey(owner=owner, name="first key")
        first.set_key(key)
        first.save()
        return key

    def say_what_next(self, password: str | None, key: str | None) -> None:
        base = settings.PUBLIC_URL or f"http://{settings.HOST}:{settings.PORT}"
        lines = ["", "Switchboard is set up. This is shown once:", ""]
        if password:
            lines.append(f"  admin password   {password}   (user: admin, at {base}/admin/)")
        if key:
            lines.append(f"  API key          {key}")
        lines += ["", "Next:", "", "  1. Ask the echo route:", ""]
        lines += [
            f"     curl {base}/v1/chat/completions -H 'Authorization: Bearer {key or 'YOUR_KEY'}' \\",
            "       -H 'Content-Type: application/json' \\",
            """       -d '{"model": "echo", "messages": [{"role": "user", "content": "Hello, gateway"}]}'""",
            "",
            "  2. Connect a server:",
            "",
            "     .venv/bin/python manage.py connect openai my-server --set url=http://HOST:PORT/v1 --routes all",
            "",
            f"  3. See your calls at {base}/admin/ under Usage, Calls.",
            "",
        ]
        self.stdout.write("\n".join(lines))
