"""Every setting, with its default and unit. What an operator may set is read by `environment.py`; the
system checks (`checks.py`) refuse nonsense in a sentence before anything is served."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured

from gateway import environment
from gateway.environment import BASE_DIR

env = environment.read()

# -- what the operator sets --

SECRET_KEY = env.str("SECRET_KEY", default="")  # signs sessions
SECRETS_KEYS = env.words("SECRETS_KEY")  # Fernet keys that seal credentials: the first writes, all read
JWT_SECRET_KEY = env.str("JWT_SECRET_KEY", default="")

HOST = env.str("HOST", default="127.0.0.1")
PORT = env.whole("PORT", 8000, 1, 65535)
WEB_CONCURRENCY = env.whole("WEB_CONCURRENCY", os.cpu_count() or 1, 1, 256)  # worker processes
DATA_DIR = (BASE_DIR / env.str("DATA_DIR", default="data")).resolve()
DATABASE_URL = env.str("DATABASE_URL", default="")  # empty: SQLite in DATA_DIR
DATABASE_POOL = env.whole("DATABASE_POOL", 10, 1, 500)  # PostgreSQL connections per worker
REDIS_URL = env.str("REDIS_URL", default="")
PUBLIC_URL = env.origin("PUBLIC_URL")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
CORS_ORIGINS = env.words("CORS_ORIGINS") or ["*"]  # origins whose pages may call the API; "none" for none
CA_BUNDLE = env.file("CA_BUNDLE")
ALLOW_PRIVATE_UPSTREAMS = env.flag("ALLOW_PRIVATE_UPSTREAMS", True)
BASE_PATH = env.path("BASE_PATH", "/api")  # of Ollama's native API; checks.py refuses the paths of others
KEY_PREFIX = env.str("KEY_PREFIX", default="sk-sb-")
MAX_BODY_MB = env.whole("MAX_BODY_MB", 32, 1, 1024)  # MiB of one request body
DRAIN_SECONDS = env.whole("DRAIN_SECONDS", 60, 10, 3600)  # how long open calls may go on at a stop
LOG_LEVEL = env.level("LOG_LEVEL", "INFO")
LOG_FILE = env.str("LOG_FILE", default="")
LOG_FILE_LEVEL = env.level("LOG_FILE_LEVEL", "INFO")
TIME_ZONE = env.read("TIME_ZONE", "UTC", lambda text: ZoneInfo(text).key, "a time zone such as Europe/Zurich")

# -- the frame --

DEBUG = False
ROOT_URLCONF = "gateway.urls"
WSGI_APPLICATION = "gateway.wsgi.application"
APPEND_SLASH = True
USE_TZ = True
LANGUAGE_CODE = "en"
USE_I18N = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "apikeys.User"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "axes",
    "profiles",
    "apikeys",
    "usage",
    "gateway",
]

# API paths pass these alone; everything below is for pages (see `wsgi.py`).
API_MIDDLEWARE = ["gateway.middleware.RequestId", "gateway.middleware.Cors"]
MIDDLEWARE = [
    "gateway.middleware.RequestId",
    "gateway.middleware.ContentPolicy",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "gateway.middleware.Cors",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# -- database --


def _database() -> dict[str, Any]:
    if not DATABASE_URL:
        return _sqlite(DATA_DIR / "switchboard.sqlite3")
    try:
        parsed = dict(env.db_url_config(DATABASE_URL))
    except (ImproperlyConfigured, ValueError, KeyError):
        parsed = {}
    engine = str(parsed.get("ENGINE", ""))
    if engine.endswith("sqlite3"):
        return _sqlite(Path(str(parsed["NAME"])))
    if not engine.endswith("postgresql"):
        env.problems["DATABASE_URL"] = (
            "DATABASE_URL must be empty (SQLite in DATA_DIR) or like postgres://user:password@host:5432/name."
        )
        return _sqlite(DATA_DIR / "switchboard.sqlite3")
    options = dict(parsed.get("OPTIONS") or {})
    # The pool lends a connection for the length of a query; kept ones would pile up per greenlet.
    options["pool"] = {"min_size": 0, "max_size": DATABASE_POOL, "timeout": 10}
    return {**parsed, "CONN_MAX_AGE": 0, "OPTIONS": options}


def _sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
        # A test database in memory could not be shared with a second process.
        "TEST": {"NAME": str(path.with_suffix(".test.sqlite3"))},
    }


DATABASES = {"default": _database()}

# -- people --

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

# 5 wrong passwords for one name from one address shut that pair out for 15 minutes.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "locked_out.html"
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "gateway.middleware.client_address"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

# -- API --

REST_FRAMEWORK = {
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "gateway.formats.OneFormat",
    "DEFAULT_PARSER_CLASSES": ["gateway.formats.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["gateway.formats.JSONRenderer"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["apikeys.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["apikeys.authentication.HasKey"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "EXCEPTION_HANDLER": "gateway.errors.handle",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Switchboard",
    "DESCRIPTION": "One door to many model providers, in the languages of OpenAI, Anthropic and Ollama.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/v1",
    "POSTPROCESSING_HOOKS": ["gateway.schema.without_trailing_slashes", "gateway.schema.summarized"],
    "TAGS": [{"name": name} for name in ("Inference", "Models", "Ollama", "Key", "System")],
}
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_MB << 20
CORS_ALLOWED_ORIGINS = [] if "*" in CORS_ORIGINS or CORS_ORIGINS == ["none"] else CORS_ORIGINS
CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ORIGINS
CORS_URLS_REGEX = rf"^(/v1|/api|{re.escape(BASE_PATH)})/"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "x-api-key",
    "api-key",
    "x-request-id",
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-version",
    "x-gateway-profile",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    *(
        f"x-stainless-{name}"
        for name in [
            "lang",
            "package-version",
            "os",
            "arch",
            "runtime",
            "runtime-version",
            "retry-count",
            "timeout",
            "helper-method",
            "poll-helper",
            "custom-poll-interval",
            "async",
        ]
    ),
]
CORS_EXPOSE_HEADERS = [
    "x-request-id",
    "request-id",
    "retry-after",
    "x-should-retry",
    "x-gateway-clamped",
    "x-gateway-dropped",
    "x-gateway-estimated",
]
CORS_PREFLIGHT_MAX_AGE = 86400  # seconds

# -- static files --

STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "gateway" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "gateway.static_files.StaticFiles"},
}

# -- safety of pages --

BEHIND_TLS = PUBLIC_URL.startswith("https://")
if PUBLIC_URL:
    CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
    ALLOWED_HOSTS.append(PUBLIC_URL.partition("://")[2].rpartition(":")[0] or PUBLIC_URL.partition("://")[2])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = BEHIND_TLS
SECURE_HSTS_PRELOAD = BEHIND_TLS
# TLS ends at the proxy, and a redirect here would break API clients that came over the inner network.
SECURE_SSL_REDIRECT = False
SILENCED_SYSTEM_CHECKS = ["security.W008"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# -- logs: one JSON object a line --

_to_file: dict[str, Any] = (
    {
        "file": {
            "class": "logging.handlers.WatchedFileHandler",
            "filename": LOG_FILE,
            "level": LOG_FILE_LEVEL,
            "formatter": "json",
            "delay": True,
        }
    }
    if LOG_FILE
    else {}
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "gateway.logs.JSONLines"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "stream": sys.stderr, "level": LOG_LEVEL, "formatter": "json"},
        **_to_file,
    },
    "root": {"handlers": ["console", *_to_file], "level": "WARNING"},
    "loggers": {
        "switchboard": {"level": "DEBUG"},
        # Every 4xx is a line of ours already, with its key and its route.
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Switchboard",
    "SITE_HEADER": "Switchboard",
    "SITE_SUBHEADER": "LLM gateway",
    "SITE_SYMBOL": "hub",
    "SITE_URL": "/",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "gateway.navigation.sidebar",
    },
}

PROBLEMS = env.problems
