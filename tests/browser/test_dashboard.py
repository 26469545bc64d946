"""The dashboard in a real browser, on the real API."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.browser.dashboard_server import CPU, ENDED, HOSTILE, NEW, OPEN, STEP, DashboardServer, now_ns
from trimtab.engine.types import SeriesKey, Verdict

Open = Callable[..., Page]
PAGES = (
    "#/",
    "#/series",
    f"#/series/{CPU.id}",
    "#/anomalies",
    f"#/anomalies/{OPEN}",
    f"#/anomalies/{ENDED}",
)
BUDGET_BYTES = 160_000
DASH = "\N{EN DASH}"
BAND = f"4{DASH}12 %"
TIMES = "\N{MULTIPLICATION SIGN}"


def test_overview_shows_anomalies_counts_sources_and_engine(open_page: Open) -> None:
    """The overview shows the anomalous series with its expected range, counts, sources and the engine."""
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 open anomaly")
    row = page.locator(".unusual-row")
    expect(row).to_contain_text("cpu_busy_ratio")
    expect(row).to_contain_text(f"7.5{TIMES} above expected {BAND}")
    expect(row).to_contain_text("4 min ago")
    expect(row.locator("svg.spark path.spark-line")).to_have_attribute("d", re.compile("^M"))
    expect(page.locator(".counts")).to_have_text(re.compile("60 series.*59 scored.*1 learning.*1 anomalous"))
    sources = page.locator(".source")
    expect(sources.nth(0)).to_contain_text("up")
    expect(sources.nth(1)).to_contain_text("connection refused")
    expect(sources.nth(1)).to_contain_text("12 series exceed the limit")
    expect(sources.nth(2)).to_contain_text("reading history, 43 %")
    expect(page.locator(".gauges")).to_contain_text("2.10 %")
    expect(page.locator(".wall a")).to_have_count(60)
    expect(page).to_have_title("(1) Overview · Trimtab")


def test_the_heatmap_shows_the_most_anomalous_series(open_page: Open, dashboard: DashboardServer) -> None:
    """With more than 500 series the heatmap shows those with the highest scores and says so."""
    for i in range(600):
        dashboard.add_series(SeriesKey.of("host", f"a_{i:03}"), anomaly_score=0.0)
    last = SeriesKey.of("host", "zz_last")
    dashboard.add_series(last, anomaly_score=4.0, anomaly_id=OPEN)
    page = open_page()
    expect(page.locator(".wall a")).to_have_count(500)
    expect(page.locator(".wall a.hot")).to_have_count(2)
    expect(page.locator(".wall a").last).to_have_attribute("href", f"#/series/{last.id}")
    expect(page.get_by_text("Showing the 500 most anomalous of 661 series.")).to_be_visible()


def test_overview_without_open_anomalies_says_so(open_page: Open, dashboard: DashboardServer) -> None:
    """Without open anomalies the headline says so and no anomaly is listed."""
    dashboard.clear_anomalies()
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^No open anomalies"))
    expect(page.locator(".unusual-row")).to_have_count(0)


def test_a_new_engine_shows_series_learning(open_page: Open, dashboard: DashboardServer) -> None:
    """Before anything is scored, each series shows how long it still learns."""
    dashboard.clear_anomalies()
    dashboard.live.views = {NEW.id: dashboard.live.views[NEW.id]}
    dashboard.live.engine_values |= {"series": 1, "scored": 0, "learning": 1, "anomalies_open": 0}
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("Learning normal behaviour")
    expect(page.locator(".series-row")).to_contain_text("learning, about 4 min")
    expect(page.locator(".series-row")).to_contain_text("5.96 GiB")


def test_a_starting_engine_and_empty_lists_explain_themselves(
    open_page: Open, dashboard: DashboardServer
) -> None:
    """A starting engine shows what it waits for, and empty lists state the reason."""
    dashboard.live.views.clear()
    dashboard.store.by_id.clear()
    dashboard.live.readiness_state = (False, "the first tick of host")
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("Starting: the first tick of host")
    expect(page.get_by_text("No series yet")).to_be_visible()
    page.goto(f"{dashboard.url}/#/anomalies")
    expect(page.get_by_text("No anomalies yet")).to_be_visible()
    dashboard.live.readiness_state = (True, "")


def test_search_by_keyboard_opens_a_series(open_page: Open) -> None:
    """`/` focuses the search, words filter, arrow keys move between rows and Enter opens one."""
    page = open_page("#/series")
    expect(page.locator(".series-row")).to_have_count(50)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("filler 5")
    expect(page.get_by_text(re.compile(rf"^1{DASH}\d+ of 1\d$"))).to_be_visible()
    page.keyboard.press("ArrowDown")
    rows = page.locator(".series-row")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/series/[0-9a-f]{32}$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("filler_")


def test_series_list_keeps_paging_order_and_filters(open_page: Open) -> None:
    """Next shows the next page, the list is sorted as chosen, and the filters survive a reload."""
    page = open_page("#/series")
    expect(page.locator(".series-row").first).to_contain_text("cpu_busy_ratio")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text(f"51{DASH}60 of 60")).to_be_visible()
    page.get_by_role("button", name="by name").click()
    page.get_by_label("Source").select_option("prometheus")
    expect(page.locator(".series-row")).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Source")).to_have_value("prometheus")
    expect(page.locator(".series-row")).to_contain_text("hostile")


def test_a_search_without_match_can_be_reset(open_page: Open) -> None:
    """A search without a match says so and can be reset."""
    page = open_page("#/series?search=nothinglikethis")
    expect(page.get_by_text("No matching series")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".series-row")).to_have_count(50)


def test_label_values_are_text(open_page: Open) -> None:
    """A label value with HTML is shown as text and creates no element."""
    page = open_page(f"#/series/{HOSTILE.id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0


def test_series_chart_zooms_and_resets(open_page: Open) -> None:
    """A drag zooms and is kept in the address; Reset and the range buttons undo it."""
    page = open_page(f"#/series/{CPU.id}")
    expect(page.locator(".plots canvas")).to_have_count(2)
    caption = page.locator(".picture figcaption")
    expect(caption).to_contain_text("between 8 % and 90 %")
    expect(caption).to_contain_text("1 anomaly")
    over = page.locator(".plots .u-over").first.bounding_box()
    assert over is not None
    y = over["y"] + over["height"] / 2
    page.mouse.move(over["x"] + over["width"] * 0.2, y)
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.5, y, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"zoom=\d+-\d+"))
    expect(caption).to_contain_text("between 8 % and 10 %")
    expect(caption).to_contain_text("No anomalies")
    page.get_by_role("button", name="Reset").click()
    expect(page).not_to_have_url(re.compile("zoom="))
    expect(caption).to_contain_text("1 anomaly")
    page.get_by_role("button", name="15m").click()
    expect(page).to_have_url(re.compile("range=15m"))
    expect(page.get_by_role("button", name="15m")).to_have_attribute("aria-pressed", "true")


def test_series_chart_by_keyboard(open_page: Open) -> None:
    """Arrow keys move the cursor, plus zooms in, 0 resets, and a table lists the numbers."""
    page = open_page(f"#/series/{CPU.id}")
    expect(page.locator(".plots canvas")).to_have_count(2)
    page.get_by_role("group", name=re.compile("^Chart of cpu_busy_ratio")).focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".readout.pointed .is-band dd")).to_have_text(BAND)
    expect(page.locator(".readout .is-value dd")).not_to_have_text("90 %")
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile("zoom="))
    page.keyboard.press("0")
    expect(page).not_to_have_url(re.compile("zoom="))
    page.get_by_text("Numbers", exact=True).click()
    expect(page.locator(".numbers tbody tr")).to_have_count(20)


def test_new_samples_arrive_without_reload(open_page: Open, dashboard: DashboardServer) -> None:
    """A tick updates the chart and the heading."""
    page = open_page(f"#/series/{CPU.id}")
    expect(page.locator(".readout .is-value dd")).to_have_text("90 %")
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    dashboard.add_score(CPU, now_ns(), 0.333, 3.0)
    dashboard.add_series(CPU, unit="ratio", value=0.333, yhat_lower=0.04, yhat_upper=0.12, anomaly_score=3.0)
    dashboard.publish_tick()
    expect(page.locator(".readout .is-value dd")).to_have_text("33.3 %")
    expect(page.locator(".subject .big")).to_have_text("33.3 %")


def test_a_new_anomaly_is_announced_and_listed(open_page: Open, dashboard: DashboardServer) -> None:
    """An anomaly event is announced to screen readers and listed without a reload."""
    dashboard.clear_anomalies()
    page = open_page()
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    dashboard.publish_anomaly(dashboard.add_anomaly(NEW, "01J80000000000000000000999", now_ns() - STEP))
    expect(page.locator("#announcer")).to_have_text(
        re.compile("New anomaly: memory_used_bytes, above expected")
    )
    expect(page.locator(".unusual-row")).to_contain_text("memory_used_bytes")


def test_anomaly_list_filters_and_loads_more(open_page: Open, dashboard: DashboardServer) -> None:
    """Filters narrow the list, older anomalies load on demand, and a row links to its anomaly."""
    dashboard.add_ended_anomalies(60)
    page = open_page("#/anomalies")
    rows = page.locator(".anomaly-row")
    expect(rows).to_have_count(50)
    expect(page.locator("svg.timeline rect")).to_have_count(50)
    page.get_by_role("button", name="Load more").click()
    expect(rows).to_have_count(62)
    page.get_by_role("button", name="1h", exact=True).click()
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Open only").click()
    expect(rows).to_have_count(1)
    page.get_by_label("Direction").select_option("below")
    expect(page.get_by_text("No matching anomalies")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("searchbox").fill("disk")
    expect(rows).to_have_count(1)
    rows.click()
    expect(page.locator(".story")).to_be_visible()


def test_an_anomaly_is_described_and_takes_feedback(open_page: Open, dashboard: DashboardServer) -> None:
    """The page describes the anomaly, shows its chart and detectors, and stores feedback."""
    page = open_page(f"#/anomalies/{OPEN}")
    expect(page.locator(".story")).to_contain_text(f": 90 %, 7.5{TIMES} above expected {BAND}")
    expect(page.locator(".story")).to_contain_text("Ongoing for")
    expect(page.locator(".plots canvas")).to_have_count(2)
    expect(page.locator(".detectors")).to_contain_text("ew_zscore")
    page.get_by_label("Note").fill("a load test")
    page.get_by_role("button", name="False alarm").click()
    expect(page.get_by_text("Feedback saved.")).to_be_visible()
    expect(page.locator(".given")).to_contain_text("a load test")
    feedback = dashboard.store.feedback(OPEN)
    assert [(f.verdict, f.note) for f in feedback] == [(Verdict.WRONG, "a load test")]
    page.get_by_role("link", name="Open series").click()
    expect(page).to_have_url(re.compile(f"#/series/{CPU.id}"))


def test_a_missing_item_or_page_is_reported(open_page: Open) -> None:
    """The address of a missing anomaly or of an unknown page shows an error."""
    page = open_page("#/anomalies/01J80000000000000000000000")
    expect(page.get_by_role("alert")).to_contain_text("This anomaly")
    page.goto(page.url.split("#")[0] + "#/nowhere")
    expect(page.get_by_role("alert")).to_contain_text("Page not found")


def test_an_engine_without_actions_says_so(open_page: Open) -> None:
    """Without the control loop there is no pause button and no link to its pages."""
    page = open_page("#/inbox")
    expect(page.get_by_text("Actions are not enabled")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_count(3)


def test_signing_in_with_a_key(open_page: Open, dashboard: DashboardServer) -> None:
    """Without a session the page explains how to sign in; a wrong key is refused, a valid one signs in."""
    page = open_page(signed_in=False)
    expect(page.get_by_text("prints a login link in its terminal")).to_be_visible()
    page.get_by_label("API key").fill("tt_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This key is unknown")
    page.get_by_label("API key").fill(dashboard.secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 open anomaly")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_dark_follows_the_system_and_the_toggle_is_remembered(open_page: Open) -> None:
    """The theme follows the system until the user chooses one; the choice survives a reload."""
    page = open_page(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Use light colours").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("address", PAGES)
def test_every_page_fits_a_phone(open_page: Open, address: str) -> None:
    """No page is wider than 390 px."""
    page = open_page(address, viewport=PHONE)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if address.count("/") == 2:
        expect(page.locator(".plots canvas, .notice").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_first_tab_stop_skips_to_the_content(open_page: Open) -> None:
    """The first tab stop is a link that moves the focus to the content."""
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_a_lost_connection_is_shown_with_its_time(open_page: Open) -> None:
    """When the connection is lost, the page keeps its data, shows their time, and reconnects."""
    page = open_page()
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    expect(page.locator(".unusual-row")).to_contain_text("cpu_busy_ratio")
    page.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('online'))")
    banner = page.locator(".banner")
    expect(banner).to_contain_text(re.compile(r"Connection lost\. Showing data from \d\d:\d\d:\d\d"))
    expect(page.locator(".unusual-row")).to_contain_text("cpu_busy_ratio")
    page.context.set_offline(False)
    expect(banner).to_have_count(0)


def test_initial_code_is_small_and_from_one_host(open_page: Open, dashboard: DashboardServer) -> None:
    """JavaScript and CSS of the first view are at most 160 KB, and no other host is contacted."""
    page = open_page("about:blank", signed_in=False)
    seen: dict[str, int] = {}
    page.on("response", lambda r: seen.__setitem__(r.url, len(r.body())) if _is_code(r.url) else None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(dashboard.login_link())
    page.goto(f"{dashboard.url}/#/series/{CPU.id}")
    expect(page.locator(".plots canvas")).to_have_count(2)
    assert 50_000 < sum(seen.values()) <= BUDGET_BYTES
    assert all(url.startswith(dashboard.url) for url in asked)


def _is_code(url: str) -> bool:
    return url.endswith((".js", ".css"))
