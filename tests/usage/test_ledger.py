"""Journals become rows, each call once, however often they are read and whatever was torn."""

from __future__ import annotations

import json
import os
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from apikeys.models import APIKey, User
from profiles.models import Revision
from usage import journal, ledger
from usage.journal import Journal
from usage.metering import new_call_id
from usage.models import JournalPosition, OpenCall, UsageRecord

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def key() -> APIKey:
    key = APIKey(owner=User.objects.create(username="ada"), name="laptop")
    key.set_key("sk-sb-a-key-for-this-test-0001")
    key.save()
    return key


def row(key: APIKey, **more: Any) -> dict[str, Any]:
    call = str(new_call_id())
    return {
        "id": call,
        "request_id": call,
        "started_at": 1_800_000_000.5,
        "key_id": str(key.pk),
        "key_name": key.name,
        "owner_id": str(key.owner_id),
        "prices": {"input": 4_000_000},
        "status": 200,
        "ending": "completed",
        "input_tokens": 7,
        **more,
    }


def opened(key: APIKey, **more: Any) -> dict[str, Any]:
    return {**row(key, **more), "worker": str(uuid.uuid4()), "size": 41}


def test_a_closed_call_is_one_row_however_often_it_is_read(key: APIKey) -> None:
    writer = Journal(uuid.uuid4())
    call = row(key)
    writer.opened({**call, "worker": "w", "size": 1})
    writer.closed(call)
    assert ledger.drain() == 1
    assert ledger.drain() == 0
    JournalPosition.objects.all().delete()
    assert ledger.drain() == 0
    assert UsageRecord.objects.get().input_tokens == 7
    assert not OpenCall.objects.exists()
    writer.end()


def test_the_key_was_used_then_and_no_configuration_changed(key: APIKey) -> None:
    writer = Journal(uuid.uuid4())
    writer.closed(row(key))
    before = Revision.current()
    ledger.drain()
    key.refresh_from_db()
    assert key.last_used_at is not None
    assert key.last_used_at.timestamp() == 1_800_000_000.5
    assert Revision.current() == before
    writer.end()


def test_a_call_whose_worker_is_gone_becomes_a_row_with_estimated_tokens(key: APIKey, data: Path) -> None:
    writer = Journal(uuid.uuid4())
    lost, ended = opened(key), row(key)
    writer.opened(lost)
    writer.opened({**ended, "worker": "w", "size": 1})
    writer.closed(ended)
    assert ledger.drain() == 1
    assert OpenCall.objects.count() == 1, "the worker still lives"
    writer.end()
    assert ledger.drain() == 1
    record = UsageRecord.objects.get(pk=lost["id"])
    assert (record.ending, record.tokens_from, record.input_tokens) == ("worker_lost", "estimated", 11)
    assert record.cost == 11 * 4_000_000 // 1000
    assert list((data / "journal").iterdir()) == []
    assert not JournalPosition.objects.exists()
    assert not OpenCall.objects.exists()


def test_a_torn_last_line_waits_and_a_torn_file_loses_only_that_line(key: APIKey, data: Path) -> None:
    writer = Journal(uuid.uuid4())
    writer.closed(row(key))
    [path] = (data / "journal").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"close": {"id": ')
    assert ledger.drain() == 1
    with path.open("ab") as file:
        file.write(b"torn}\n" + json.dumps({"close": row(key)}).encode() + b"\n")
    assert ledger.drain() == 1
    writer.end()


def test_a_key_that_was_deleted_in_between_keeps_its_history(key: APIKey) -> None:
    writer = Journal(uuid.uuid4())
    call = row(key)
    key.delete()
    writer.closed(call)
    assert ledger.drain() == 1
    assert UsageRecord.objects.get().key_name == "laptop"
    writer.end()


def test_deleting_a_key_keeps_the_rows_it_has(key: APIKey) -> None:
    writer = Journal(uuid.uuid4())
    writer.closed(row(key))
    ledger.drain()
    key.owner.delete()
    assert UsageRecord.objects.get().owner_name == ""
    assert UsageRecord.objects.get().key_name == "laptop"
    writer.end()


def test_a_new_file_is_begun_when_one_is_full_and_full_ones_are_deleted(
    key: APIKey, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LARGEST_FILE", 100)
    writer = Journal(uuid.uuid4())
    for _ in range(5):
        writer.closed(row(key))
    assert len(list((data / "journal").glob("*.jsonl"))) == 5
    assert ledger.drain() == 5
    assert len(list((data / "journal").glob("*.jsonl"))) == 1
    writer.end()


def test_calls_of_a_machine_that_never_came_back_are_ended(key: APIKey) -> None:
    now = timezone.now()
    old, young = opened(key), opened(key)
    OpenCall.objects.create(id=old["id"], worker=uuid.uuid4(), opened_at=now - timedelta(hours=1), row=old)
    OpenCall.objects.create(id=young["id"], worker=uuid.uuid4(), opened_at=now, row=young)
    assert ledger.sweep(now) == 1
    assert UsageRecord.objects.get().pk == uuid.UUID(old["id"])


def test_a_journal_that_cannot_be_written_is_said_and_kept_in_the_log(
    key: APIKey, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Journal(uuid.uuid4())
    writer.begin()
    os.close(writer._file)
    writer._file = os.open(os.devnull, os.O_RDONLY)
    call = row(key)
    writer.closed(call)
    assert writer.broken
    assert call["id"] in str(vars(caplog.records[-1])["lost"])
    writer.closed(row(key))
    assert not writer.broken, "the next line goes to a new file"
    writer.end()
