"""The path of a call, from top to bottom: read, route, ask, answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import gevent
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from apikeys.authentication import key_of
from gateway.asked import Asked, read
from gateway.errors import ClientGone, Draining, NothingAvailable, RouteUnknown, fault
from gateway.reply import Departure, Reply, StreamResponse, whole
from profiles import routing, tokens
from profiles.routing import Lane
from providers import capabilities, streams
from providers.base import Provider, Target
from providers.conversation import Answer, Usage
from providers.languages.errors import answer_document
from providers.languages.language import EmbeddingLanguage, Language, Stamp
from providers.languages.openai_passthrough import EventTap, PassThrough
from providers.multipart import ReaddressedForm
from providers.streams import AnswerStream, ReadyEvents, StraightStream, TranslatedStream, UpstreamEvents
from providers.wire import client
from providers.wire.errors import CannotCarry, ProviderError
from usage.metering import Call
from usage.models import Ending

LONGEST_WAIT = 86_400  # seconds an upstream may ask for
LONGEST_HEADER = 1000  # characters of one we write
AS_IT_CAME = ("content-length", "content-encoding")  # of an answer whose bytes are not changed


def relay(http: Request, language: Language) -> HttpResponseBase:
    """Answer one call. Whatever happens, it is metered and ends exactly once."""
    call = Call(
        http.META["switchboard.call_id"],
        key_of(http),
        language.name,
        http.META.get("HTTP_USER_AGENT", ""),
        http.META.get("HTTP_X_REQUEST_ID", ""),
    )
    departure = Departure(http.META)
    try:
        asked = read(http, call, language)
        departure.start()
        answer = ask(asked, call, departure)
    except BaseException as error:
        departure.stop()
        http.META["switchboard.attempts"] = len(call.attempts)
        settle(call, error)
        raise
    if not isinstance(answer, StreamResponse):
        departure.stop()
    return answer


def ask(asked: Asked, call: Call, departure: Departure) -> HttpResponseBase:
    """Try the deployments of the route in order, until one has begun to answer.

    Another one is only tried where it may do better: the same wrong input fails everywhere.
    """
    failure: ProviderError | None = None
    refusal: CannotCarry | None = None
    for deployment in routing.in_order(asked.route):
        if deployment.lacks and (lacking := capabilities.refusal(deployment.lacks, asked.needs)):
            refusal = refusal or lacking
            continue
        not_spoken: set[str] = set()
        spoken = False
        unstreamed = asked.envelope.stream and "streaming" in deployment.lacks
        for lane in routing.lanes(deployment, asked.language, unstreamed):
            spoken = True
            try:
                answer = through(lane, asked, call, departure)
            except CannotCarry as error:
                refusal = refusal or error
            except ProviderError as error:
                call.attempt_failed(error.kind, error.upstream_status)
                failure = error
                if error.kind == "unsupported_path" and lane.language is not None:
                    if error.upstream_status not in (400, 422):  # those speak of this request alone
                        not_spoken.add(lane.language.name)
                    continue
                if not error.retryable:
                    raise
                break
            else:
                # Only an answer in another language proves that the first one is not spoken here; a server
                # that has nothing at all for a while is asked in it again.
                deployment.learned.refused_languages |= not_spoken
                return answer
        if not spoken and (deployment.speaks() or deployment.provider.answers_itself):
            work = asked.language.work
            refusal = refusal or CannotCarry(f"No model behind this name does this kind of work ({work}).", "model")
    if (estimated := asked.language.estimated(asked.body)) is not None:
        return estimate(estimated, asked, call)
    raise failure or asked.in_callers_words(refusal) or NothingAvailable(asked.route.name)


def through(lane: Lane, asked: Asked, call: Call, departure: Departure) -> HttpResponseBase:
    """Ask one deployment in one language. Raises ProviderError or CannotCarry while another may be tried."""
    if not lane.straight and asked.language.asks_nothing(asked.body):
        return at_once(lane, asked, call)
    if lane.language is None:
        return by_itself(lane, asked, call, departure)
    response = send(lane, lane.language, asked, call)
    try:
        if isinstance(lane.language, PassThrough):
            return hand_on(response, lane, lane.language, asked, call, departure)
        if asked.envelope.stream:
            # Also where the upstream had to be asked for the whole: it is cut into events.
            stream = open_stream(response, lane, lane.language, asked, call)
            return begin(stream, lane, asked, call, departure)
        body = response.read()
        response.finish()
        return whole(read_whole(body, lane, lane.language, asked, call), headers_of(lane, asked))
    except BaseException as error:
        response.close()
        if isinstance(error, ProviderError):
            response.target.clean(error)
        raise


def send(lane: Lane, language: Language, asked: Asked, call: Call, again: bool = False) -> client.Response:
    """The request in the upstream's language, sent; returns once an answer of success has begun.

    A token that the upstream refuses is renewed, and the request sent `again`, once.
    """
    deployment, learned = lane.deployment, lane.deployment.learned
    unstreamed = "streaming" in deployment.lacks
    body = body_for(lane, language, asked)  # before the login: who is refused for it costs none
    target = tokens.attached(deployment) if deployment.needs_login else deployment.target
    if isinstance(body, ReaddressedForm):
        request = deployment.provider.upload(target, lane.path, body)
    else:
        request = deployment.provider.request(target, lane.path, body, asked.passed if lane.straight else {})
    call.attempt(lane)
    response = client.send(request, target, asked.envelope.stream and not unstreamed)
    if header := deployment.provider.node_header:
        call.answered_by(response.header(header))
    if 200 <= response.status < 300:
        return response
    error = refusal_of(response, deployment.provider, target)
    if error.kind == "unsupported_field" and asked.envelope.stream and not learned.refuses_usage:
        learned.refuses_usage = True
    elif error.kind == "auth" and error.upstream_status == 401 and target.token and not again:
        tokens.refused(deployment, target.token)
        again = True
    else:
        raise error
    call.attempt_failed(error.kind, error.upstream_status)
    return send(lane, language, asked, call, again)


def body_for(lane: Lane, language: Language, asked: Asked) -> dict[str, Any] | ReaddressedForm:
    """What the upstream is sent: the caller's body under another name, or one in another language."""
    learned = lane.deployment.learned
    if asked.form is not None:
        return asked.form.readdressed(lane.deployment.upstream_model)
    if lane.straight:
        return language.readdress(asked.body, asked.envelope, lane.deployment.upstream_model, not learned.refuses_usage)
    body = asked.written_in(language, lane.deployment)
    if learned.refuses_usage:
        body.pop("stream_options", None)
    return body


def refusal_of(response: client.Response, provider: Provider, target: Target) -> ProviderError:
    if 300 <= response.status < 400:
        response.close()
        return ProviderError(
            f"Upstream '{target.profile}' answered with a redirect; the profile's URL should name the final address.",
            kind="broken",
            upstream_status=response.status,
        )
    error = provider.read_error(response.status, response.read_error(), target.profile)
    target.clean(error)
    retry_after = response.header("retry-after")
    error.retry_after = min(float(retry_after), LONGEST_WAIT) if retry_after.isdecimal() else None
    return error


def headers_of(lane: Lane, asked: Asked) -> dict[str, str]:
    """What was changed on the way: a limit that was lowered, and fields with no place in another language."""
    provider = lane.deployment.provider
    if lane.straight:
        dropped = provider.leaves_out(lane.path, asked.body)
    else:
        dropped = asked.dropped_in(lane.language or provider, lane.deployment)
    if not dropped:
        return asked.headers
    # Names are the caller's own text: what is no plain word is shown as an escape, never as it came.
    named = [asked.language.named(name, asked.body) for name in dropped]
    names = [name if name.replace(".", "_").isidentifier() and name.isascii() else ascii(name) for name in named]
    return {**asked.headers, "x-gateway-dropped": ", ".join(sorted(names))[:LONGEST_HEADER]}


def open_stream(response: client.Response, lane: Lane, language: Language, asked: Asked, call: Call) -> AnswerStream:
    if response.content_type == language.stream_type.partition(";")[0]:
        if lane.straight:
            tap = language.tap(shown_model(lane, asked), asked.envelope.include_usage)
            return StraightStream(response, tap)
        reader = language.reader(asked.request)
        return TranslatedStream(UpstreamEvents(response, reader), writer(lane, asked, call))
    # A server that does not stream: its whole answer is cut into events.
    answer = language.read_answer(answer_document(streams.read_unstreamed(response)), asked.request)
    return TranslatedStream(ReadyEvents(answer.events()), writer(lane, asked, call))


def hand_on(
    response: client.Response, lane: Lane, language: PassThrough, asked: Asked, call: Call, departure: Departure
) -> HttpResponseBase:
    """An answer of whatever type, as it comes. JSON comes whole, so that it can be read."""
    kind = response.content_type
    if kind == "application/json" or kind.endswith("+json"):
        body = response.read()
        response.finish()
        return whole(read_whole(body, lane, language, asked, call), headers_of(lane, asked))
    if kind == "text/html":
        name = lane.deployment.target.profile
        raise ProviderError(f"Upstream '{name}' answered with a page for people.", kind="broken")
    tap = language.watch(kind, shown_model(lane, asked))
    answer = begin(StraightStream(response, tap), lane, asked, call, departure)
    answer.headers["Content-Type"] = response.header("content-type") or "application/octet-stream"
    if not isinstance(tap, EventTap):
        departure.heartbeat = b""
        for name in AS_IT_CAME:
            if value := response.header(name):
                answer.headers[name] = value
    return answer


def begin(stream: AnswerStream, lane: Lane, asked: Asked, call: Call, departure: Departure) -> StreamResponse:
    """Hold back until the first content is here; then there is no other deployment any more."""
    try:
        stream.start()
    except BaseException:
        stream.close()
        raise
    call.first_token()
    departure.heartbeat = asked.language.heartbeat
    reply = Reply(stream, call, departure)
    return StreamResponse(reply, asked.language.stream_type, headers_of(lane, asked))


def read_whole(body: bytes, lane: Lane, language: Language, asked: Asked, call: Call) -> bytes:
    if lane.straight:
        said, call.usage = language.pass_answer(body, shown_model(lane, asked))
        if call.usage is None and call.estimates and language.work != "embedding":
            call.pieces = language.read_answer(answer_document(body)).guessed_tokens()
    elif isinstance(language, EmbeddingLanguage):
        vectors = language.read_embeddings(answer_document(body))
        call.usage = vectors.usage
        caller = cast(EmbeddingLanguage, asked.language)
        said = caller.write_embeddings(vectors, asked.embedding, stamp(lane, asked, call))
    else:
        answer = language.read_answer(answer_document(body), asked.request)
        call.usage, call.pieces = answer.usage, answer.guessed_tokens()
        said = asked.language.write_answer(answer, stamp(lane, asked, call), asked.request)
    call.close(Ending.COMPLETED, 200)
    return said


def at_once(lane: Lane, asked: Asked, call: Call) -> HttpResponseBase:
    """The answer to a request for nothing: no upstream has to be asked."""
    call.usage = Usage()
    said = asked.language.write_nothing(asked.body, stamp(lane, asked, call))
    call.close(Ending.COMPLETED, 200)
    return whole(said, asked.headers)


def by_itself(lane: Lane, asked: Asked, call: Call, departure: Departure) -> HttpResponseBase:
    """An account kind that needs no upstream."""
    provider, target = lane.deployment.provider, lane.deployment.target
    if isinstance(asked.language, EmbeddingLanguage):
        call.attempt(lane)
        vectors = provider.embed(asked.embedding, target)
        call.usage = vectors.usage
        said = asked.language.write_embeddings(vectors, asked.embedding, stamp(lane, asked, call))
        call.close(Ending.COMPLETED, 200)
        return whole(said, headers_of(lane, asked))
    pause: Callable[[float], None] = gevent.sleep
    events = provider.answer(asked.request, target, pause)
    call.attempt(lane)
    if asked.envelope.stream:
        return begin(TranslatedStream(ReadyEvents(events), writer(lane, asked, call)), lane, asked, call, departure)
    answer = Answer.collect(events)
    call.usage = answer.usage
    said = asked.language.write_answer(answer, stamp(lane, asked, call), asked.request)
    call.close(Ending.COMPLETED, 200)
    return whole(said, headers_of(lane, asked))


def estimate(said: bytes, asked: Asked, call: Call) -> HttpResponseBase:
    """What the gateway says itself where no upstream could; it takes no tokens."""
    call.usage = Usage()
    call.close(Ending.COMPLETED, 200)
    return whole(said, {**asked.headers, "x-gateway-estimated": "true"})


def shown_model(lane: Lane, asked: Asked) -> str | None:
    """The model named in the answer; None leaves what the upstream wrote."""
    return None if asked.route.upstream_name else asked.route.name


def stamp(lane: Lane, asked: Asked, call: Call) -> Stamp:
    model = shown_model(lane, asked) or lane.deployment.upstream_model
    return Stamp(call.id.hex, int(time.time()), model, call.elapsed)


def writer(lane: Lane, asked: Asked, call: Call) -> Any:
    return asked.language.writer(stamp(lane, asked, call), asked.envelope.include_usage, asked.request)


def settle(call: Call, error: BaseException) -> None:
    """The ending of a call that got no answer. What is not there (404) is counted, not stored."""
    match error:
        case RouteUnknown():
            call.forget()
        case ClientGone():
            call.close(Ending.CLIENT_GONE, 499, "client_gone")
        case Draining() | gevent.GreenletExit():
            call.close(Ending.DRAINED, 503, "gateway_restarting")
        case _:
            trouble = fault(error)
            failed = isinstance(error, ProviderError) and call.attempts
            call.close(Ending.FAILED if failed else Ending.REFUSED, trouble.status, trouble.code or "")
