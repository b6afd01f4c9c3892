"""The one-file report, as text and in a real browser."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from rlexp.cli.main import main as rlexp
from tests.helpers import ROOT


def page(capsys, *words) -> str:
    assert rlexp(["report", *map(str, words)]) == 0
    return Path(capsys.readouterr().out.split(" (")[0]).read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run with a film, an odd name and an option that is not the default's."""
    import rlexp

    folder = tmp_path_factory.mktemp("report")
    words = ["train.eval_every=100", "video.seconds=1", "algo.num_envs=2", "algo.num_steps=50"]
    words += ["algo.batch_size=50", "algo.anneal_steps=1000", f"runs='{folder / 'a <b>&'}'"]
    return rlexp.train("algo=ppo", "env=cartpole", "train.budget=400", *words, seeds=[0, 1]).folder


def test_a_run_says_how_it_was_made_and_what_came_out(run, capsys):
    text = page(capsys, run)
    record = json.loads((run / "run.json").read_text())
    for seed in record["seeds"].values():
        assert f"{seed['step']:,}" in text
    assert "algo.num_steps" in text
    assert "<td>2048</td>" not in text.split("algo.num_steps")[0]
    assert record["versions"]["torch"] in text
    assert "policy loss" in text
    assert "data:video/mp4" in text
    assert "<b>&" not in text  # names are escaped
    assert "data:video" not in page(capsys, run, "--films", "none", "-o", run / "small.html")


def test_the_gallery_is_one_page_of_at_most_five_megabytes(tmp_path, capsys):
    file = tmp_path / "gallery.html"
    text = page(capsys, "--gallery", "-o", file)
    for entry in (ROOT / "gallery").glob("*.csv"):
        assert f'id="entry-{entry.stem}"' in text
    assert file.stat().st_size < 5e6


def test_two_runs_stand_together_first(run, tmp_path, capsys):
    text = page(capsys, run, run, "-o", tmp_path / "two.html")
    assert text.index("All runs") < text.index("<details")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name run, study or sweep folders, or --gallery"),
        (["RUN", "--gallery"], "name run, study or sweep folders, or --gallery"),
        (["nowhere"], "nowhere: no run or study folder"),
        (["RUN", "-o", "page.pdf"], "page.pdf must end in .html"),
        (["RUN", "-o", "nowhere/page.html"], "there is no folder nowhere"),
    ],
)
def test_mistakes_are_one_line(words, said, run, capsys):
    assert rlexp(["report", *(str(run) if word == "RUN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_is_no_run_is_said_before_what_draws_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rlexp.report.page.build", None)
    assert rlexp(["report", str(tmp_path / "nowhere")]) == 2


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = chromium
    quiet = ["no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"]
    for word in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1100,900", *quiet):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = selenium.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


def until(browser, script: str, seconds: float = 60) -> None:
    """Wait until a condition in the page holds."""
    end = time.monotonic() + seconds
    while not browser.execute_script(f"return {script}"):
        assert time.monotonic() < end, f"not within {seconds} s: {script}"
        time.sleep(0.1)


def test_in_a_browser_charts_are_drawn_a_curve_zooms_a_film_plays_and_nothing_is_asked_of_a_network(
    run, browser, capsys
):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    page(capsys, run)
    browser.get(f"file://{run}/report.html")
    until(browser, "window.Bokeh !== undefined && Bokeh.documents.length > 0 && Bokeh.documents.every(d => d.is_idle)")

    chart = browser.find_element(By.CSS_SELECTOR, ".chart")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    size = chart.size
    seen = "Bokeh.documents[0].roots()[0].x_range.end - Bokeh.documents[0].roots()[0].x_range.start"
    before = browser.execute_script(f"return {seen}")
    drag = ActionChains(browser).move_to_element_with_offset(chart, -size["width"] // 5, 0).click_and_hold()
    drag.move_by_offset(size["width"] // 4, size["height"] // 8).release().perform()
    until(browser, f"({seen}) < 0.9 * {before}")

    film = "document.querySelector('video')"
    browser.execute_script(f"{film}.scrollIntoView(); {film}.play()")  # out of sight a muted film would wait
    until(browser, f"{film}.played.length > 0 && {film}.played.end(0) > 0.05")

    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert any(url.endswith("report.html") for url in asked)
