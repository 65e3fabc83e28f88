"""What is read of answers that are handed on: the model's name, what was counted, and errors."""

from __future__ import annotations

import pytest

from providers.base import Target, UpstreamModel
from providers.conversation import Usage
from providers.languages.language import Fault
from providers.languages.openai_passthrough import BytesTap, EventTap, read_counts
from providers.languages.registry import LANGUAGES, openai_transcriptions, rerank
from providers.openai import OpenAI
from providers.sambanova import SambaNova
from providers.wire.errors import ProviderError


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"input_tokens": 50, "output_tokens": 100, "input_tokens_details": {"image_tokens": 40}}, Usage(50, 100)),
        (
            {"type": "tokens", "input_tokens": 14, "output_tokens": 5, "input_token_details": {"audio_tokens": 10}},
            Usage(14, 5, audio_input=10),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, Usage(9, 4)),
        ({"total_tokens": 31}, Usage(31, 0)),
        ({"type": "duration", "seconds": 3}, None),
        ({"input_tokens": "many"}, None),
        ({}, None),
        (None, None),
        ([1], None),
    ],
)
def test_tokens_are_counted_as_each_kind_of_work_counts_them(usage: object, counted: Usage | None) -> None:
    assert read_counts(usage) == counted


@pytest.mark.parametrize("body", [b'"Hello"', b'[{"index": 0, "model": "theirs"}]', b"1\n00:00 --> 00:01\n", b""])
def test_what_is_no_object_passes_untouched(body: bytes) -> None:
    assert rerank.pass_answer(body, "ours") == (body, None)


def test_an_error_dressed_as_success_is_one() -> None:
    with pytest.raises(ProviderError):
        openai_transcriptions.pass_answer(b'{"error": {"message": "Out of memory."}}', "ours")


FRAMES = [
    (b'event: x\ndata: {"type":"a","model" : "theirs"}\n\n', b'event: x\ndata: {"type":"a","model":"ours"}\n\n'),
    (b'data: {"text":"\\"model\\":\\"theirs\\""}\n\n', None),
    (b'data: {"model":null,"segments":[{"model":"theirs"}]}\n\n', None),
    (b'data: {"model": broken\n\n', None),
    (b'data: ["model"]\n\n', None),
    (b": ping\n\n", None),
]


@pytest.mark.parametrize(("frame", "passed"), FRAMES)
def test_events_pass_byte_for_byte_but_for_the_models_name(frame: bytes, passed: bytes | None) -> None:
    assert EventTap("ours").see(frame) == (passed or frame)
    assert EventTap(None).see(frame) == frame


def test_events_end_with_their_body_once_there_was_one() -> None:
    tap = EventTap("ours")
    tap.see(b": ping\n\n")
    assert (tap.content, tap.finish_reason, tap.ended) == (False, None, False)
    tap.see(b'data: {"type":"done","usage":{"input_tokens":3,"output_tokens":2}}\n\n')
    assert (tap.content, tap.finish_reason, tap.ended, tap.usage) == (True, "stop", False, Usage(3, 2))
    tap.see(b"data: [DONE]\n\n")
    assert tap.ended
    assert tap.usage == Usage(3, 2)


def test_an_event_that_is_an_error_is_no_content() -> None:
    tap = EventTap("ours")
    with pytest.raises(ProviderError):
        tap.see(b'data: {"error": {"message": "Busy.", "code": "server_is_overloaded"}}\n\n')
    assert not tap.content


def test_only_where_there_are_words_is_an_error_said() -> None:
    fault = Fault(502, "api_error", "Cut.", "upstream_cut")
    assert b"upstream_cut" in EventTap("ours").fail(fault, "018f")
    assert BytesTap().fail(fault, "018f") is None


def test_the_kinds_that_have_it() -> None:
    straight = {name for name, language in LANGUAGES.items() if not language.translates} - {"anthropic_count_tokens"}
    official = Target("t", "openai", {"url": "https://api.openai.com/v1"})
    assert straight <= OpenAI().speaks(UpstreamModel("m"), official).keys()
    keyed = Target("t", "sambanova", {"url": "https://api.sambanova.ai/v1"}, {"api_key": "k"})
    spoken = SambaNova().speaks(UpstreamModel("Whisper-Large-v3"), keyed)
    assert straight & spoken.keys() == {"openai_transcriptions", "openai_translations"}
    assert spoken["openai_transcriptions"] == "/audio/transcriptions"
    console = Target("t", "sambanova", {"console_url": "https://cloud.sambanova.ai"}, {"password": "p"})
    assert not straight & SambaNova().speaks(UpstreamModel("Whisper-Large-v3"), console).keys()
