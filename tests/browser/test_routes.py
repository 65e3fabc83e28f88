from __future__ import annotations

from tests.browser.conftest import Desk, rows

ROUTES = "/admin/profiles/route/"


def test_a_route_is_made_with_the_place_that_serves_it_and_its_price(admin: Desk) -> None:
    admin.open(f"{ROUTES}add/")
    page = admin.page
    page.fill("[name=name]", "parrot/small:free")
    page.get_by_text("Add another Deployment").click()
    page.select_option("[name=deployments-0-profile]", label="echo")
    page.fill("[name=deployments-0-upstream_model]", "echo")
    page.fill("[name=deployments-0-price_input]", "2.5")
    page.fill("[name=deployments-0-price_output]", "0.000001")
    admin.save()
    assert "was added successfully" in admin.message()

    query = """SELECT price_input, price_output, price_cached FROM profiles_deployment
               JOIN profiles_route ON route_id = profiles_route.id WHERE profiles_route.name = ?"""
    assert rows(admin.gateway, query, "parrot/small:free") == [(2_500_000, 1, None)]

    page = admin.open_row(ROUTES, "parrot/small:free")
    assert page.input_value("[name=deployments-0-price_input]") == "2.5"
    assert page.input_value("[name=deployments-0-price_output]") == "0.000001"


def test_a_price_finer_than_a_micro_dollar_is_refused_beside_its_field(admin: Desk) -> None:
    admin.open("/admin/profiles/deployment/add/")
    page = admin.page
    page.select_option("[name=route]", label="echo")
    page.select_option("[name=profile]", label="echo")
    page.fill("[name=upstream_model]", "echo 2")
    page.fill("[name=price_input]", "0.0000001")
    admin.save()
    assert "no more than 6 decimal places" in admin.message()


def test_a_route_with_a_name_that_is_taken_is_refused(admin: Desk) -> None:
    admin.open(f"{ROUTES}add/")
    admin.page.fill("[name=name]", "echo")
    admin.save()
    assert "Route with this Name already exists." in admin.message()


def test_the_list_says_which_route_nothing_serves(admin: Desk) -> None:
    admin.open(f"{ROUTES}add/")
    admin.page.fill("[name=name]", "orphan")
    admin.save()
    row = admin.page.locator("#result_list tbody").filter(has_text="orphan")
    assert "not served" in row.inner_text().lower()
