"""The pages of `rayleigh view` in a real browser: nothing sticks out, nothing is refused or fails, the keyboard reaches all."""

import socket
import sys
import threading
from pathlib import Path

import pytest
import uvicorn
from test_page import browser, find, pytestmark  # noqa: F401 - the browser of the report's page, and its reason to skip

from jobs.view.app import Settings, application
from jobs.view.sources import Sources

sys.path.append(str(Path(__file__).parents[1] / "unit"))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    from made_run import made_run

    root = tmp_path_factory.mktemp("view")
    made_run(str(root / "runs" / "one"), root / "seeds")
    app = application(Settings(Sources(root / "runs"), "token"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/token/"
        server.should_exit = True
        thread.join(timeout=30)


def at(driver, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


def lead_on(driver, act):
    """Do what leads to another page, and wait until that page is there: a driver doesn't wait for what a key or a form begins."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    driver.execute_script("window.before = true")
    act()
    arrived = "return !window.before && document.readyState === 'complete'"
    wait = WebDriverWait(driver, 60, ignored_exceptions=(WebDriverException,))  # a script that a new page cuts off raises
    wait.until(lambda driver: driver.execute_script(arrived))


def press_enter(driver, selector):
    lead_on(driver, lambda: find(driver, selector).send_keys("\ue007"))


def test_pages_lead_on_without_error_or_overflow_and_load_nothing_from_elsewhere(browser, address):  # noqa: F811
    backgrounds = set()
    for width, scheme in ((1280, "light"), (390, "dark")):
        at(browser, width, scheme)
        browser.get(address)
        for step in ("tbody a", "a[href$='/table/candidates']", "table.rows tbody th a", "a[href*='/prompt/']"):
            press_enter(browser, step)  # links work without a mouse
            assert find(browser, "h1").is_displayed() and find(browser, "main").text
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
            assert loaded and all(name.startswith(address) for name in loaded)
            assert browser.execute_script("return document.querySelectorAll('script, img, iframe, main b > svg').length") == 0
        backgrounds.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert browser.get_log("browser") == []
    assert len(backgrounds) == 2  # light and dark


def test_form_filters_and_every_control_has_a_label(browser, address):  # noqa: F811
    at(browser, 1280, "light")
    browser.get(address)
    for step in ("tbody a", "a[href$='/table/candidates']"):
        lead_on(browser, find(browser, step).click)
    unnamed = "return [...document.querySelectorAll('input, select, textarea')].filter((each) => !each.labels.length).length"
    assert browser.execute_script(unnamed) == 0
    search = find(browser, "input[type=search]")
    search.send_keys("<b>")
    lead_on(browser, search.submit)
    rows = browser.find_elements("css selector", "table.rows tbody tr")
    assert len(rows) == 1 and "<b>[red]six" in rows[0].text
    assert "1 of 3 rows" in find(browser, ".lede").text
    assert browser.get_log("browser") == []


def test_label_is_stored_by_the_keyboard_alone(browser, address):  # noqa: F811
    at(browser, 390, "dark")
    browser.get(address)
    for step in ("tbody a", "a[href$='/table/candidates']", "table.rows tbody th a"):
        press_enter(browser, step)
    for control in ("input[value=wrong]", "input[name=agreed]"):
        find(browser, control).send_keys(" ")
    press_enter(browser, ".ask button")
    assert find(browser, "[role=status]").text == "The label is stored."
    assert find(browser, "input[value=wrong]").is_selected() and "Labelled wrong" in find(browser, "legend").text
    assert browser.get_log("browser") == []
