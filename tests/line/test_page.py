"""The page in a real browser, without a network: every section is there, nothing runs that should not, nothing sticks out."""

import shutil
import tempfile
import time

import pytest
import sample_run

from engine.records.report import Report
from engine.report.collect import collect
from engine.report.page import SECTIONS, page
from engine.report.page_data import MapPoint, PageData

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "no browser: apt-get install chromium chromium-driver" if not (CHROMIUM and DRIVER) else ""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.unhandled_prompt_behavior = "ignore"
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "full.html").write_text(page(collect(**sample_run.run(folder))), encoding="utf-8")
    (folder / "bare.html").write_text(page(PageData(run="", created="", report=Report(), contract={}, jobs=[])), encoding="utf-8")
    return folder


def opened(browser, written, name="full", *, width=1280, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get((written / f"{name}.html").as_uri())
    return browser


def find(browser, selector):
    return browser.find_element("css selector", selector)


@pytest.mark.parametrize("name", ["full", "bare"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_shows_every_section_without_error_or_overflow(browser, written, name, scheme, width):
    opened(browser, written, name, width=width, scheme=scheme)
    for section, _ in SECTIONS:
        element = find(browser, f"section#{section}")
        assert element.is_displayed() and element.text.strip(), section
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_scheme_changes_the_colours(browser, written):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = opened(browser, written, scheme="light").execute_script(colour)
    dark = opened(browser, written, scheme="dark").execute_script(colour)
    find(browser, "#theme").click()
    assert light != dark and browser.execute_script(colour) == light


def test_model_text_is_shown_as_text(browser, written):
    from selenium.common.exceptions import NoAlertPresentException

    opened(browser, written)
    for kind in ("sample", "prediction"):
        seen = "".join(cards(browser, f"#{kind}-browser", "<script>alert(1)</script>"))
        assert "<script>alert(1)</script>" in seen and "<img src=x onerror=alert(2)>" in seen and "{{ 7 * 7 }}" in seen
    assert browser.execute_script("return document.querySelectorAll('main script, main img').length") == 0
    with pytest.raises(NoAlertPresentException):
        browser.switch_to.alert.dismiss()
    assert browser.get_log("browser") == []


def cards(browser, selector, wanted):
    """Each card of a browser, one after the other, until one holds `wanted`."""
    count = int(find(browser, f"{selector} output").text.split()[-1])
    turn, card = find(browser, f"{selector} [data-turn='1']"), find(browser, f"{selector} .card")
    for _ in range(count):
        text = card.get_property("textContent")
        yield text
        if wanted in text:
            return
        browser.execute_script("arguments[0].click()", turn)


def test_filter_by_pool_shows_only_that_pool(browser, written):
    from selenium.webdriver.support.ui import Select

    opened(browser, written)
    Select(find(browser, "#sample-browser [data-filter='pool']")).select_by_value("review")
    pools = set()
    count = int(find(browser, "#sample-browser output").text.split()[-1])
    for _ in range(count):
        pools.add(find(browser, "#sample-browser .pool").text)
        browser.execute_script("arguments[0].click()", find(browser, "#sample-browser [data-turn='1']"))
    assert pools == {"review"} and count > 1


def test_filter_of_a_wrong_model_shows_where_it_differs(browser, written):
    from selenium.webdriver.support.ui import Select

    opened(browser, written)
    every = int(find(browser, "#prediction-browser output").text.split()[-1])
    Select(find(browser, "#prediction-browser [data-filter='model']")).select_by_value("s")
    Select(find(browser, "#prediction-browser [data-filter='right']")).select_by_value("wrong")
    some = int(find(browser, "#prediction-browser output").text.split()[-1])
    row = next(r for r in browser.find_elements("css selector", "#prediction-browser tbody tr") if r.text.startswith("s "))
    assert 0 < some < every and "wrong" in row.text
    assert row.find_elements("css selector", "td.bad")


def test_arrow_keys_browse(browser, written):
    opened(browser, written)
    before = find(browser, "#sample-browser output").text
    find(browser, "#sample-browser").send_keys("\ue014")  # arrow right
    after = find(browser, "#sample-browser output").text
    assert before.startswith("1 of") and after.startswith("2 of")


def test_point_of_the_map_shows_its_text_and_what_it_duplicates(browser, written):
    from selenium.webdriver import ActionChains

    opened(browser, written)
    points = browser.execute_script("return JSON.parse(document.getElementById('data-points').textContent)")
    map_points = [MapPoint(*point) for point in points]
    index = next(i for i, point in enumerate(map_points) if point.dropped_by == "minhash" and point.duplicate_of >= 0)
    dot = find(browser, f"#map-plot circle[data-i='{index}']")
    browser.execute_script(
        "document.documentElement.style.scrollBehavior = 'auto'; arguments[0].scrollIntoView({block: 'center'})", dot
    )
    ActionChains(browser).move_to_element(dot).perform()
    text = find(browser, "#map-read").text
    assert "dropped: minhash" in text and "duplicate of" in text
    assert browser.find_elements("css selector", "#map-plot line.hot")


def test_tooltip_shows_the_number_under_the_pointer(browser, written):
    from selenium.webdriver import ActionChains

    opened(browser, written)
    mark = find(browser, "#quality .shape")
    browser.execute_script(
        "document.documentElement.style.scrollBehavior = 'auto'; arguments[0].scrollIntoView({block: 'center'})", mark
    )
    for offset in (0, 1) * 20:  # a scroll that is reported late hides the tooltip until the pointer moves again
        ActionChains(browser).move_to_element_with_offset(mark, offset, 0).perform()
        text = find(browser, "#tip").text
        if text:
            break
        time.sleep(0.1)
    assert text.startswith("smol\n0.")
