"""What can go wrong between us and an upstream, in one exception."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "bad_request",  # the upstream says the request is wrong; the same input will fail elsewhere too
    "context_length",
    "content_filter",
    "too_large",
    "incapable",  # this model cannot do what was asked; another may
    "model_not_found",
    "unsupported_path",  # the server has no such endpoint: it does not speak this language
    "unsupported_field",  # the server refuses a field we added, such as stream_options
    "auth",  # our credential was refused
    "login",  # no valid token is to be had
    "quota",
    "rate_limit",
    "timeout",
    "unreachable",
    "unavailable",
    "broken",  # it answered, but not what its contract says
    "cut",  # the answer ended before it was complete
]

# What the same input will meet everywhere.
FINAL: frozenset[Kind] = frozenset(
    ("bad_request", "context_length", "content_filter", "too_large", "unsupported_path", "unsupported_field")
)


class ProviderError(Exception):
    """An upstream failed. `message` is a sentence a caller may read: it never holds a credential.

    `retryable` says whether another deployment may do better; `retry_after` is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: Kind,
        retryable: bool | None = None,
        retry_after: float | None = None,
        upstream_status: int | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__()  # what is in the arguments could not be cleaned any more
        self.message = message
        self.kind: Kind = kind
        self.retryable = kind not in FINAL if retryable is None else retryable
        self.retry_after = retry_after
        self.upstream_status = upstream_status
        self.param = param
        self.code = code

    def __str__(self) -> str:
        return self.message


class CannotCarry(Exception):
    """A request holds something this deployment cannot do; `param` names it."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def cannot_carry(name: str) -> CannotCarry:
    """For a field, by its name."""
    return CannotCarry(f"'{name}' cannot be carried to this upstream.", name)
