"""What all admin pages share: lists that say what they hold, and fields that survive whatever is posted."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple
from django.core.exceptions import ValidationError
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from profiles import money
from providers.wire.errors import ProviderError

ASK_US = re.compile(r" Ask your administrator\b[^.]*\.$")


class SearchOne(AutocompleteSelect):
    """Django stumbles over a posted value that can be no primary key; here it counts as not chosen."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        chosen = super().value_from_datadict(data, files, name)
        return chosen if is_pk(self.field.remote_field.model, chosen) else None  # type: ignore[attr-defined]


class SearchMany(AutocompleteSelectMultiple):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        model = self.field.remote_field.model  # type: ignore[attr-defined]
        return [pk for pk in super().value_from_datadict(data, files, name) if is_pk(model, pk)]


def is_pk(model: type[Model], value: object) -> bool:
    """Whether a row of `model` could have this primary key."""
    field = model._meta.pk
    try:
        field.run_validators(field.to_python(value))
    except ValidationError:
        return False
    return True


class OperatorAdmin(ModelAdmin):
    """A list that says what its rows are and, while it is empty, what to do first."""

    says = ""
    empty_title = ""
    empty_says = ""
    list_before_template = "admin/says.html"
    people_may: tuple[str, ...] = ("add", "change", "delete", "view")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        return with_price_widget(super().formfield_for_dbfield(db_field, request, **options), db_field)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            options["widget"] = SearchOne(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **options)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            options["widget"] = SearchMany(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **options)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        if not all(is_pk(self.model, pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            self.message_user(request, "Nothing was done: a chosen row does not exist.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset)


class ReadOnly(OperatorAdmin):
    """Rows that the gateway writes; people read them, and delete them where `people_may` says so."""

    people_may: tuple[str, ...] = ("view",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "delete" in self.people_may and bool(super().has_delete_permission(request, obj))


def with_price_widget(field: Any, db_field: Field[Any, Any]) -> Any:
    if isinstance(db_field, money.PriceField):
        field.widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"})
    return field


def for_operators(error: Exception) -> str:
    """What went wrong, as a sentence for those whom callers are told to ask."""
    said = error.message if isinstance(error, ProviderError) else str(error)
    return ASK_US.sub("", said)
