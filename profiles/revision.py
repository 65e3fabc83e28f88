"""One number that says how often the configuration has changed.

Every change of a Configuration row adds one in the same transaction, so that each worker, which reads the
number every second, knows when what it holds in memory is old.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models import F
from django.db.models.signals import m2m_changed


class Revision(models.Model):
    """A single row."""

    number = models.BigIntegerField(default=1)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def current(cls) -> int:
        return cls.objects.get(pk=1).number

    @classmethod
    def bump(cls) -> None:
        cls.objects.filter(pk=1).update(number=F("number") + 1)


M = TypeVar("M", bound=models.Model)


class ConfigurationQuerySet(models.QuerySet[M]):
    """Bulk changes count as changes too."""

    def update(self, **values: Any) -> int:
        with transaction.atomic():
            Revision.bump()
            return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            Revision.bump()
            return super().delete()

    def bulk_create(self, objs: Iterable[M], *args: Any, **options: Any) -> list[M]:
        with transaction.atomic():
            Revision.bump()
            return super().bulk_create(objs, *args, **options)

    def bulk_update(self, objs: Iterable[M], *args: Any, **options: Any) -> int:
        with transaction.atomic():
            Revision.bump()
            return super().bulk_update(objs, *args, **options)

    # Django marks these so, to keep them out of related managers.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class Configuration(models.Model):
    """A row the workers hold in memory."""

    objects = ConfigurationQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            Revision.bump()
            super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            Revision.bump()
            return super().delete(*args, **options)


def _links_changed(action: str, instance: models.Model, **_: Any) -> None:
    if action.startswith("post_") and isinstance(instance, Configuration):
        Revision.bump()


m2m_changed.connect(_links_changed, dispatch_uid="profiles.revision")
