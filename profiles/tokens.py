"""Tokens we hold from upstreams: one per profile, renewed ahead of their end.

The background process renews a token while the old one still serves. Where none is valid, or the upstream
refuses one, the worker that notices fetches a new one itself. Whoever does it holds a lease in the database,
so that an identity provider is asked once, whatever the number of workers and machines.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock, Thread

from django.db import Error as DatabaseError
from django.db import InterfaceError, connection
from django.db.models import F, Q
from django.utils import timezone

from profiles import catalog
from profiles.catalog import LiveDeployment
from profiles.models import Profile, Revision, Token
from profiles.secrets import SealBroken, seal, unseal
from profiles.watch import ConfigurationUnavailable
from providers.base import Provider, Target
from providers.wire import control
from providers.wire.errors import ProviderError

RENEW_AT = 0.8  # of a token's lifetime
MARGIN = 0.05  # of the lifetime in which a token is no longer sent: it would end on its way
LONGEST_MARGIN = 5.0  # seconds
LEASE = timedelta(seconds=90)  # a login may take so long
PATIENCE = 20.0  # seconds a call waits for a login that somebody else has begun
LOOK_EVERY = 0.1  # seconds, meanwhile
YOUNG = timedelta(seconds=10)  # a token refused at this age, or in half its life, was never good
LONGEST_PAUSE = 300.0  # seconds between two logins that fail
NEVER = timedelta(days=3650)
AT_ONCE = 16  # renewals in the background; what is due beyond that waits for the next look

log = logging.getLogger("switchboard.tokens")


@dataclass(frozen=True, slots=True)
class Held:
    """A token as one worker holds it; `good_until` is in Unix seconds."""

    number: int
    value: str = field(repr=False)
    credential: str
    good_until: float
    of: Target  # as the catalog has it
    target: Target  # with the token


_held: dict[int, Held] = {}
_locks: dict[int, Lock] = {}
_renewing: set[int] = set()  # profiles the background process is at


def attached(deployment: LiveDeployment) -> Target:
    """The deployment's target with a valid token; from memory, unless there is none.

    Raises ProviderError (kind `login`) when none is to be had.
    """
    held = _in_memory(deployment.profile_id, deployment.target)
    return (held or _find(deployment.profile_id, deployment.provider, deployment.target)).target


def refused(deployment: LiveDeployment, token: str) -> None:
    """The upstream did not accept this token: nobody shall send it again."""
    refused_by(deployment.profile_id, deployment.target, token)


def refused_by(profile_id: int, target: Target, token: str) -> None:
    """As `refused`, for an account."""
    held = _held.get(profile_id)
    if held is None or held.value != token:
        return  # somebody has renewed it meanwhile
    _held.pop(profile_id, None)
    now = timezone.now()
    row = Token.objects.filter(profile_id=profile_id, number=held.number, refused=False).first()
    if row is not None:
        changes: dict[str, object] = {"refused": True}
        if row.obtained_at and now - row.obtained_at < min(YOUNG, row.lifetime / 2):
            # Made just now, and refused: the login works, its tokens do not. Once more at once, then slower.
            changes |= {
                "failures": row.failures + 1,
                "next_try_at": now + pause(row.failures) if row.failures else None,
                "failed_at": now,
                "last_error": "The upstream refuses a token that was made just now.",
            }
        Token.objects.filter(pk=row.pk, number=held.number).update(**changes)
        log.warning("token_refused", extra={"profile": target.profile})
    connection.close()


def follow() -> None:
    """Take over what others have renewed. Called every second in each worker. Raises DatabaseError."""
    logged_in = catalog.live.value.logged_in
    if not logged_in:
        return
    for row in Token.objects.filter(profile_id__in=logged_in):
        held = _held.get(row.profile_id)
        if held is not None and row.refused and row.number == held.number:
            _held.pop(row.profile_id, None)
        elif held is None or held.number != row.number:
            _hold(row, logged_in[row.profile_id][1])


def renew_due() -> None:
    """Begin to renew every token whose time has come. Called by the background process.

    It waits for none of them: an identity provider that hangs must not keep the others from being asked.
    """
    catalog.live.follow(Revision.current())
    logged_in = catalog.live.value.logged_in
    rows = {row.profile_id: row for row in Token.objects.filter(profile_id__in=logged_in)}
    now = timezone.now()
    for profile_id, (provider, target) in logged_in.items():
        row = rows.get(profile_id)
        if len(_renewing) < AT_ONCE and profile_id not in _renewing and is_due(row, target, now):
            _renewing.add(profile_id)
            Thread(target=_renew_quietly, args=(profile_id, provider, target, row), daemon=True).start()


def is_due(row: Token | None, target: Target, now: datetime) -> bool:
    """Whether a new token should be fetched now, if nobody is at it."""
    if row is None:
        return True
    if row.credential and row.credential != credential(target):
        return True
    if row.next_try_at and row.next_try_at > now:
        return False
    if row.refused or not (row.obtained_at and row.expires_at):
        return True
    return now >= row.obtained_at + row.lifetime * RENEW_AT


def renew(
    profile_id: int, provider: Provider, target: Target, *, seen: Token | None = None, asked: bool = False
) -> Token | None:
    """Log in and store the token, or return None when somebody else is at it, or has been since `seen` was read.

    An operator who `asked` for it does not wait for the end of a pause. Raises ProviderError.
    """
    row, _ = Token.objects.get_or_create(profile_id=profile_id)
    if not asked and row.number != (seen.number if seen else 0):
        return None
    now = timezone.now()
    made_from = credential(target)
    known = row.credential == made_from
    if known and row.next_try_at and row.next_try_at > now and not asked:
        raise unavailable(target, (row.next_try_at - now).total_seconds())
    mine = Token.objects.filter(pk=row.pk, number=row.number)
    if not mine.filter(Q(lease_until=None) | Q(lease_until__lt=now)).update(lease_until=now + LEASE):
        return None
    connection.close()
    began = timezone.now()
    try:
        token = control.log_in(provider, target, row.made_with if row.refused and known else "")
    except ProviderError as error:
        wait = pause(row.failures) if error.retryable else NEVER
        mine.update(
            lease_until=None,
            credential=made_from,
            failures=F("failures") + 1,
            failed_at=timezone.now(),
            next_try_at=timezone.now() + wait,
            last_error=error.message,
            **({} if known else {"sealed": "", "expires_at": None, "obtained_at": None}),
        )
        log.error("login_failed", extra={"profile": target.profile, "error": error.message})
        error.retry_after = wait.total_seconds()
        raise
    except BaseException:
        mine.update(lease_until=None)
        raise
    row.sealed, row.made_with, row.credential = seal(token.value), token.made_with, made_from
    row.number, row.obtained_at, row.expires_at = row.number + 1, began, began + timedelta(seconds=token.lifetime)
    row.lease_until = row.next_try_at = None
    if not row.refused:
        row.failures, row.failed_at, row.last_error = 0, None, ""
    row.refused = False
    row.save()
    log.info("token_renewed", extra={"profile": target.profile})
    return row


def credential(target: Target) -> str:
    """A digest of all that a login is made from."""
    parts = [target.kind, dict(target.settings), dict(target.secrets)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def pause(failures: int) -> timedelta:
    """How long to leave an identity provider alone that has failed so often before; never quite the same."""
    seconds = min(2.0 * 2 ** min(failures, 16), LONGEST_PAUSE)
    return timedelta(seconds=seconds * random.uniform(0.75, 1.25))


def unavailable(target: Target, seconds: float | None = None) -> ProviderError:
    """What a caller is told; `seconds` until the next login is tried."""
    return ProviderError(
        f"Upstream '{target.profile}' cannot be used at the moment: the gateway has no valid token for it. "
        "Ask your administrator.",
        kind="login",
        retry_after=seconds if seconds is not None and 0 < seconds <= LONGEST_PAUSE * 2 else None,
    )


def for_account(profile_id: int, provider: Provider, target: Target) -> Target:
    """The target of an account with a valid token, for the rare things. Raises ProviderError."""
    return _find(profile_id, provider, target).target


def state(profile: Profile, now: datetime) -> str:
    """The token of a profile in a few words, for people; empty when it needs none. Raises SealBroken."""
    provider = profile.provider
    if provider is None or not provider.needs_login(profile.open()):
        return ""
    row = Token.objects.filter(profile=profile).first()
    return token_state(row, now)


def token_state(row: Token | None, now: datetime) -> str:
    if row is None or not (row.sealed and row.expires_at):
        return "failing" if row is not None and row.last_error else "none yet"
    if row.refused or row.expires_at <= now:
        return "failing" if row.last_error else "expired"
    return "valid, renewal failing" if row.last_error else "valid"


def _in_memory(profile_id: int, target: Target) -> Held | None:
    held = _held.get(profile_id)
    if held is None or time.time() >= held.good_until:
        return None
    if held.of is not target:
        if held.credential != credential(target):
            return None
        # The catalog was read anew, with the same account in it.
        held = _held[profile_id] = replace(held, of=target, target=replace(target, token=held.value))
    return held


def _find(profile_id: int, provider: Provider, target: Target) -> Held:
    """A valid token from the database, or by a login, or by waiting for somebody else's."""
    last = time.monotonic() + PATIENCE
    with _locks.setdefault(profile_id, Lock()):
        if held := _in_memory(profile_id, target):  # found by whoever had the lock before
            return held
        try:
            while True:  # at least one look, however long the lock was waited for
                row = Token.objects.filter(profile_id=profile_id).first()
                if row is not None and (held := _hold(row, target)):
                    return held
                if (renewed := renew(profile_id, provider, target, seen=row)) and (held := _hold(renewed, target)):
                    return held
                if time.monotonic() >= last:
                    raise unavailable(target)
                connection.close()
                time.sleep(LOOK_EVERY)
        except ProviderError as error:
            if error.kind == "login":
                raise
            raise unavailable(target, error.retry_after) from error
        except (DatabaseError, InterfaceError) as error:
            raise ConfigurationUnavailable("The upstream's token cannot be read at the moment.") from error
        finally:
            connection.close()


def _hold(row: Token, target: Target) -> Held | None:
    """Keep the token of this row in memory if it can be used with this target."""
    if row.refused or not row.sealed or not row.obtained_at or not row.expires_at:
        return None
    if row.credential != credential(target):
        return None
    good_until = row.expires_at.timestamp() - min(row.lifetime.total_seconds() * MARGIN, LONGEST_MARGIN)
    if time.time() >= good_until:
        return None
    try:
        value = unseal(row.sealed)
    except SealBroken:
        return None
    held = Held(row.number, value, row.credential, good_until, target, replace(target, token=value))
    _held[row.profile_id] = held
    return held


def _renew_quietly(profile_id: int, provider: Provider, target: Target, seen: Token | None) -> None:
    """What goes wrong is in the row and in the log; a later turn tries again."""
    try:
        renew(profile_id, provider, target, seen=seen)
    except ProviderError:
        pass
    except Exception:
        log.exception("token_renewal_broke", extra={"profile": target.profile})
    finally:
        connection.close()
        _renewing.discard(profile_id)
