"""System checks: settings that make no sense are refused with a sentence, before anything is served."""

from __future__ import annotations

import os
import string
import sys
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

LEAST_SECRET = 32  # characters
# Everything else that answers; below /api itself these and Ollama's own paths go side by side.
TAKEN = (
    *("/v1", "/api/v1", "/api/auth", "/api/user", "/api/api-keys", "/api/usage", "/api/models", "/api/manage"),
    *("/health", "/ready", "/info", "/metrics", "/admin", "/account", "/docs", "/openapi.json", "/static"),
)


@register(Tags.security)
def settings_make_sense(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = [
        Error(sentence, id=f"switchboard.{name}") for name, sentence in sorted(settings.PROBLEMS.items())
    ]
    messages += _secrets()
    messages += _addresses()
    return messages


def _secrets() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for name in ("SECRET_KEY", "JWT_SECRET_KEY"):
        if len(getattr(settings, name)) < LEAST_SECRET:
            found.append(
                Error(
                    f"{name} must be at least {LEAST_SECRET} random characters. bin/serve writes one to .env.",
                    id=f"switchboard.{name}",
                )
            )
    if not settings.SECRETS_KEYS:
        found.append(Error("SECRETS_KEY is needed: the key that seals credentials.", id="switchboard.SECRETS_KEY"))
    for key in settings.SECRETS_KEYS:
        try:
            Fernet(key)
        except ValueError:
            found.append(
                Error(
                    "SECRETS_KEY must be Fernet keys (32 bytes in URL-safe base64) with commas between them.",
                    id="switchboard.SECRETS_KEY",
                )
            )
    if settings.SECRET_KEY and settings.SECRET_KEY in (*settings.SECRETS_KEYS, settings.JWT_SECRET_KEY):
        found.append(Error("SECRET_KEY must differ from the other two keys.", id="switchboard.keys_alike"))
    return found


def _addresses() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    prefix = settings.KEY_PREFIX
    if not 1 <= len(prefix) <= 20 or not set(prefix) <= set(string.ascii_letters + string.digits + "-_"):
        found.append(
            Error("KEY_PREFIX must be 1 to 20 letters, digits, dashes or underscores.", id="switchboard.KEY_PREFIX")
        )
    if taken := next((path for path in TAKEN if f"{settings.BASE_PATH}/".startswith(f"{path}/")), None):
        found.append(
            Error(
                f"BASE_PATH must not be {settings.BASE_PATH}: what begins with {taken} is served already.",
                id="switchboard.BASE_PATH",
            )
        )
    for origin in settings.CORS_ORIGINS:
        if origin not in ("*", "none") and not origin.startswith(("http://", "https://")):
            found.append(
                Error(
                    f"CORS_ORIGINS must hold origins such as https://app.example.com; '{origin}' is none.",
                    id="switchboard.CORS_ORIGINS",
                )
            )
    if settings.PUBLIC_URL and not settings.TRUSTED_PROXIES:
        found.append(
            Warning(
                "PUBLIC_URL is set but TRUSTED_PROXIES is not: addresses of callers will be those of the proxy.",
                id="switchboard.TRUSTED_PROXIES",
            )
        )
    if settings.REDIS_URL and not settings.REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
        found.append(Error("REDIS_URL must begin with redis://, rediss:// or unix://.", id="switchboard.REDIS_URL"))
    if settings.LOG_FILE and not os.path.isdir(os.path.dirname(os.path.abspath(settings.LOG_FILE))):
        found.append(Error("LOG_FILE must be in a directory that exists.", id="switchboard.LOG_FILE"))
    return found


def serving_problems() -> list[str]:
    """Why this process must not serve, as sentences; asked by each worker before its first request."""
    problems = [str(message.msg) for message in settings_make_sense() if message.is_serious()]
    if "gevent.monkey" in sys.modules:
        problems += _unpatched()
    return problems


def _unpatched() -> list[str]:
    """Something imported before the patch would stop every call of the worker while it waits."""
    from gevent import monkey

    found = [
        f"'{module}' was not patched by gevent; gateway/gunicorn.py must be gunicorn's configuration."
        for module in ("socket", "threading", "ssl", "select")
        if not monkey.is_module_patched(module)
    ]
    if "psycopg" in sys.modules:
        import psycopg.waiting

        if "wait_c" in repr(psycopg.waiting.wait):
            found.append("psycopg waits in C and would stop the worker; it was imported before gevent's patch.")
    return found
