"""The forecast on the page of a series, in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.browser.dashboard_server import CPU, MINUTE, now_ns
from tests.browser.planning.planning_dashboard import LOAD, PlanningDashboard, level

pytestmark = pytest.mark.slow

Open = Callable[..., Page]
SERIES = f"#/series/{LOAD.id}"


def test_the_forecast_is_drawn_after_the_samples_and_described(open_page: Open) -> None:
    """The forecast follows the samples; the cursor reaches it; model, time and confidence are shown."""
    page = open_page(SERIES)
    panel = page.locator(".ahead")
    expect(panel).to_contain_text("by load, version 4; 14 d of history: good confidence")
    expect(panel).to_contain_text(re.compile(r"Made at \d\d:\d\d \(2 min ago\)"))
    chart = page.get_by_role("group", name=re.compile("^Chart of http_requests_per_second"))
    chart.press("End")
    readout = page.locator(".readout")
    expect(readout).to_contain_text("value\N{EN DASH}")
    expect(readout.locator(".is-more")).to_contain_text(re.compile(r"^forecast\d+(\.\d)?/s \(\d"))
    half_an_hour = level(now_ns() + 30 * MINUTE)
    shown = float(re.findall(r"[\d.]+", readout.locator(".is-more dd").inner_text())[0])
    assert abs(shown - half_an_hour) < 3.0


def test_half_of_the_chosen_range_is_forecast(open_page: Open) -> None:
    """A range of one day shows half a day of forecast, even with only an hour of history."""
    page = open_page(f"{SERIES}?range=1d", timezone_id="UTC")
    expect(page.locator(".ahead")).to_be_visible()
    page.get_by_role("group", name=re.compile("^Chart of http_requests_per_second")).press("End")
    readout = page.locator(".readout")
    expect(readout.locator(".is-more")).to_contain_text(re.compile(r"^forecast\d"))
    hours, minutes = re.findall(r"(\d\d):(\d\d)", readout.inner_text())[0]
    shown = int(hours) * 60 + int(minutes)
    ahead = (shown - now_ns() // MINUTE) % (24 * 60)
    assert 12 * 60 - 10 <= ahead <= 12 * 60


def test_earlier_forecasts_are_compared_with_samples(open_page: Open) -> None:
    """The page shows how many values fell within the earlier forecast and the error of its median."""
    page = open_page(SERIES)
    panel = page.locator(".ahead")
    expect(panel).to_contain_text(
        "Forecasts made 1 h earlier: 11 of 12 values fell within the 5\N{EN DASH}95 % band"
    )
    expect(panel).to_contain_text(re.compile(r"error of the median: [4-9]\.\d\d/s"))
    chart = page.get_by_role("group", name=re.compile("^Chart of"))
    chart.press("Home")
    for _ in range(20):
        chart.press("ArrowRight")
    expect(page.locator(".is-more")).to_contain_text(re.compile(r"^earlier forecast\d"))


def test_little_history_gives_low_confidence(open_page: Open, dashboard: PlanningDashboard) -> None:
    """A forecast by seasonal naive on hours of history shows low confidence and no accuracy yet."""
    (forecast,) = dashboard.model_service.current_forecasts
    dashboard.model_service.current_forecasts = [
        replace(forecast, model="seasonal_naive", version="", confidence="low", past_s=10_800.0)
    ]
    dashboard.model_service.past_forecasts.clear()
    page = open_page(SERIES)
    expect(page.locator(".ahead")).to_contain_text("by seasonal naive; 3 h of history: low confidence")
    expect(page.locator(".ahead")).to_contain_text("once a forecast is an hour old")
    expect(page.get_by_text("earlier forecast")).to_have_count(0)


@pytest.mark.parametrize(
    ("made", "problem", "words"),
    [
        (1, "", "This series has no forecast. Only load series"),  # other series are forecast
        (None, "", "No forecasts yet"),  # soon after the start
        (1, "Prometheus does not answer", "No forecast: Prometheus does not answer."),
    ],
)
def test_a_missing_forecast_is_explained(
    open_page: Open, dashboard: PlanningDashboard, made: int | None, problem: str, words: str
) -> None:
    """A series without a forecast shows its chart and the reason."""
    dashboard.model_service.view = replace(
        dashboard.model_service.view, made=made and now_ns(), problem=problem
    )
    page = open_page(f"#/series/{CPU.id}")
    expect(page.locator(".plots canvas")).to_have_count(2)
    expect(page.locator(".ahead")).to_have_text(re.compile(re.escape(words)))
    expect(page.locator(".is-more")).to_have_count(0)


def test_the_chart_zooms_into_the_forecast(open_page: Open) -> None:
    """Zooming out extends past now, to the end of the forecast at most."""
    page = open_page(SERIES)
    expect(page.locator(".ahead")).to_be_visible()
    for _ in range(6):
        page.get_by_role("button", name="Zoom out").click()
    until = int(page.evaluate("location.hash").split("-")[-1]) * 1_000_000
    assert now_ns() + 23 * 60 * MINUTE < until <= now_ns() + 24 * 60 * MINUTE
    page.get_by_role("button", name="Reset").click()
    expect(page).to_have_url(re.compile(f"{SERIES}$"))


def test_the_series_page_with_a_forecast_fits_a_phone(open_page: Open) -> None:
    """The series page with a forecast is no wider than 390 px."""
    page = open_page(SERIES, viewport=PHONE)
    expect(page.locator(".ahead")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
