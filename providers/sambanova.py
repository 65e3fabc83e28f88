"""SambaNova Cloud: its official API with a key, or its web console with an e-mail address and a password.

Source: SambaNova's API documentation; for the console, what its own front end sends.
"""

from __future__ import annotations

import secrets
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit

import jwt

from providers.base import (
    NOTHING,
    Cookie,
    Listing,
    Login,
    LoginReply,
    LoginRequest,
    Provider,
    Setting,
    Target,
    UpstreamModel,
    UpstreamRequest,
    UpstreamToken,
)
from providers.documents import BadDocument, dumps, loads
from providers.languages.fields import count_in, text_in
from providers.wire.errors import Kind, ProviderError

USELESS = frozenset("user metadata store service_tier".split())

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
NAVIGATION = {
    "sec-fetch-site": "same-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-user": "?1",
    "sec-fetch-dest": "document",
}
REALM = "Username-Password-Authentication"
GRANT = "http://auth0.com/oauth/grant-type/password-realm"
AUTH0_CLIENT = b64encode(dumps({"name": "auth0.js", "version": "9.28.0"})).decode()
MOST_HOPS = 5  # redirects after the callback
LONGEST_SESSION = 365 * 24 * 60 * 60  # seconds, whatever a cookie promises


class SambaNova(Provider):
    kind = "sambanova"
    label = "SambaNova Cloud"
    settings = (
        Setting("url", "API URL", "With the version.", "https://api.sambanova.ai/v1", kind="url"),
        Setting("email", "E-mail", "Only to use the web console's login instead of an API key; it may break any day."),
        Setting("console_url", "Console URL", "For the login.", "https://cloud.sambanova.ai", kind="url"),
        Setting("completion_url", "Completion URL", "Empty: /api/completion of the console.", kind="url"),
        Setting("models_url", "Models URL", "Empty: /models of the API.", kind="url"),
        Setting("fingerprint_prefix", "Fingerprint prefix", "Of the console's fingerprints.", "anon_"),
        Setting(
            "session_lifetime",
            "Session lifetime",
            "Seconds a login is good for, where the console does not say so itself.",
            "604800",
            kind="integer",
        ),
        Setting("api_key", "API key", "The official way in.", secret=True),
        Setting("password", "Password", "Of the web console, beside the e-mail address.", secret=True, any_text=True),
    )

    def check(self, target: Target) -> None:
        key, email, password = _credentials(target)
        if key and (email or password):
            raise ValueError("Give either an API key, or an e-mail address and a password, but not both.")
        if not key and not (email and password):
            raise ValueError("An API key is needed, or else an e-mail address and its password.")
        if int(target.settings["session_lifetime"]) < 60:
            raise ValueError("Session lifetime must be at least 60 seconds.")

    def speaks(self, model: UpstreamModel, target: Target) -> Mapping[str, str]:
        if self.needs_login(target):
            return {"sambanova_console": target.settings.get("completion_url") or _console(target, "/api/completion")}
        return {
            "sambanova_chat": "/chat/completions",
            "sambanova_completions": "/completions",
            "openai_embeddings": "/embeddings",
            "openai_transcriptions": "/audio/transcriptions",
            "openai_translations": "/audio/translations",
        }

    def request(
        self, target: Target, path: str, body: Mapping[str, Any], passed: Mapping[str, str] = NOTHING
    ) -> UpstreamRequest:
        if not self.needs_login(target):
            return super().request(target, path, {name: body[name] for name in body if name not in USELESS}, passed)
        fingerprint = target.settings["fingerprint_prefix"] + secrets.token_hex(16)
        envelope = {"body": body, "env_type": _env_type(body), "fingerprint": fingerprint}
        return super().request(target, path, envelope)

    def headers(self, target: Target) -> dict[str, str]:
        headers = super().headers(target)
        if self.needs_login(target):
            return headers | _browser(target) | {"Cookie": f"access_token={target.token}"}
        return headers | {"Authorization": f"Bearer {target.secrets['api_key']}"}

    def address(self, target: Target) -> str:
        return target.settings["console_url" if self.needs_login(target) else "url"]

    def identity(self, target: Target) -> str:
        return f"user {target.settings['email']}" if self.needs_login(target) else "the API key stored here"

    def models(self, target: Target) -> Listing:
        # Anyone may read the list, so a console's session is not shown to another host.
        headers = dict(target.headers) if self.needs_login(target) else self.headers(target)
        url = target.settings.get("models_url") or self.url(target, "/models")
        document = yield UpstreamRequest("GET", url, headers)
        return _read_models(document)

    def meaning(self, status: int, said: str) -> Kind | None:
        if status == 400 and ("modeloutput" in said or "model output" in said or "model produced invalid" in said):
            return "broken"  # another try may bring what can be read
        return "unavailable" if status == 504 and "queue" in said else None

    def needs_login(self, target: Target) -> bool:
        return not target.secrets.get("api_key")

    def login(self, target: Target, refused: str) -> Login:
        """The console's login through Auth0, as a browser walks it."""
        browser = _browser(target)
        reply = yield LoginRequest("GET", _console(target, "/api/config"), browser)
        config = _document(reply)
        client, issuer, callback = text_in(config, "clientId"), _issuer(config), text_in(config, "redirectURL")
        hosts = _Hosts(target.settings["console_url"], issuer)
        if not (client and hosts.allow(issuer) and hosts.allow(callback)):
            raise _changed("The SambaNova console does not say where to log in.")

        _, email, password = _credentials(target)
        proof = {
            "client_id": client,
            "username": email,
            "password": password,
            "realm": REALM,
            "credential_type": GRANT,
        }
        headers = {"Content-Type": "application/json", **browser}
        reply = yield LoginRequest("POST", f"{issuer}/co/authenticate", headers, dumps(proof))
        if 400 <= reply.status < 500:
            raise _denied(_document(reply), reply.status)
        if not (ticket := text_in(_document(reply), "login_ticket")):
            raise _changed("The SambaNova console gave nothing for the password.")

        state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        question = {
            "client_id": client,
            "response_type": "code",
            "redirect_uri": callback,
            "scope": "openid profile email",
            "nonce": nonce,
            "state": state,
            "login_ticket": ticket,
            "realm": REALM,
            "auth0Client": AUTH0_CLIENT,
        }
        reply = yield LoginRequest("GET", f"{issuer}/authorize?{urlencode(question)}", browser)
        code = _code(reply, state)

        url = f"{callback}?{urlencode({'code': code, 'state': state})}"
        for _ in range(MOST_HOPS + 1):
            cookies = {"nonce": nonce} if urlsplit(url).netloc == urlsplit(callback).netloc else {}
            reply = yield LoginRequest("GET", url, browser | NAVIGATION, cookies=cookies)
            token = reply.cookies.get("access_token")
            if token is not None and token.value:
                return UpstreamToken(token.value, _lifetime(token, target), "the password")
            if not (location := _location(reply)):
                break
            if not hosts.allow(url := _joined(url, location)):
                raise _changed("The SambaNova console sends its users to a host that is not its own.")
        raise _changed("The SambaNova console let nobody in at the end of the login.")


class _Hosts:
    """Where a login may lead: the console, its neighbours in its domain, and the issuer."""

    def __init__(self, console: str, issuer: str) -> None:
        self._schemes = ("https",) if console.startswith("https:") else ("http", "https")
        self._exactly = (_split(console).netloc, _split(issuer).netloc)
        domain = (_split(console).hostname or "").partition(".")[2]
        # A domain of one label is everybody's; an IP address has none.
        self._ending = f".{domain}" if "." in domain and not domain.replace(".", "").isdecimal() else None

    def allow(self, url: str) -> bool:
        parts = _split(url)
        near = self._ending is not None and (parts.hostname or "").endswith(self._ending)
        return parts.scheme in self._schemes and bool(parts.hostname) and (parts.netloc in self._exactly or near)


def _credentials(target: Target) -> tuple[str, str, str]:
    return target.secrets.get("api_key", ""), target.settings.get("email", ""), target.secrets.get("password", "")


def _console(target: Target, path: str) -> str:
    return target.settings["console_url"] + path


def _browser(target: Target) -> dict[str, str]:
    origin = target.settings["console_url"]
    return {"Origin": origin, "Referer": f"{origin}/", "User-Agent": BROWSER}


def _issuer(config: Mapping[str, Any]) -> str:
    """A host as a rule; a whole address from consoles of one's own."""
    named = text_in(config, "issuerBaseUrl").rstrip("/")
    return named if "://" in named else f"https://{named}"


def _split(url: str) -> SplitResult:
    """The parts of an address; nothing but empty ones for what is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _joined(url: str, location: str) -> str:
    """Where a redirect leads; nowhere, when its address is none."""
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def _env_type(body: Mapping[str, Any]) -> str:
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    kinds = {part.get("type") for content in contents for part in content}
    return "vision" if "image_url" in kinds else "audio" if "audio_content" in kinds else "text"


def _document(reply: LoginReply) -> dict[str, Any]:
    """The JSON object in a reply, or an empty one. Raises ProviderError when the server is in trouble."""
    if reply.status >= 500:
        raise _unavailable(reply.status)
    try:
        document = loads(reply.body)
    except BadDocument:
        return {}
    return document if isinstance(document, dict) else {}


def _location(reply: LoginReply) -> str:
    return reply.headers.get("location", "") if 300 <= reply.status < 400 else ""


def _code(reply: LoginReply, state: str) -> str:
    """The code in the redirect back to the console; errors come by the same way."""
    if not (location := _location(reply)):
        raise _denied(_document(reply), reply.status)
    told = dict(parse_qsl(_split(location).query))
    if told.get("error") in ("server_error", "temporarily_unavailable"):
        raise _unavailable(reply.status)
    if "error" in told or not (code := told.get("code")):
        raise _denied(told, reply.status)
    if not secrets.compare_digest(told.get("state", "").encode(), state.encode()):
        raise ProviderError(
            "The answer of the SambaNova console belongs to another login. Check the Console URL: "
            "somebody may stand between.",
            kind="auth",
            retryable=False,
        )
    return code


def _denied(told: Mapping[str, Any], status: int) -> ProviderError:
    """To try again could lock the account, so somebody has to act."""
    said = " ".join(text_in(told, name) for name in ("error", "code", "error_description", "description")).lower()
    if "invalid_user_password" in said or "wrong email or password" in said:
        message = "The SambaNova console refused the e-mail address or the password. Correct them in the profile."
    elif "too_many_attempts" in said or status == 429:
        message = (
            "The SambaNova console has seen too many logins and keeps this account out for now. "
            "Log in with a browser once, then renew the token here."
        )
    else:
        message = (
            "The SambaNova console does not let this account in: it may be blocked, or was asked for a captcha. "
            "Log in with a browser once, or use an API key instead."
        )
    return ProviderError(message, kind="auth", retryable=False, upstream_status=status)


def _unavailable(status: int) -> ProviderError:
    return ProviderError(
        "The login of the SambaNova console is not available at the moment.", kind="unavailable", upstream_status=status
    )


def _changed(what: str) -> ProviderError:
    return ProviderError(
        f"{what} Its login may have changed: check the Console URL, or use an API key instead.", kind="broken"
    )


def _lifetime(cookie: Cookie, target: Target) -> float:
    """Seconds until the session ends: as the cookie says, or the token in it, whichever is sooner."""
    now = time.time()
    ends = [end for end in (cookie.expires, _expiry(cookie.value)) if end is not None and end > now]
    return min(*ends, now + LONGEST_SESSION) - now if ends else float(target.settings["session_lifetime"])


def _expiry(token: str) -> float | None:
    """The `exp` of a JWT; only its issuer can prove that it is genuine."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": False, "verify_aud": False})
    except jwt.InvalidTokenError:
        return None
    return exp if isinstance(exp := claims.get("exp"), (int, float)) else None


def _read_models(document: Any) -> list[UpstreamModel]:
    rows = document.get("data") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ProviderError("The server's answer is not a list of models.", kind="broken")
    return [
        UpstreamModel(name, count_in(row, "context_length") or None, count_in(row, "max_completion_tokens") or None)
        for row in rows
        if isinstance(row, dict) and (name := text_in(row, "id"))
    ]
