"""The straight-through lane: frames byte for byte, but for the model's name; and both lanes' ways to end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Target
from providers.conversation import Usage
from providers.languages.language import Language, Stamp
from providers.languages.openai import OpenAITap
from providers.languages.registry import openai_chat, openai_completions
from providers.streams import StraightStream, TranslatedStream, UpstreamEvents
from providers.wire import client
from providers.wire.errors import ProviderError
from tests.fakes.server import wait_until
from tests.providers import worked
from tests.providers.upstream import EVENT_STREAM, LAST_CHUNK, Upstream, Wire, account, answering, post, stream
from tests.providers.upstream import chunk as http_chunk
from tests.providers.worked import CHAT_STREAMS, DONE, OURS, THEIRS, chunk, frame

NAMED = b'"model":' + json.dumps(OURS).encode()
STAMP = Stamp("018f", 1741569952, OURS)


def expected(frames: list[bytes], asked: bool = True) -> bytes:
    """What the caller must get of these frames: every byte, but for the name and the usage it did not ask for."""
    kept = [written for written in frames if asked or b"prompt_tokens" not in written or b'"delta"' in written]
    theirs = json.dumps(THEIRS).encode()
    passed = b"".join(kept)
    for spelt in (b'"model":' + theirs, b'"model": ' + theirs):
        passed = passed.replace(spelt, NAMED)
    return passed


def tapped(frames: list[bytes], asked: bool = True, model: str | None = OURS) -> tuple[bytes, OpenAITap]:
    tap = openai_chat.tap(model, asked)
    assert isinstance(tap, OpenAITap)
    return b"".join(tap.see(written) or b"" for written in frames), tap


# -- the tap


@pytest.mark.parametrize("asked", [True, False], ids=["usage asked for", "usage not asked for"])
@pytest.mark.parametrize("name", sorted(CHAT_STREAMS))
def test_frames_pass_byte_for_byte_but_for_the_models_name(name: str, asked: bool) -> None:
    passed, tap = tapped(CHAT_STREAMS[name], asked)
    assert passed == expected(CHAT_STREAMS[name], asked)
    assert tap.content


@pytest.mark.parametrize("name", sorted(CHAT_STREAMS))
def test_the_tap_finds_the_finish_the_usage_and_the_end(name: str) -> None:
    _, tap = tapped(CHAT_STREAMS[name], asked=False)
    reasons = {"two parallel tool calls": "tool_calls", "reasoning": "length"}
    assert tap.finish_reason == reasons.get(name, "stop")
    assert tap.usage == (None if name == "no usage" else Usage(19, 10, cached=8, reasoning=2))
    assert tap.ended
    assert tap.closing() == b""


@pytest.mark.parametrize("name", sorted(CHAT_STREAMS))
def test_frames_pass_untouched_when_the_upstreams_name_is_wanted(name: str) -> None:
    assert tapped(CHAT_STREAMS[name], model=None)[0] == b"".join(CHAT_STREAMS[name])


def test_completion_frames_pass_byte_for_byte_as_well() -> None:
    frames = [frame(worked.piece("Hel")), frame(worked.piece("lo")), frame(worked.piece("", "length"))]
    frames += [frame(worked.piece("") | {"choices": [], "usage": worked.USAGE}), DONE]
    for asked in (True, False):
        tap = openai_completions.tap(OURS, asked)
        assert b"".join(tap.see(written) or b"" for written in frames) == b"".join(
            written.replace(b'"model":"' + THEIRS.encode() + b'"', NAMED)
            for written in frames
            if asked or b"prompt_tokens" not in written
        )
        assert (tap.ended, tap.finish_reason, tap.usage) == (True, "length", Usage(19, 10, cached=8, reasoning=2))


def test_usage_beside_choices_is_never_withheld() -> None:
    frames = [frame(chunk({"content": "a"}, usage=worked.USAGE)), frame(chunk({}, "stop", usage=worked.USAGE)), DONE]
    passed, tap = tapped(frames, asked=False)
    assert passed == expected(frames)
    assert tap.usage == Usage(19, 10, cached=8, reasoning=2)


def test_a_chunk_without_choices_that_is_not_usage_passes() -> None:
    filtered = frame(chunk({}) | {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    assert tapped([filtered], asked=False)[0] == expected([filtered])


def test_usage_counts_the_last_time_it_is_said() -> None:
    grown = worked.USAGE | {"completion_tokens": 4, "prompt_tokens_details": None, "completion_tokens_details": None}
    frames = [frame(chunk({"content": "a"}, usage=grown | {"completion_tokens": n})) for n in (1, 2, 3)]
    assert tapped(frames)[1].usage == Usage(19, 3)


def test_the_pieces_of_an_answer_are_counted_about_as_its_tokens() -> None:
    assert tapped(CHAT_STREAMS["a greeting"])[1].pieces == 2


def test_a_role_and_a_ping_are_no_content() -> None:
    tap = tapped([b": ping\n\n", frame(worked.ROLE)])[1]
    assert (tap.content, tap.pieces, tap.ended) == (False, 0, False)


def test_the_first_chunk_of_azure_names_no_model_and_the_others_are_swapped_all_the_same() -> None:
    """Azure OpenAI's first chunk holds the results of its prompt filter alone."""
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}
    passed, _ = tapped([frame(first), *CHAT_STREAMS["a greeting"]])
    assert THEIRS.encode() not in passed


def test_a_model_name_without_the_choices_around_it_is_swapped_in_every_frame_it_stands_in() -> None:
    passed, _ = tapped(CHAT_STREAMS["text that looks like the frame around it"])
    assert passed.count(NAMED) == len(worked.TRICKY) + 1
    assert passed.count(THEIRS.encode()) == 1  # the model's own words


@given(st.lists(st.text(max_size=30) | st.sampled_from([worked.TRICKY_TEXT, '"', "\\", '\\"model\\":']), max_size=4),
       st.booleans(), st.booleans(), st.booleans())  # fmt: skip
@settings(deadline=None, database=None, max_examples=300)
def test_whatever_the_model_says_passes_unchanged(said: list[str], last: bool, wide: bool, escaped: bool) -> None:
    documents = [worked.ROLE, *(chunk({"content": text}) for text in said), chunk({}, "stop")]
    documents = [worked.model_last(document) for document in documents] if last else documents
    space = (", ", ": ") if wide else (",", ":")
    frames = [
        b"data: " + json.dumps(document, separators=space, ensure_ascii=escaped).encode() + b"\n\n"
        for document in documents
    ]
    passed, tap = tapped([*frames, DONE], asked=False)
    read = [json.loads(line.removeprefix(b"data: ")) for line in passed.split(b"\n\n")[:-2]]
    assert read == [document | {"model": OURS} for document in documents]
    assert (tap.finish_reason, tap.ended) == ("stop", True)


@pytest.mark.parametrize(
    "end", [b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b": bye\ndata: [DONE]\n\n",
            b"event: done\ndata: [DONE]\n\n", b"id: 9\ndata: [DONE]\n\n", b"\ndata: [DONE]\n\n", b"data: [DONE] \n\n",
            b"retry: 5\r\ndata: [DONE]\r\n\r\n"]
)  # fmt: skip
def test_the_end_mark_is_known_however_it_is_written(end: bytes) -> None:
    passed, tap = tapped([*CHAT_STREAMS["a greeting"][:-1], end])
    assert passed.endswith(end)
    assert tap.ended


@pytest.mark.parametrize("late", [False, True], ids=["first", "after content"])
@pytest.mark.parametrize(
    "written",
    [
        b'data: {"error":{"message":"CUDA out of memory","type":"server_error","code":500}}\n\n',
        b'data:{"error":"CUDA out of memory"}\r\n\r\n',
        b'event: error\ndata: {"message":"x","object":"error"}\n\n',
        b'id: 7\ndata: {"object": "error", "message": "CUDA out of memory", "code": 500}\n\n',
    ],
)
def test_an_error_in_a_frame_is_an_error(written: bytes, late: bool) -> None:
    tap = tapped(CHAT_STREAMS["a greeting"][:2] if late else [])[1]
    with pytest.raises(ProviderError) as error:
        tap.see(written)
    assert error.value.retryable
    assert "CUDA" not in error.value.message


@pytest.mark.parametrize(
    "written", [b"data: not json at all\n\n", b"data: [1, 2]\n\n", b"data: \xff\n\n", b"data:\n\n"]
)
def test_a_first_frame_that_is_no_chunk_is_a_fault_of_the_upstream(written: bytes) -> None:
    with pytest.raises(ProviderError) as error:
        tapped([written])
    assert error.value.kind == "broken"


# -- real streams


@contextmanager
def open_lane(body: bytes, *, asked: bool = True, straight: bool = True, language: Language = openai_chat
              ) -> Iterator[StraightStream | TranslatedStream]:  # fmt: skip
    """One answer of a real server, in either lane."""
    with Upstream(answering(body)) as upstream, opened(account(upstream.url), asked, straight, language) as lane:
        yield lane


@contextmanager
def opened(target: Target, asked: bool = True, straight: bool = True, language: Language = openai_chat
           ) -> Iterator[StraightStream | TranslatedStream]:  # fmt: skip
    response = client.send(post(target.settings["url"]), target, stream=True)
    lane: StraightStream | TranslatedStream
    if straight:
        lane = StraightStream(response, language.tap(OURS, asked))
    else:
        lane = TranslatedStream(UpstreamEvents(response, language.reader()), language.writer(STAMP, asked))
    try:
        yield lane
    finally:
        lane.close()
        lane.close()


def passed_on(lane: StraightStream | TranslatedStream) -> bytes:
    lane.start()
    return b"".join(lane)


def translated(frames: list[bytes]) -> bytes:
    """The same frames read into events and written afresh."""
    reader, writer = openai_chat.reader(), openai_chat.writer(STAMP, include_usage=True)
    events = [event for written in frames for event in reader.read_frame(written)]
    return b"".join(map(writer.write, events)) + writer.close()


@pytest.mark.parametrize("name", sorted(CHAT_STREAMS))
def test_a_stream_passes_through_a_real_connection(name: str) -> None:
    with open_lane(stream(*CHAT_STREAMS[name])) as lane:
        assert passed_on(lane) == expected(CHAT_STREAMS[name])
        assert lane.ended
        assert lane.usage == (None if name == "no usage" else Usage(19, 10, cached=8, reasoning=2))


@pytest.mark.parametrize("name", sorted(CHAT_STREAMS))
def test_a_stream_is_translated_from_a_real_connection(name: str) -> None:
    with open_lane(stream(*CHAT_STREAMS[name]), straight=False) as lane:
        written = passed_on(lane)
        assert written == translated(CHAT_STREAMS[name])
        assert written.endswith(DONE)
        assert lane.ended


SPLIT = ["a greeting", "CRLF", "two parallel tool calls"]


@pytest.mark.parametrize("name", SPLIT)
def test_a_stream_cut_in_two_at_any_byte_is_the_same_stream(name: str) -> None:
    whole = b"".join(CHAT_STREAMS[name])
    wanted = expected(CHAT_STREAMS[name])

    def script(wire: Wire) -> None:
        at = 0
        while wire.request() is not None:
            at += 1
            first, second = EVENT_STREAM + http_chunk(whole[:at]), http_chunk(whole[at:]) + LAST_CHUNK
            wire.say(first, second, pause=0.0002)

    with Upstream(script) as upstream:
        for _ in range(1, len(whole)):
            with opened(account(upstream.url)) as lane:
                assert passed_on(lane) == wanted
        assert upstream.connections == 1


@given(st.sampled_from(sorted(CHAT_STREAMS)), st.lists(st.integers(0, 3000), max_size=12), st.booleans())
@settings(deadline=None, database=None, max_examples=60)
def test_a_stream_cut_into_any_pieces_is_the_same_stream(name: str, cuts: list[int], straight: bool) -> None:
    whole = b"".join(CHAT_STREAMS[name])
    marks = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in itertools.pairwise(marks)]

    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *map(http_chunk, pieces), LAST_CHUNK, pause=0.0005)

    with Upstream(script) as upstream, opened(account(upstream.url), straight=straight) as lane:
        written = passed_on(lane)
    assert written == (expected if straight else translated)(CHAT_STREAMS[name])


def test_a_stream_that_comes_byte_by_byte_is_the_same_stream() -> None:
    whole = b"".join(CHAT_STREAMS["a greeting"])

    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *(http_chunk(whole[at : at + 1]) for at in range(len(whole))), LAST_CHUNK)

    with Upstream(script) as upstream, opened(account(upstream.url)) as lane:
        assert passed_on(lane) == expected(CHAT_STREAMS["a greeting"])


def test_nothing_is_handed_out_before_the_first_content_and_then_all_of_it() -> None:
    frames = [b": ping\n\n", *CHAT_STREAMS["a greeting"]]
    with open_lane(stream(*frames)) as lane:
        lane.start()
        assert next(lane) == expected(frames[:3])  # the ping, the role, the first word


def test_a_frame_is_handed_on_before_the_next_one_is_made() -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *map(http_chunk, CHAT_STREAMS["a greeting"][:3]))
        assert wire.peer_left(5)

    for straight in (True, False):
        with Upstream(script) as upstream, opened(account(upstream.url), straight=straight) as lane:
            lane.start()
            assert b"Hello" in next(lane)
            assert b"there" in next(lane)
            assert not lane.ended


# -- how streams end

HEADERS_TO_THE_END = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def closing(*frames: bytes) -> bytes:
    """A stream without a length, whose end is the end of its connection."""
    return HEADERS_TO_THE_END + b"".join(frames)


def then_closes(answer: bytes) -> Upstream:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(answer)

    return Upstream(script)


GREETING = CHAT_STREAMS["a greeting"]
UNFINISHED = {
    "nothing at all": [],
    "a ping": [b": ping\n\n"],
    "the role": GREETING[:1],
    "some words": GREETING[:3],
    "half a frame": [*GREETING[:2], GREETING[2][:40]],
}


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
@pytest.mark.parametrize("ending", ["end of connection", "last chunk"])
@pytest.mark.parametrize("name", UNFINISHED)
def test_a_stream_that_ends_before_its_finish_was_cut(name: str, ending: str, straight: bool) -> None:
    frames = UNFINISHED[name]
    answer = closing(*frames) if ending == "end of connection" else stream(*frames)
    with then_closes(answer) as upstream, opened(account(upstream.url), straight=straight) as lane:
        with pytest.raises(ProviderError) as error:
            passed_on(lane)
        assert error.value.kind in ("cut", "broken") if name == "half a frame" else error.value.kind == "cut"
        assert error.value.retryable
        assert not lane.ended


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
def test_a_chunked_stream_whose_connection_breaks_was_cut(straight: bool) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *map(http_chunk, GREETING[:3]))

    with Upstream(script) as upstream, opened(account(upstream.url), straight=straight) as lane:
        got = b""
        with pytest.raises(ProviderError) as error:
            lane.start()
            for written in lane:
                got += written
        assert error.value.kind == "cut"
        assert DONE not in got
        assert "Main account" in error.value.message


@pytest.mark.parametrize("ending", ["end of connection", "last chunk"])
@pytest.mark.parametrize("kept", [4, 5], ids=["after the finish", "after the usage"])
def test_a_finished_stream_without_an_end_mark_gets_one(kept: int, ending: str) -> None:
    answer = closing(*GREETING[:kept]) if ending == "end of connection" else stream(*GREETING[:kept])
    with then_closes(answer) as upstream, opened(account(upstream.url)) as lane:
        assert passed_on(lane) == expected(GREETING[:kept]) + DONE
        assert lane.ended
    with then_closes(answer) as upstream, opened(account(upstream.url), straight=False) as lane:
        assert passed_on(lane).endswith(DONE)
        assert lane.ended


@pytest.mark.parametrize("left", [b"", b"\n", b"\r\n"], ids=["no line end", "one LF", "one CRLF"])
def test_a_last_frame_without_its_blank_line_is_ended_before_the_mark_is_added(left: bytes) -> None:
    """An SSE reader joins lines until a blank one: glued together, both would be lost."""
    frames = [*GREETING[:3], GREETING[3].rstrip(b"\n") + left]
    with then_closes(closing(*frames)) as upstream, opened(account(upstream.url)) as lane:
        written = passed_on(lane)
    events = [event for event in written.replace(b"\r\n", b"\n").split(b"\n\n") if event]
    assert events[-1] == b"data: [DONE]"
    assert json.loads(events[-2].removeprefix(b"data: "))["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
def test_an_end_mark_without_its_blank_line_is_an_end(straight: bool) -> None:
    answer = closing(*GREETING[:-1], b"data: [DONE]")
    with then_closes(answer) as upstream, opened(account(upstream.url), straight=straight) as lane:
        assert passed_on(lane).rstrip(b"\n").endswith(b"data: [DONE]")
        assert lane.ended


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
@pytest.mark.parametrize("after", [b": done\n\n", b"data: late words\n\n", b'data: {"error":"late"}\n\n'])
def test_what_comes_after_the_end_mark_is_ignored_and_the_connection_kept(after: bytes, straight: bool) -> None:
    def script(wire: Wire) -> None:
        while wire.request() is not None:
            wire.say(EVENT_STREAM + b"".join(map(http_chunk, GREETING)), http_chunk(after) + LAST_CHUNK, pause=0.01)

    with Upstream(script) as upstream:
        for _ in range(3):
            with opened(account(upstream.url), straight=straight) as lane:
                written = passed_on(lane)
                assert written.endswith(DONE)
                assert written.count(b"[DONE]") == 1
                assert b"late" not in written
        assert upstream.connections == 1


@pytest.mark.parametrize("straight", [True, False], ids=["straight through", "translated"])
def test_an_ended_stream_whose_last_chunk_is_missing_is_complete(straight: bool) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.say(EVENT_STREAM, *map(http_chunk, GREETING))

    with Upstream(script) as upstream, opened(account(upstream.url), straight=straight) as lane:
        assert passed_on(lane).endswith(DONE)
        assert lane.ended


def test_a_finished_stream_in_the_middle_of_which_the_caller_leaves_closes_the_upstream() -> None:
    left: list[bool] = []

    def script(wire: Wire) -> None:
        wire.request()
        with suppress(OSError):  # the caller may have left before the last piece
            wire.say(EVENT_STREAM, *map(http_chunk, GREETING[:3]))
        left.append(wire.peer_left(5))

    for straight in (True, False):
        with Upstream(script) as upstream, opened(account(upstream.url), straight=straight) as lane:
            lane.start()
            next(lane)
    assert wait_until(lambda: left == [True, True], 10)


def test_an_error_in_the_middle_of_a_stream_ends_it_with_that_error() -> None:
    frames = [*GREETING[:3], b'data: {"error":{"message":"boom sk-upstream-secret","code":500}}\n\n']
    for straight in (True, False):
        with open_lane(stream(*frames), straight=straight) as lane:
            got = b""
            with pytest.raises(ProviderError) as error:
                lane.start()
                for written in lane:
                    got += written
            assert b"there" in got
            assert b"[DONE]" not in got
            assert "sk-upstream-secret" not in str(error.value)
