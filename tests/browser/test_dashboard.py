"""The dashboard in a real browser, on the real API."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE
from tests.browser.world import CPU, ENDED, HOSTILE, NEW, OPEN, STEP, World, now_ns
from trimtab.engine.types import SeriesKey, Verdict

Open = Callable[..., Page]
PLACES = (
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


def test_overview_says_what_is_unusual_and_how_everything_does(open_page: Open) -> None:
    """The overview names the unusual series against its band, the counts, each source and the engine."""
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 series is unusual")
    row = page.locator(".unusual-row")
    expect(row).to_contain_text("cpu_busy_ratio")
    expect(row).to_contain_text(f"7.5{TIMES} above expected {BAND}")
    expect(row).to_contain_text("4 min ago")
    expect(row.locator("svg.spark path.spark-line")).to_have_attribute("d", re.compile("^M"))
    expect(page.locator(".counts")).to_have_text(re.compile("60 watched.*59 scored.*1 learning.*1 unusual"))
    sources = page.locator(".source")
    expect(sources.nth(0)).to_contain_text("up")
    expect(sources.nth(1)).to_contain_text("connection refused")
    expect(sources.nth(1)).to_contain_text("12 series are over the cap")
    expect(sources.nth(2)).to_contain_text("reading history, 43 %")
    expect(page.locator(".gauges")).to_contain_text("2.10 %")
    expect(page.locator(".wall a")).to_have_count(60)
    expect(page).to_have_title("(1) Overview · Trimtab")


def test_the_wall_shows_the_most_unusual_of_many(open_page: Open, world: World) -> None:
    """Of more series than fit the wall leaves out the most usual ones, and says so."""
    for i in range(600):
        world.view(SeriesKey.of("host", f"a_{i:03}"), anomaly_score=0.0)
    last = SeriesKey.of("host", "zz_last")
    world.view(last, anomaly_score=4.0, anomaly_id=OPEN)
    page = open_page()
    expect(page.locator(".wall a")).to_have_count(500)
    expect(page.locator(".wall a.hot")).to_have_count(2)
    expect(page.locator(".wall a").last).to_have_attribute("href", f"#/series/{last.id}")
    expect(page.get_by_text("Shown are the 500 most unusual of 661 series.")).to_be_visible()


def test_overview_is_calm_when_nothing_is_unusual(open_page: Open, world: World) -> None:
    """Without open anomalies the overview says so."""
    world.calm()
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Nothing unusual"))
    expect(page.locator(".unusual-row")).to_have_count(0)


def test_a_newcomer_sees_series_learning(open_page: Open, world: World) -> None:
    """Before anything is scored, each series says how long it will learn."""
    world.calm()
    world.live.views = {NEW.id: world.live.views[NEW.id]}
    world.live.engine_values |= {"series": 1, "scored": 0, "learning": 1, "anomalies_open": 0}
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("Getting to know your series")
    expect(page.locator(".series-row")).to_contain_text("learning, about 4 min")
    expect(page.locator(".series-row")).to_contain_text("5.96 GiB")


def test_empty_and_starting_say_what_to_expect(open_page: Open, world: World) -> None:
    """An engine that starts says what it waits for, and lists say why they are empty."""
    world.live.views.clear()
    world.store.by_id.clear()
    world.live.readiness_state = (False, "the first tick of host")
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("Starting: the first tick of host")
    expect(page.get_by_text("No series yet")).to_be_visible()
    page.goto(f"{world.url}/#/anomalies")
    expect(page.get_by_text("No anomaly yet")).to_be_visible()
    world.live.readiness_state = (True, "")


def test_search_by_keyboard_leads_to_a_series(open_page: Open) -> None:
    """`/` focuses the search, words filter, arrow keys walk the rows and Enter opens one."""
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


def test_explorer_pages_sorts_and_keeps_its_filters_in_the_address(open_page: Open) -> None:
    """Next shows the rest, the order follows the choice, and both survive a reload."""
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


def test_nothing_found_says_what_to_do(open_page: Open) -> None:
    """A search without a match explains itself and offers the way back."""
    page = open_page("#/series?search=nothinglikethis")
    expect(page.get_by_text("No series matches")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".series-row")).to_have_count(50)


def test_label_values_are_text(open_page: Open) -> None:
    """A label that holds markup is shown as it is and builds no element."""
    page = open_page(f"#/series/{HOSTILE.id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0


def test_series_picture_zooms_and_resets(open_page: Open) -> None:
    """A drag zooms, the address carries it, Reset and the range buttons go back."""
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
    expect(caption).to_contain_text("No anomaly")
    page.get_by_role("button", name="Reset").click()
    expect(page).not_to_have_url(re.compile("zoom="))
    expect(caption).to_contain_text("1 anomaly")
    page.get_by_role("button", name="15m").click()
    expect(page).to_have_url(re.compile("range=15m"))
    expect(page.get_by_role("button", name="15m")).to_have_attribute("aria-pressed", "true")


def test_series_picture_by_keyboard(open_page: Open) -> None:
    """Arrow keys read the chart sample by sample, plus zooms, 0 resets; a table holds the numbers."""
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


def test_new_samples_arrive_without_reload(open_page: Open, world: World) -> None:
    """A tick appends to the chart and the heading."""
    page = open_page(f"#/series/{CPU.id}")
    expect(page.locator(".readout .is-value dd")).to_have_text("90 %")
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    world.row(CPU, now_ns(), 0.333, 3.0)
    world.view(CPU, unit="ratio", value=0.333, yhat_lower=0.04, yhat_upper=0.12, anomaly_score=3.0)
    world.tick()
    expect(page.locator(".readout .is-value dd")).to_have_text("33.3 %")
    expect(page.locator(".subject .big")).to_have_text("33.3 %")


def test_a_new_anomaly_is_announced_and_listed(open_page: Open, world: World) -> None:
    """An anomaly event is read out, counted in the title and listed, without a reload."""
    world.calm()
    page = open_page()
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    world.tell(world.anomaly(NEW, "01J80000000000000000000999", now_ns() - STEP))
    expect(page.locator("#announcer")).to_have_text(
        re.compile("New anomaly: memory_used_bytes, above expected")
    )
    expect(page.locator(".unusual-row")).to_contain_text("memory_used_bytes")


def test_anomaly_list_filters_and_loads_more(open_page: Open, world: World) -> None:
    """Filters narrow the list, older pages come on demand, a row is one click from its picture."""
    world.filler_anomalies(60)
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
    expect(page.get_by_text("No anomaly matches")).to_be_visible()
    page.get_by_role("button", name="Drop the filters").click()
    page.get_by_role("searchbox").fill("disk")
    expect(rows).to_have_count(1)
    rows.click()
    expect(page.locator(".story")).to_be_visible()


def test_an_anomaly_tells_its_story_and_takes_feedback(open_page: Open, world: World) -> None:
    """The page says what happened, shows the picture and who found it, and keeps a person's word."""
    page = open_page(f"#/anomalies/{OPEN}")
    expect(page.locator(".story")).to_contain_text(f"it stood at 90 %, 7.5{TIMES} above expected {BAND}")
    expect(page.locator(".story")).to_contain_text("and goes on")
    expect(page.locator(".plots canvas")).to_have_count(2)
    expect(page.locator(".detectors")).to_contain_text("ew_zscore")
    page.get_by_label("Note").fill("a load test")
    page.get_by_role("button", name=re.compile("^Wrong")).click()
    expect(page.get_by_text("Thank you, noted.")).to_be_visible()
    expect(page.locator(".given")).to_contain_text("a load test")
    said = world.store.feedback(OPEN)
    assert [(f.verdict, f.note) for f in said] == [(Verdict.WRONG, "a load test")]
    page.get_by_role("link", name="Open the series").click()
    expect(page).to_have_url(re.compile(f"#/series/{CPU.id}"))


def test_what_is_gone_says_so(open_page: Open) -> None:
    """An address of something that is not there explains itself."""
    page = open_page("#/anomalies/01J80000000000000000000000")
    expect(page.get_by_role("alert")).to_contain_text("This anomaly")
    page.goto(page.url.split("#")[0] + "#/nowhere")
    expect(page.get_by_role("alert")).to_contain_text("There is no such page")


def test_an_engine_that_does_not_act_says_so(open_page: Open) -> None:
    """Without the loop there is no pause and no link to its pages; an address of one explains itself."""
    page = open_page("#/inbox")
    expect(page.get_by_text("The engine does not act here")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_count(3)


def test_signing_in_with_a_key(open_page: Open, world: World) -> None:
    """Without a session the page says how to get one; a wrong key is refused, a right one opens it."""
    page = open_page(signed_in=False)
    expect(page.get_by_text("prints one in its terminal")).to_be_visible()
    page.get_by_label("API key").fill("tt_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known here")
    page.get_by_label("API key").fill(world.secret)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 series is unusual")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_dark_follows_the_system_and_the_toggle_is_remembered(open_page: Open) -> None:
    """The system's choice holds until somebody chooses here; that choice survives a reload."""
    page = open_page(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Use light colours").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("place", PLACES)
def test_every_page_fits_a_phone(open_page: Open, place: str) -> None:
    """No page is wider than 390 px."""
    page = open_page(place, viewport=PHONE)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if place.count("/") == 2:
        expect(page.locator(".plots canvas, .notice").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_first_tab_skips_to_the_content(open_page: Open) -> None:
    """The first stop of the keyboard is a link to the content, and it works."""
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_a_lost_connection_is_told_with_its_time(open_page: Open) -> None:
    """When the engine goes, the page keeps what it showed, says of when that is, and comes back by itself."""
    page = open_page()
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    expect(page.locator(".unusual-row")).to_contain_text("cpu_busy_ratio")
    page.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('online'))")
    banner = page.locator(".banner")
    expect(banner).to_contain_text(re.compile(r"Connection lost, showing the state of \d\d:\d\d:\d\d"))
    expect(page.locator(".unusual-row")).to_contain_text("cpu_busy_ratio")
    page.context.set_offline(False)
    expect(banner).to_have_count(0)


def test_initial_code_is_small_and_only_from_here(open_page: Open, world: World) -> None:
    """All JavaScript and CSS, the charts too, are at most 160 KB, and nothing comes from elsewhere."""
    page = open_page("about:blank", signed_in=False)
    seen: dict[str, int] = {}
    page.on("response", lambda r: seen.__setitem__(r.url, len(r.body())) if _is_code(r.url) else None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(world.login_link())
    page.goto(f"{world.url}/#/series/{CPU.id}")
    expect(page.locator(".plots canvas")).to_have_count(2)
    assert 50_000 < sum(seen.values()) <= BUDGET_BYTES
    assert all(url.startswith(world.url) for url in asked)


def _is_code(url: str) -> bool:
    return url.endswith((".js", ".css"))
