"""OpenAI's formats as servers speak them that need repairs: the half that upstreams speak.

A dialect says which fields its server takes. What else a caller sent is left out and reported, or refused by
name where the answer would mean something else without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from providers.conversation import Answer, ChatRequest, Event, Finished, FinishReason, ToolCallDelta, Usage
from providers.languages import openai, openai_chat_requests, openai_completions
from providers.languages.fields import asks_nothing, object_in, objects_in
from providers.languages.language import Reader
from providers.languages.openai import OpenAILanguage
from providers.languages.openai_chat import ChatReader, OpenAIChat
from providers.languages.openai_completions import OpenAICompletions
from providers.wire.errors import ProviderError, cannot_carry

# A prediction makes an answer faster, not different.
NEVER_DROPPED = (openai_chat_requests.INDISPENSABLE | openai_completions.INDISPENSABLE) - {"prediction"} | frozenset(
    ("messages prompt max_tokens stop n tools tool_choice response_format").split()
)
# Fields with the same name in a ChatRequest that may be left out.
DROPPABLE = tuple(
    "temperature top_p seed presence_penalty frequency_penalty parallel_tool_calls reasoning_effort user".split()
)


class Dialect(OpenAILanguage):
    """Stands in front of an OpenAI language. `carries` and `renames` speak of fields as that language writes them.

    Answers are read into the middle, which has no word for log probabilities: no dialect carries them.
    """

    origin: ClassVar[str]  # the language it is a dialect of
    carries: ClassVar[frozenset[str]] = frozenset()
    renames: ClassVar[Mapping[str, str]] = {}  # as max_tokens -> max_completion_tokens

    def takes(self, field: str) -> bool:
        """Whether the server takes this top-level field."""
        return field in self.carries

    def write_request(self, request: ChatRequest, model: str) -> dict[str, Any]:
        body = self.narrowed({"stream": False, **super().write_request(request, model)})
        renamed = {self.renames.get(field, field): value for field, value in body.items()}
        return self.repaired_request(renamed, request)

    def narrowed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The fields the server takes. Raises CannotCarry for one that must not be left out."""
        for field, value in body.items():
            if field in NEVER_DROPPED and not self.takes(field) and not asks_nothing(field, value):
                raise cannot_carry(field)
        return {field: value for field, value in body.items() if self.takes(field)}

    def repaired_request(self, body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
        """The last word on a body, for what a list of fields cannot say. Raises CannotCarry."""
        return body

    def dropped(self, request: ChatRequest, model: str) -> list[str]:
        own = request.language == self.origin
        extras = [field for field in request.extras if not (own and self.takes(field))]
        fields = [field for field in DROPPABLE if getattr(request, field) is not None and not self.takes(field)]
        return [*extras, *fields]


class CompletionDialect(Dialect, OpenAICompletions):
    """Legacy completions with a list of fields."""

    origin = openai_completions.NAME


class ChatDialect(Dialect, OpenAIChat):
    """Chat with a list of fields, and with answers that may lack the numbers of their calls or a finish reason."""

    origin = openai_chat_requests.NAME
    names_finish: ClassVar[bool] = True  # False: the server need not say why its answer ended
    means_stop: ClassVar[bool] = True  # False: the server says "stop" of every answer
    default_limit: ClassVar[int | None] = None  # of output tokens, where nobody asks for one

    def says_why(self, reason: object) -> bool:
        return bool(reason) and (self.means_stop or reason != "stop")

    def missing_finish(self, calls: bool, usage: Usage | None, request: ChatRequest | None) -> FinishReason:
        """Why an answer ended that does not say it. Raises ProviderError where every answer should."""
        if self.names_finish:
            raise ProviderError("The upstream's answer does not say why it ended.", kind="broken")
        if calls:
            return "tool_calls"
        limit = (request.max_tokens if request is not None else None) or self.default_limit
        return "length" if limit is not None and usage is not None and usage.output >= limit else "stop"

    def read_answer(self, document: Any, request: ChatRequest | None = None) -> Answer:
        usage = openai.read_usage(document.get("usage"))
        choices = []
        for choice in objects_in(document, "choices"):
            if not self.says_why(choice.get("finish_reason")):
                calls = bool(object_in(choice, "message").get("tool_calls"))
                choice = {**choice, "finish_reason": self.missing_finish(calls, usage, request)}
            choices.append(choice)
        return super().read_answer({**document, "choices": choices}, request)

    def reader(self, request: ChatRequest | None = None) -> Reader:
        return DialectReader(self, request)


class DialectReader(ChatReader):
    """Chunks whose calls may lack their numbers, and whose end may lack its reason."""

    def __init__(self, language: ChatDialect, request: ChatRequest | None) -> None:
        super().__init__()
        self._language = language
        self._request = request
        self._usage: Usage | None = None
        self._counted = False  # usage has come by itself, as it does at the end
        self._begun = {0}  # choices
        self._calling: dict[tuple[int, int], ToolCallDelta] = {}  # choice and number as written -> its call's beginning
        self._opened: dict[int, int] = {}  # choice -> calls so far

    def read_frame(self, frame: bytes) -> list[Event]:
        events = super().read_frame(frame)
        if frame.startswith((b"event: error", b"event:error")):
            raise ProviderError("The upstream reported an error in its answer.", kind="broken")
        for number, event in enumerate(events):
            if isinstance(event, Usage):
                self._usage, self._counted = event, len(events) == 1
                continue
            self._begun.add(getattr(event, "choice", 0))
            if isinstance(event, ToolCallDelta):
                events[number] = self._numbered(event)
            elif isinstance(event, Finished):
                self._finished[event.choice] = self._language.says_why(event.reason)
        return [event for event in events if not isinstance(event, Finished) or self._finished[event.choice]]

    def _numbered(self, call: ToolCallDelta) -> ToolCallDelta:
        """A number that is missing reads as 0, so another id under the same number is another call."""
        written = (call.choice, call.index)
        begun = self._calling.get(written)
        if begun is None or (call.id and call.id != begun.id):
            number = self._opened.get(call.choice, 0)
            self._opened[call.choice] = number + 1
            begun = self._calling[written] = replace(call, index=number)
        return replace(call, index=begun.index)

    def read_end(self) -> list[Event]:
        ended = self.ended or bool(self._finished) or (self._counted and not self._language.names_finish)
        if not ended:
            raise ProviderError("The upstream's answer ended before it was complete.", kind="cut")
        return [
            Finished(self._language.missing_finish(choice in self._calls, self._usage, self._request), choice)
            for choice in sorted(self._begun)
            if not self._finished.get(choice)
        ]


def without_thoughts(body: dict[str, Any]) -> dict[str, Any]:
    """Earlier thoughts have no place in the messages of a server that does not know the field."""
    messages = [
        {name: value for name, value in message.items() if name != "reasoning_content"} for message in body["messages"]
    ]
    return {**body, "messages": messages}
