"""Work that goes straight through: what openai-python and plain HTTP see, and what is left of it."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import StartGateway
from tests.fakes.openai import HTML, KEY, FakeOpenAI, raw, refusal
from tests.fakes.openai_media import (
    IMAGE_USAGE,
    RERANK_TOKENS,
    SOUND,
    SOUND_USAGE,
    WORDS,
    FakeMedia,
    hears,
    parts_of,
    speaks,
    streamed,
    vllm_hears,
)
from tests.fakes.scenes import PICTURE
from tests.fakes.server import Gate, wait_until
from tests.live.server import Gateway
from tests.live.wire import Answer, Caller, call, request_bytes

MEGABYTE = 1 << 20
SAID = "".join(WORDS)
PIXEL = base64.b64decode(PICTURE)
GENERATIONS, SPEECH, TRANSCRIPTIONS = "/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"
MODERATIONS, RERANK = "/v1/moderations", "/v1/rerank"
BODIES: dict[str, dict[str, Any]] = {
    GENERATIONS: {"model": "painter", "prompt": "A bear"},
    SPEECH: {"model": "speaker", "input": "Grüezi", "voice": "alloy"},
    MODERATIONS: {"model": "guardian", "input": "Grüezi"},
    RERANK: {"model": "ranker", "query": "Which city?", "documents": ["Bern", "Zürich"]},
}
ROUTES = {"painter": "paint", "speaker": "say", "hearer": "hear", "guardian": "guard", "ranker": "rank"}


@pytest.fixture(scope="module")
def fake_media() -> Iterator[FakeMedia]:
    with FakeMedia() as media:
        yield media


@pytest.fixture(scope="module")
def lacking() -> Iterator[FakeOpenAI]:
    """A server that has words and nothing else."""
    with FakeOpenAI(models=("words",)) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def routes(live: Gateway, fake_media: FakeMedia, lacking: FakeOpenAI) -> None:
    live.connect("media", fake_media.url, KEY)
    live.connect("hasty media", fake_media.url, KEY, connect=1, first_event=1, idle=1, total=4)
    live.connect("words only", lacking.url, KEY)
    for name, model in ROUTES.items():
        live.route(name, f"media:{model}")
    live.route("lacks", "words only:words")
    live.route("rescued", "words only:words", priority=0)
    live.route("rescued", "media:hear", priority=1)
    live.route("falters", "hasty media:falters", priority=0)
    live.route("falters", "media:hear", priority=1)
    live.manage("route", "chats", "media:hear", "--works", "chat,completion")


@pytest.fixture
def media(fake_media: FakeMedia) -> Iterator[FakeMedia]:
    fake_media.forget()
    yield fake_media
    assert fake_media.complaints == []


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def form(*parts: tuple[str, bytes], boundary: str = "xYzZY") -> bytes:
    """Each part is its headers, without the last line end, and its content."""
    lines = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


def field(name: str, value: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


def file(content: bytes, name: str = "file") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"; filename="a.mp3"\r\nContent-Type: audio/mpeg', content


def send(gateway: Gateway, body: bytes, path: str = TRANSCRIPTIONS, **headers: str | None) -> Answer:
    return call(gateway, path, body, **{"content_type": "multipart/form-data; boundary=xYzZY", **headers})


def refused(answered: Answer, status: int, param: str | None = None) -> dict[str, Any]:
    assert answered.status == status, answered
    assert answered.error["param"] == param, answered
    return answered.error


def kept_files(gateway: Gateway) -> list[str]:
    """Files on disk that a worker still holds, though they have no name any more."""
    found = []
    for worker in gateway.workers():
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            try:
                target = os.readlink(descriptor)
            except FileNotFoundError:
                continue
            if target.startswith(str(gateway.folder)) and target.endswith("(deleted)"):
                found.append(target)
    return found


# ------------------------------------------------------------------------------------------------ images


def test_images_are_made(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    raw_answer = client.images.with_raw_response.generate(model="painter", prompt="A bear", n=2, size="1024x1024")
    made = raw_answer.parse()
    assert [each.b64_json for each in made.data or []] == [PICTURE, PICTURE]
    assert media.heard("paint").body == {"model": "paint", "prompt": "A bear", "n": 2, "size": "1024x1024"}
    row = gateway.row(raw_answer.headers["x-request-id"])
    assert (row["route_name"], row["profile_name"], row["upstream_model"]) == ("painter", "media", "paint")
    assert (row["status"], row["ending"], row["lane"], bool(row["streamed"])) == (200, "completed", "straight", False)
    assert (row["input_tokens"], row["output_tokens"]) == (IMAGE_USAGE["input_tokens"], IMAGE_USAGE["output_tokens"])
    assert row["tokens_from"] == "upstream"
    assert row["language_in"] == row["language_out"] == "openai_image_generations"


def test_images_are_streamed(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    with client.images.generate(model="painter", prompt="A bear", stream=True, partial_images=1) as events:
        kinds = [event.type for event in events]
        request_id = events.response.headers["x-request-id"]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    row = gateway.row(request_id)
    assert (row["ending"], bool(row["streamed"]), row["input_tokens"]) == ("completed", True, 50)


def test_images_are_edited(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    files = [("bear.png", PIXEL, "image/png"), ("cub.png", PIXEL[::-1], "image/png")]
    edited = client.images.edit(model="painter", image=files, prompt="With a hat")
    assert edited.data
    assert edited.data[0].b64_json == PICTURE
    parts = parts_of(media.heard("paint"))
    assert [part.content for part in parts if part.filename] == [PIXEL, PIXEL[::-1]]
    assert [part.filename for part in parts if part.filename] == ["bear.png", "cub.png"]
    assert media.heard("paint").path == "/v1/images/edits"


def test_edited_images_are_streamed(client: openai.OpenAI, media: FakeMedia) -> None:
    with client.images.edit(model="painter", image=("a.png", PIXEL), prompt="With a hat", stream=True) as events:
        assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_images_are_varied(client: openai.OpenAI, media: FakeMedia) -> None:
    with pytest.deprecated_call():  # by OpenAI, not by the servers that have it
        assert client.images.create_variation(model="painter", image=("a.png", PIXEL), n=2).data
    assert media.heard("paint").body == {"model": "paint", "image": PIXEL, "n": "2"}


# ------------------------------------------------------------------------------------------------- sound


def test_words_are_spoken_byte_for_byte(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    spoken = client.audio.speech.create(model="speaker", input="Grüezi", voice="alloy")
    assert spoken.content == SOUND
    assert spoken.response.headers["content-type"] == "audio/mpeg"
    row = gateway.row(spoken.response.headers["x-request-id"])
    assert (row["status"], row["ending"], row["tokens_from"]) == (200, "completed", "none")
    assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (0, 0, 0)
    assert row["duration_ms"] >= row["first_token_ms"] >= 0


def test_sound_is_handed_on_as_it_is_made(client: openai.OpenAI, media: FakeMedia) -> None:
    gate = Gate(frames=1)
    media.script("say", speaks(gate))
    create = client.audio.speech.with_streaming_response.create
    with create(model="speaker", input="Grüezi", voice="alloy") as spoken:
        pieces = spoken.iter_bytes(8000)
        first = next(pieces)
        assert media.heard("say").frames == 1, "the rest is not made yet"
        gate.open()
        assert first + b"".join(pieces) == SOUND


def test_a_known_length_is_told(gateway: Gateway, media: FakeMedia) -> None:
    media.script("say", speaks(length=True))
    answered = call(gateway, SPEECH, BODIES[SPEECH])
    assert answered.headers["content-length"] == str(len(SOUND))
    assert answered.body == SOUND


def test_speech_comes_as_events_too(gateway: Gateway, media: FakeMedia) -> None:
    with Caller(gateway) as caller:
        caller.ask(SPEECH, BODIES[SPEECH] | {"stream_format": "sse"})
        _, headers = caller.head()
        frames = [json.loads(frame.removeprefix(b"data: ")) for frame in caller.frames()]
    assert headers["content-type"].startswith("text/event-stream")
    assert [frame["type"] for frame in frames] == ["speech.audio.delta", "speech.audio.delta", "speech.audio.done"]
    assert gateway.row(headers["x-request-id"])["output_tokens"] == SOUND_USAGE["output_tokens"]


@pytest.mark.parametrize("length", [True, False], ids=["of known length", "in chunks"])
def test_sound_that_breaks_off_is_never_taken_for_whole(gateway: Gateway, media: FakeMedia, length: bool) -> None:
    media.script("say", speaks(length=length, cut=3))
    with Caller(gateway) as caller:
        caller.ask(SPEECH, BODIES[SPEECH])
        _, headers = caller.head()
        with pytest.raises((ConnectionError, ValueError)):  # no end mark, and fewer bytes than promised
            caller._exactly(len(SOUND)) if length else list(caller.chunks())
    row = gateway.row(headers["x-request-id"])
    assert (row["ending"], row["error_code"], row["status"]) == ("upstream_cut", "upstream_cut", 200)
    assert "Traceback" not in gateway.tail()


def test_a_caller_who_leaves_amid_sound_ends_the_upstreams_work(gateway: Gateway, media: FakeMedia) -> None:
    gate = Gate(frames=1)
    media.script("say", speaks(gate))
    with Caller(gateway) as caller:
        caller.ask(SPEECH, BODIES[SPEECH])
        _, headers = caller.head()
        next(caller.chunks())
        caller.reset()
    assert media.heard("say").wait_left(3)
    assert gateway.row(headers["x-request-id"])["ending"] == "client_gone"


def test_a_caller_who_only_stops_sending_gets_sound_without_a_heartbeat(gateway: Gateway, media: FakeMedia) -> None:
    gate = Gate(frames=1)
    media.script("say", speaks(gate))
    with Caller(gateway) as caller:
        caller.ask(SPEECH, BODIES[SPEECH])
        caller.head()
        chunks = caller.chunks()
        first = next(chunks)
        caller.end_sending()
        assert not media.heard("say").wait_left(1.5), "it still listens"
        gate.open()
        assert first + b"".join(chunks) == SOUND


def test_sound_becomes_text(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    heard = client.audio.transcriptions.with_raw_response.create(
        model="hearer", file=("a.mp3", SOUND, "audio/mpeg"), language="de", temperature=0.2
    )
    assert heard.parse().text == SAID
    body = media.heard("hear").body
    assert body == {"model": "hear", "file": SOUND, "language": "de", "temperature": "0.2"}
    row = gateway.row(heard.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"], row["audio_tokens"]) == (14, 5, 10)
    assert (row["tokens_from"], row["ending"]) == ("upstream", "completed")


@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
def test_text_comes_in_every_format(client: openai.OpenAI, media: FakeMedia, kind: Any) -> None:
    heard = client.audio.transcriptions.with_raw_response.create(
        model="hearer", file=("a.mp3", SOUND), response_format=kind
    )
    assert heard.content == f"{SAID}\n".encode()
    assert heard.headers["content-type"] == "text/plain; charset=utf-8"


def test_seconds_are_no_tokens(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    heard = client.audio.transcriptions.with_raw_response.create(
        model="hearer", file=("a.mp3", SOUND), response_format="verbose_json"
    )
    assert heard.parse().duration == 2.5
    row = gateway.row(heard.headers["x-request-id"])
    assert (row["tokens_from"], row["input_tokens"], row["cost"]) == ("none", 0, 0)


def test_text_is_streamed_as_it_is_heard(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    gate = Gate(frames=1)
    media.script("hear", hears(gate))
    with client.audio.transcriptions.create(model="hearer", file=("a.mp3", SOUND), stream=True) as events:
        first = next(iter(events))
        assert first.type == "transcript.text.delta"
        assert media.heard("hear").wait_frames(1)
        gate.open()
        rest = list(events)
        request_id = events.response.headers["x-request-id"]
    assert [event.type for event in rest[-2:]] == ["transcript.text.delta", "transcript.text.done"]
    assert media.heard("hear").body["stream"] == "true"
    row = gateway.row(request_id)
    assert (row["ending"], bool(row["streamed"]), row["input_tokens"]) == ("completed", True, 14)


def test_events_that_name_the_model_name_the_route(gateway: Gateway, media: FakeMedia) -> None:
    media.script("hear", vllm_hears)
    answered = send(gateway, form(file(SOUND), field("stream", "true"), field("model", "hearer")))
    assert answered.body.count(b'"model":"hearer"') == len(WORDS)
    assert b'"hear"' not in answered.body
    assert answered.body.endswith(b"data: [DONE]\n\n")


def test_a_stream_that_breaks_says_so(gateway: Gateway, media: FakeMedia) -> None:
    said = b'data: {"type": "transcript.text.delta", "delta": "Gr\xc3\xbcezi"}\n\n'
    trouble = b'data: {"error": {"message": "Out of memory: %b", "type": "server_error"}}\n\n' % KEY.encode()
    media.script("hear", streamed([said, trouble]))
    answered = send(gateway, form(field("model", "hearer"), field("stream", "true"), file(SOUND)))
    first, second = answered.body.split(b"\n\n")[:2]
    assert first + b"\n\n" == said
    assert json.loads(second.removeprefix(b"data: "))["error"]["code"] == "upstream_error"
    assert KEY.encode() not in answered.body
    assert gateway.row(answered.request_id)["ending"] == "upstream_cut"


def test_sound_is_translated(client: openai.OpenAI, media: FakeMedia) -> None:
    with pytest.deprecated_call():  # by OpenAI, not by the servers that have it
        assert client.audio.translations.create(model="hearer", file=("a.mp3", SOUND)).text == SAID
    assert media.heard("hear").path == "/v1/audio/translations"


# -------------------------------------------------------------------------- moderation and reranking


def test_texts_are_moderated(client: openai.OpenAI, gateway: Gateway, media: FakeMedia) -> None:
    judged = client.moderations.with_raw_response.create(model="guardian", input=["Grüezi", "Salü"])
    assert [result.flagged for result in judged.parse().results] == [False, False]
    assert judged.parse().model == "guardian"
    assert media.heard("guard").body == {"model": "guard", "input": ["Grüezi", "Salü"]}
    assert gateway.row(judged.headers["x-request-id"])["tokens_from"] == "none"


@pytest.mark.parametrize("path", [RERANK, "/api/v1/rerank", "/v1/rerank/"])
def test_documents_are_ranked(gateway: Gateway, media: FakeMedia, path: str) -> None:
    answered = call(gateway, path, BODIES[RERANK] | {"top_n": 2})
    assert answered.status == 200
    assert answered.json()["model"] == "ranker"
    assert [result["index"] for result in answered.json()["results"]] == [0, 1]
    assert media.heard("rank").body["top_n"] == 2
    assert gateway.row(answered.request_id)["input_tokens"] == RERANK_TOKENS


def test_only_the_models_name_is_changed_in_an_answer(gateway: Gateway, media: FakeMedia) -> None:
    odd = b'{"id":"r",  "model" : "rank","results":[ {"score":1.50,"x":1e-7} ], "tomorrow": null}\n'
    media.script("rank", raw(200, odd, "application/json"))
    answered = call(gateway, RERANK, BODIES[RERANK])
    assert answered.body == odd.replace(b'"model" : "rank"', b'"model":"ranker"')


# ------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "in chunks"])
@pytest.mark.parametrize("size", [0, 5, 300_000, 2_000_000])
def test_a_form_arrives_byte_for_byte(gateway: Gateway, media: FakeMedia, size: int, chunked: bool) -> None:
    sound = (SOUND * (size // len(SOUND) + 1))[:size] + b"\r\n--xYzZ\r\n"
    odd = 'content-disposition:form-data; name=prompt\r\nX-Odd:  1 \r\nContent-Type: text/plain; charset="utf-8"'
    quaint = "Content-Type: audio/x\r\nCONTENT-DISPOSITION: form-data; filename*=utf-8''%C3%BC.mp3; name=\"file\""
    body = form((quaint, sound), field("model", "hearer"), (odd, b"\r\n"))
    if chunked:
        pieces = [body[start : start + 70_000] for start in range(0, len(body), 70_000)]
        data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        answered = send(gateway, data, content_length=None, transfer_encoding="chunked")
    else:
        answered = send(gateway, body)
    assert answered.status == 200, answered
    heard = media.heard("hear")
    assert heard.raw == body.replace(b"\r\n\r\nhearer\r\n", b"\r\n\r\nhear\r\n")
    assert heard.headers["content-type"] == "multipart/form-data; boundary=xYzZY"
    assert heard.headers["content-length"] == str(len(body) - 2)


BROKEN = {
    "no boundary in front": b"Hello" + form(field("model", "hearer"), file(b"x")),
    "no boundary at the end": form(field("model", "hearer"), file(b"x"))[:-6],
    "nothing but the end": b"--xYzZY--\r\n",
    "cut in a head": form(field("model", "hearer"), file(b"x"))[:30],
    "another boundary": form(field("model", "hearer"), file(b"x"), boundary="other"),
    "something after the end": form(field("model", "hearer"), file(b"x")) + b"more",
    "lines of newlines alone": form(field("model", "hearer"), file(b"x")).replace(b"\r\n", b"\n"),
    "a part without a name": form(field("model", "hearer"), ("Content-Disposition: form-data", b"x")),
    "a part without headers": form(field("model", "hearer"), ("", b"x")),
    "a header that is none": form(field("model", "hearer"), ("Content-Disposition", b"x")),
    "a head without end": form(("X-Long: " + "x" * 20_000, b"x")),
    "too many parts": form(*[field("a", "b")] * 1001),
    # What another server might read as a second model.
    "a boundary within a file": form(field("model", "hearer"), file(b"x--xYzZY\r\n")),
    "a boundary after a newline": form(field("model", "hearer"), file(b"\n--xYzZY\r\n" + b"hidden")),
    "a name in two ways": form(
        field("model", "hearer"), ("Content-Disposition: form-data; name=\"a\"; name*=utf-8''model", b"gpt")
    ),
    "a name twice": form(field("model", "hearer"), ('Content-Disposition: form-data; name="a"; name="model"', b"gpt")),
    "a name with an escape": form(field("model", "hearer"), ('Content-Disposition: form-data; name="mod\\el"', b"gpt")),
    "a folded header": form(field("model", "hearer"), ('Content-Disposition: form-data;\r\n name="model"', b"gpt")),
    "two dispositions": form(
        field("model", "hearer"),
        ('Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="model"', b"gpt"),
    ),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_form_is_refused(gateway: Gateway, media: FakeMedia, body: bytes | str) -> None:
    answered = send(gateway, body.encode() if isinstance(body, str) else body)
    assert "form" in refused(answered, 400)["message"]
    assert answered.error["code"] == "invalid_form"
    assert media.asked() == []


@pytest.mark.parametrize("parameter", ["", "; boundary=", '; boundary="a;b"', "; boundary=a; boundary=xYzZY"])
def test_a_form_needs_a_boundary(gateway: Gateway, media: FakeMedia, parameter: str) -> None:
    body = form(field("model", "hearer"), file(b"x"))
    refused(send(gateway, body, content_type=f"multipart/form-data{parameter}"), 400)
    assert media.asked() == []


NO_MODEL = {
    "none": form(file(b"x")),
    "two": form(field("model", "hearer"), field("model", "hear"), file(b"x")),
    "an empty one": form(field("model", ""), file(b"x")),
    "one that is no UTF-8": form(('Content-Disposition: form-data; name="model"', b"\xff"), file(b"x")),
    "one that is too long": form(field("model", "h" * 1001), file(b"x")),
}


@pytest.mark.parametrize("body", NO_MODEL.values(), ids=NO_MODEL.keys())
def test_a_form_names_one_model(gateway: Gateway, media: FakeMedia, body: bytes) -> None:
    refused(send(gateway, body), 400, "model")
    assert media.asked() == []


@pytest.mark.parametrize("path", BODIES)
def test_a_missing_model_is_named(gateway: Gateway, media: FakeMedia, path: str) -> None:
    body = {name: value for name, value in BODIES[path].items() if name != "model"}
    refused(call(gateway, path, body), 400, "model")


@pytest.mark.parametrize("path", BODIES)
def test_files_are_refused_where_none_are_taken(gateway: Gateway, media: FakeMedia, path: str) -> None:
    refused(send(gateway, form(field("model", "painter"), file(b"x")), path), 415)


def test_a_refused_form_leaves_its_row(gateway: Gateway, media: FakeMedia) -> None:
    for body in (BROKEN["no boundary at the end"], NO_MODEL["none"]):
        row = gateway.row(send(gateway, body).request_id)
        assert (row["status"], row["ending"], row["tokens_from"], row["cost"]) == (400, "refused", "none", 0)


def test_an_empty_form_is_refused(gateway: Gateway, media: FakeMedia) -> None:
    refused(send(gateway, b""), 400, "model")


# --------------------------------------------------------------------------------- who may, and where


def test_a_route_the_key_may_not_use_is_not_there(gateway: Gateway, media: FakeMedia) -> None:
    bearer = f"Bearer {gateway.apikey('ada', 'paints only', routes='painter')}"
    gateway.noticed()
    assert call(gateway, GENERATIONS, BODIES[GENERATIONS], authorization=bearer).status == 200
    answered = send(gateway, form(field("model", "hearer"), file(SOUND)), authorization=bearer)
    assert refused(answered, 404, "model")["code"] == "model_not_found"
    assert send(gateway, form(field("model", "hearer"), file(SOUND)), authorization="Bearer sk-sb-no").status == 401
    assert media.asked("hear") == []


def test_a_route_that_does_not_do_this_work_says_so(gateway: Gateway, media: FakeMedia) -> None:
    answered = send(gateway, form(field("model", "chats"), file(SOUND)))
    assert "transcription" in refused(answered, 400, "model")["message"]
    gateway.manage("route", "chats", "media:hear", "--works", "all")
    gateway.noticed()
    assert send(gateway, form(field("model", "chats"), file(SOUND))).status == 200
    gateway.manage("route", "chats", "media:hear", "--works", "chat,completion")


def test_a_kind_of_account_that_has_none_of_it_says_so(gateway: Gateway) -> None:
    for path, body in BODIES.items():
        refused(call(gateway, path, body | {"model": "echo"}), 400, "model")


def test_an_upstream_that_lacks_it_says_so(gateway: Gateway, lacking: FakeOpenAI) -> None:
    answered = send(gateway, form(field("model", "lacks"), file(SOUND)))
    assert refused(answered, 404)["code"] == "model_not_found"
    assert [heard.path for heard in lacking.asked()][-1] == TRANSCRIPTIONS


def test_the_next_deployment_gets_the_whole_form(gateway: Gateway, media: FakeMedia) -> None:
    answered = send(gateway, form(file(SOUND * 20), field("model", "rescued")))
    assert answered.status == 200
    assert media.heard("hear").body["file"] == SOUND * 20
    attempts = gateway.row(answered.request_id)["attempts"]
    tried = json.loads(attempts) if isinstance(attempts, str) else attempts
    assert [each.get("error") for each in tried] == ["unsupported_path", None]


TROUBLE = {
    "overloaded": refusal(503, "Busy."),
    "closed": lambda exchange: exchange.close(),
    "a page": raw(200, HTML, "text/html; charset=utf-8"),
    "no JSON": raw(200, b'{"text": "Gr', "application/json"),
    "an error dressed as success": raw(200, b'{"error": {"message": "No memory.", "type": "x"}}', "application/json"),
    "silence": lambda exchange: exchange.hang(),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
def test_a_failing_deployment_is_stood_in_for(gateway: Gateway, media: FakeMedia, trouble: Any) -> None:
    media.script("falters", trouble)
    answered = send(gateway, form(file(SOUND), field("model", "falters")))
    assert answered.status == 200, answered
    assert answered.json()["text"] == SAID
    # A kept connection that closes without a byte may have been idle too long: it is replaced, once.
    assert len(media.asked("falters")) in ((1, 2) if trouble is TROUBLE["closed"] else (1,))


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (refusal(400, "Audio file might be corrupted.", param="file"), 400, "upstream_refused"),
        (refusal(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key"), 502, "upstream_auth_error"),
        (refusal(400, f"Bad key {KEY} in a sentence."), 400, "upstream_refused"),
        (refusal(429, "Slow down.", headers=["Retry-After: 7"]), 429, "rate_limit_exceeded"),
        (refusal(500, "Out of memory."), 502, "upstream_error"),
    ],
)
def test_an_upstreams_refusal_is_the_callers_error(
    gateway: Gateway, media: FakeMedia, behaviour: Any, status: int, code: str
) -> None:
    media.script("hear", behaviour)
    answered = send(gateway, form(field("model", "hearer"), file(SOUND)))
    assert (answered.status, answered.error["code"]) == (status, code)
    assert KEY not in answered.body.decode()
    assert KEY not in str(answered.headers)
    assert gateway.row(answered.request_id)["ending"] == "failed"


def test_nothing_of_the_upstreams_own_headers_is_told(gateway: Gateway, media: FakeMedia) -> None:
    for path, body in BODIES.items():
        answered = call(gateway, path, body)
        assert answered.status == 200
        assert "the-upstream-account" not in str(answered.headers)
        assert "set-cookie" not in answered.headers
        assert "req_upstream" not in str(answered.headers)


# ---------------------------------------------------------------------------------------------- size


def test_a_form_that_is_too_large_is_refused(gateway: Gateway, media: FakeMedia) -> None:
    with Caller(gateway) as caller:
        caller.send(
            request_bytes(
                gateway, TRANSCRIPTIONS, b"--xYzZY",
                content_type="multipart/form-data; boundary=xYzZY", content_length=str(33 * MEGABYTE),
            )
        )  # fmt: skip
        assert refused(caller.answer(), 413)["code"] == "request_too_large"


def test_a_keys_own_limit_holds_for_forms(gateway: Gateway, media: FakeMedia) -> None:
    bearer = f"Bearer {gateway.apikey('ada', 'small forms')}"
    gateway.change_key("small forms", max_body_mb=1)
    gateway.noticed()
    body = form(field("model", "hearer"), file(b"x" * 2 * MEGABYTE))
    refused(send(gateway, body, authorization=bearer), 413)
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    headers: dict[str, str | None] = {"content_length": None, "transfer_encoding": "chunked", "authorization": bearer}
    refused(send(gateway, chunked, **headers), 413)
    assert media.asked() == []


def test_a_caller_who_leaves_amid_a_form_is_noted(gateway: Gateway, media: FakeMedia) -> None:
    key = gateway.apikey("ada", "leaves early")
    began = datetime.now(UTC)
    body = form(field("model", "hearer"), file(b"x" * 4 * MEGABYTE))
    data = request_bytes(
        gateway, TRANSCRIPTIONS, body, content_type="multipart/form-data; boundary=xYzZY", authorization=f"Bearer {key}"
    )
    with Caller(gateway) as caller:
        caller.send(data[: 3 * MEGABYTE])
    row = gateway.wait_row(key_name="leaves early")
    assert (row["ending"], row["status"]) == ("client_gone", 499)
    assert began.isoformat()[:10] in str(row["started_at"])
    assert media.asked() == []
    assert wait_until(lambda: kept_files(gateway) == [], 3)


def test_a_caller_who_leaves_before_the_answer_leaves_no_file(gateway: Gateway, media: FakeMedia) -> None:
    media.script("hear", lambda exchange: exchange.hang())
    body = form(field("model", "hearer"), file(b"x" * 4 * MEGABYTE))
    with Caller(gateway) as caller:
        caller.ask(TRANSCRIPTIONS, body, content_type="multipart/form-data; boundary=xYzZY")
        media.heard("hear")
        assert kept_files(gateway) != [], "the form waits on disk in case that another deployment must have it"
        caller.reset()
    assert media.heard("hear").wait_left(3)
    assert wait_until(lambda: kept_files(gateway) == [], 3)


def test_no_file_is_left_behind(gateway: Gateway, media: FakeMedia) -> None:
    before = set((gateway.folder / "data").iterdir())
    large = file(b"x" * 2 * MEGABYTE)
    assert send(gateway, form(large, field("model", "hearer"))).status == 200
    assert send(gateway, form(large, field("model", "nobody"))).status == 404
    assert send(gateway, form(large, field("model", "hearer"))[:-6]).status == 400
    media.script("hear", refusal(400, "Too long."))
    assert send(gateway, form(large, field("model", "hearer"))).status == 400
    assert wait_until(lambda: kept_files(gateway) == [], 3)
    assert set((gateway.folder / "data").iterdir()) == before


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "in chunks"])
def test_a_large_file_is_never_held_in_memory(
    start_gateway: StartGateway, media: FakeMedia, chunked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    size = 60 * MEGABYTE
    gateway = start_gateway(WEB_CONCURRENCY="1", MAX_BODY_MB="100")
    gateway.connect("media", media.url, KEY)
    gateway.route("hearer", "media:hear")
    gateway.noticed()
    assert send(gateway, form(field("model", "hearer"), file(SOUND))).status == 200
    before = peak(gateway)
    body = form(file(b"\xfe" * size), field("model", "hearer"))
    with Caller(gateway, timeout=60) as caller:
        head = {"content_type": "multipart/form-data; boundary=xYzZY"}
        if chunked:
            caller.send(
                request_bytes(gateway, TRANSCRIPTIONS, None, **head, content_length=None, transfer_encoding="chunked")
            )
            for start in range(0, len(body), MEGABYTE):
                piece = body[start : start + MEGABYTE]
                caller.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            caller.send(b"0\r\n\r\n")
        else:
            caller.send(request_bytes(gateway, TRANSCRIPTIONS, body, **head))
        answered = caller.answer()
    assert answered.json()["text"] == SAID
    assert len(media.heard("hear", 2).raw) == len(body) - 2
    growth = peak(gateway) - before
    with capsys.disabled():
        print(f"\n60 MiB: peak memory grew by {growth / MEGABYTE:.1f} MiB")
    assert growth < 15 * MEGABYTE
    gateway.stop()


def peak(gateway: Gateway) -> int:
    """The largest resident size that the worker has had, in bytes."""
    workers = [pid for pid in gateway.workers() if b"background" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 1
    status = Path(f"/proc/{workers[0]}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def test_the_file_may_be_a_stream_of_unknown_length(client: openai.OpenAI, media: FakeMedia) -> None:
    assert client.audio.transcriptions.create(model="hearer", file=("a.mp3", io.BytesIO(SOUND))).text == SAID
    assert media.heard("hear").body["file"] == SOUND
