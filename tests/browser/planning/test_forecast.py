"""The forecast on the page of a series, in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.browser.planning.plan_world import LOAD, PlanWorld, level
from tests.browser.world import CPU, MINUTE, now_ns

Open = Callable[..., Page]
SERIES = f"#/series/{LOAD.id}"


def test_what_is_ahead_is_drawn_behind_the_samples_and_told(open_page: Open) -> None:
    """The fan stands where no sample is yet; keys walk into it; who made it, when, and how sure is said."""
    page = open_page(SERIES)
    said = page.locator(".ahead")
    expect(said).to_contain_text("by load, version 4; 14 d of history: good confidence")
    expect(said).to_contain_text(re.compile(r"Made at \d\d:\d\d \(2 min ago\)"))
    chart = page.get_by_role("group", name=re.compile("^Chart of http_requests_per_second"))
    chart.press("End")
    readout = page.locator(".readout")
    expect(readout).to_contain_text("value\N{EN DASH}")
    expect(readout.locator(".is-more")).to_contain_text(re.compile(r"^forecast\d+(\.\d)?/s \(\d"))
    half_an_hour = level(now_ns() + 30 * MINUTE)
    shown = float(re.findall(r"[\d.]+", readout.locator(".is-more dd").inner_text())[0])
    assert abs(shown - half_an_hour) < 3.0


def test_half_of_the_chosen_stretch_lies_ahead(open_page: Open) -> None:
    """Who chooses a day sees the next half of one, though only an hour of the past is known."""
    page = open_page(f"{SERIES}?range=1d", timezone_id="UTC")
    expect(page.locator(".ahead")).to_be_visible()
    page.get_by_role("group", name=re.compile("^Chart of http_requests_per_second")).press("End")
    readout = page.locator(".readout")
    expect(readout.locator(".is-more")).to_contain_text(re.compile(r"^forecast\d"))
    hours, minutes = re.findall(r"(\d\d):(\d\d)", readout.inner_text())[0]
    shown = int(hours) * 60 + int(minutes)
    ahead = (shown - now_ns() // MINUTE) % (24 * 60)
    assert 12 * 60 - 10 <= ahead <= 12 * 60


def test_what_had_been_forecast_stands_beside_what_came(open_page: Open) -> None:
    """How many values lay in the band of an hour before, and how far its median was off, is counted."""
    page = open_page(SERIES)
    said = page.locator(".ahead")
    expect(said).to_contain_text(
        "Of 12 values shown that were forecast 1 h before, 11 came to lie in the band"
    )
    expect(said).to_contain_text(re.compile(r"the median was off by [4-9]\.\d\d/s on average"))
    chart = page.get_by_role("group", name=re.compile("^Chart of"))
    chart.press("Home")
    for _ in range(20):
        chart.press("ArrowRight")
    expect(page.locator(".is-more")).to_contain_text(re.compile(r"^had been forecast\d"))


def test_little_history_is_low_confidence_and_no_past_is_said(open_page: Open, world: PlanWorld) -> None:
    """A forecast by seasonal naive on hours is told as such; what cannot be compared yet is not."""
    (told,) = world.modelling.current_forecasts
    world.modelling.current_forecasts = [
        replace(told, model="seasonal_naive", version="", confidence="low", past_s=10_800.0)
    ]
    world.modelling.past_forecasts.clear()
    page = open_page(SERIES)
    expect(page.locator(".ahead")).to_contain_text("by seasonal naive; 3 h of history: low confidence")
    expect(page.locator(".ahead")).to_contain_text("as soon as a forecast is an hour old")
    expect(page.get_by_text("had been forecast")).to_have_count(0)


@pytest.mark.parametrize(
    ("made", "problem", "words"),
    [
        (1, "", "It is not forecast: only series that are a load are"),  # others are
        (None, "", "Nothing is forecast yet"),  # soon after the start
        (1, "Prometheus does not answer", "It is not forecast now: Prometheus does not answer."),
    ],
)
def test_without_a_forecast_it_is_said_why(
    open_page: Open, world: PlanWorld, made: int | None, problem: str, words: str
) -> None:
    """A series that is not forecast has its picture as before, and a sentence."""
    world.modelling.view = replace(world.modelling.view, made=made and now_ns(), problem=problem)
    page = open_page(f"#/series/{CPU.id}")
    expect(page.locator(".plots canvas")).to_have_count(2)
    expect(page.locator(".ahead")).to_have_text(re.compile(re.escape(words)))
    expect(page.locator(".is-more")).to_have_count(0)


def test_one_may_zoom_into_what_is_ahead(open_page: Open) -> None:
    """Zooming out goes on behind now, to the end of the forecast at most."""
    page = open_page(SERIES)
    expect(page.locator(".ahead")).to_be_visible()
    for _ in range(6):
        page.get_by_role("button", name="Zoom out").click()
    until = int(page.evaluate("location.hash").split("-")[-1]) * 1_000_000
    assert now_ns() + 23 * 60 * MINUTE < until <= now_ns() + 24 * 60 * MINUTE
    page.get_by_role("button", name="Reset").click()
    expect(page).to_have_url(re.compile(f"{SERIES}$"))


def test_the_series_page_with_a_forecast_fits_a_phone(open_page: Open) -> None:
    """It is no wider than 390 px."""
    page = open_page(SERIES, viewport=PHONE)
    expect(page.locator(".ahead")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
