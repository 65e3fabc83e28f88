"""What languages with blocks instead of plain messages need of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from providers.conversation import CachePoint, Image, Message, Opaque, Part, Role, Text, Thinking, ToolCall, ToolResult
from providers.documents import loads
from providers.wire.errors import CannotCarry

Blocks = list[dict[str, Any]]
INVALID = "INVALID_JSON"  # Anthropic API reference, fine-grained tool streaming: how invalid arguments are sent back


def foreign(part: Opaque) -> CannotCarry:
    """For a part that another language alone has a word for."""
    kind = part.value.get("type")
    return CannotCarry(f"A part of the type '{kind}' cannot be carried to this upstream.", "messages")


def lone_prompt(messages: Iterable[Message]) -> str:
    """The words of a conversation that is one question in words. Raises CannotCarry for any other."""
    match [Message(each.role, tuple(p for p in each.parts if not isinstance(p, CachePoint))) for each in messages]:
        case [Message("user", (Text(text),))]:
            return text
    raise CannotCarry("A conversation cannot be carried to an upstream that only completes text.", "messages")


def data_url(image: Image) -> tuple[str, str]:
    """The media type and the base64 text of an image. Raises CannotCarry for one that has to be fetched."""
    head, comma, data = image.url.partition(",")
    scheme, _, rest = head.partition(":")
    media_type, *marks = rest.lower().split(";")
    if not comma or scheme.lower() != "data" or "/" not in media_type or "base64" not in marks:
        raise CannotCarry("This upstream takes an image as a data URL in base64 alone.", "messages")
    return media_type, data


def merged(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role as one message without a name; the results of tools count as the user's."""
    joined: list[Message] = []
    for message in messages:
        role = "user" if message.role == "tool" else message.role
        parts = message.parts
        if joined and joined[-1].role == role:
            parts = joined.pop().parts + parts
        joined.append(Message(role, parts))
    return joined


def pictures_beside(messages: Iterable[Message]) -> list[Message]:
    """The results of tools without their pictures, which follow as the user's behind the last result of the turn:
    for formats whose results are words alone."""
    told: list[Message] = []
    waiting: list[Part] = []
    for message in messages:
        if not any(isinstance(part, ToolResult) for part in message.parts):
            told += _as_the_users(waiting)
            waiting = []
        parts = []
        for part in message.parts:
            if isinstance(part, ToolResult) and any(isinstance(piece, Image) for piece in part.content):
                waiting += [piece for piece in part.content if isinstance(piece, Image)]
                words = tuple(piece for piece in part.content if isinstance(piece, Text))
                part = replace(part, content=words or (Text("The picture follows."),))
            parts.append(part)
        told.append(replace(message, parts=tuple(parts)))
    return told + _as_the_users(waiting)


def _as_the_users(pictures: list[Part]) -> list[Message]:
    return [Message("user", (Text("What the tool showed:"), *pictures))] if pictures else []


def without_pictures(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same with a sentence in place of each picture among the results of tools, for a model that sees none."""
    unseen = Text("A picture was here, which this model cannot see.")

    def blind(part: Part) -> Part:
        if not isinstance(part, ToolResult):
            return part
        return replace(part, content=tuple(unseen if isinstance(piece, Image) else piece for piece in part.content))

    return tuple(replace(message, parts=tuple(map(blind, message.parts))) for message in messages)


def system_parts(messages: Iterable[Message]) -> tuple[Text | CachePoint, ...]:
    """What system messages say, wherever they stand. Raises CannotCarry for what is no text."""
    said: list[Text | CachePoint] = []
    for part in (part for message in messages if message.role == "system" for part in message.parts):
        if not isinstance(part, (Text, CachePoint)):
            raise CannotCarry("A system message can hold text alone on this upstream.", "messages")
        said.append(part)
    return tuple(said)


def turns(messages: Iterable[Message], write: Callable[[tuple[Part, ...]], Blocks]) -> list[tuple[Role, Blocks]]:
    """User and assistant by turns, their parts written by `write`; who says nothing has no turn.

    Raises CannotCarry when the user does not begin.
    """
    taken: list[tuple[Role, Blocks]] = []
    for message in merged(message for message in messages if message.role != "system"):
        blocks = write(message.parts)
        if taken and taken[-1][0] == message.role:
            taken[-1][1].extend(blocks)
        elif blocks:
            taken.append((message.role, blocks))
    if not taken or taken[0][0] != "user":
        raise CannotCarry("The conversation must begin with a user's message on this upstream.", "messages")
    return taken


def call_names(messages: Iterable[Message]) -> dict[str, str]:
    """The functions that were called, by the ids of their calls."""
    return {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}


def arguments_object(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call; none are an empty object. What is no object stands in one, so that the tool complains
    of it and the model can mend it."""
    try:
        arguments = loads(call.arguments.strip().encode() or b"{}")
    except ValueError:  # no JSON, or not even text
        return {INVALID: call.arguments}
    if arguments is None:
        return {}
    return arguments if isinstance(arguments, dict) else {INVALID: call.arguments}


def is_whole_object(pieces: Sequence[str]) -> bool:
    """Whether these pieces of a call's arguments are a JSON object, so that nothing can be added to them."""
    if not pieces or not pieces[-1].rstrip().endswith("}"):
        return False
    try:
        return isinstance(loads("".join(pieces).encode()), dict)
    except ValueError:  # no JSON, or not even text
        return False


def thinking_lost(messages: Iterable[Message]) -> bool:
    """Whether it is too late to think: an answer has been begun, or tools have just answered a turn whose signed
    thinking was not sent back."""
    said = merged(message for message in messages if message.role != "system")
    if said and said[-1].role == "assistant":
        return True
    if not said or not any(isinstance(part, ToolResult) for part in said[-1].parts):
        return False
    return not any(_begins_with_thinking(turn) for turn in said[-2:-1])


def claude_signed(thought: Thinking) -> bool:
    """Whether Claude made the signature. That of another upstream begins with its language's name and a colon,
    which base64 does not know."""
    return bool(thought.signature) and ":" not in (thought.signature or "")


def _begins_with_thinking(turn: Message) -> bool:
    """Whether the first thing that will be written of it is signed thinking: upstreams refuse it behind words."""
    for part in turn.parts:
        match part:
            case Thinking() if claude_signed(part):
                return True
            case Opaque(_, value):
                return value.get("type") == "redacted_thinking"
            case Text(text) if text.strip():
                return False
            case Thinking() | Text() | CachePoint():
                continue  # not written
            case _:
                return False
    return False
