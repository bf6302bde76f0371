"""`origins.html`: who ran what, in a real browser: legible, usable with a keyboard, harmless."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from coverage import CoverageData

import hcoverage
from hcov._tell.analysis import analysed
from hcov._tell.origin_counts import OriginsOfFile, counted_origins
from hcov._tell.origins import report_origins
from hcov._tell.origins_page import write_page
from hcov._tell.report import report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from selenium.webdriver import Chrome

DEV: Final = Path(__file__).parents[2] / "dev"
HERE: Final = os.uname().nodename.replace(".", "_")
HOSTILE: Final = "<img src=x onerror=alert(1)>&\"'.py"
IMAGE: Final = "<b>shop</b>:1"
LONG: Final = "a_directory_of_a_long_name/" * 4 + "and_a_module_of_a_longer_one.py"
# By file: statements, then the lines that main, a subprocess and the container ran.
FILES: Final[dict[str, tuple[int, Sequence[int], Sequence[int], Sequence[int]]]] = {
    "shop/alone.py": (10, range(1, 6), (), range(5, 10)),
    "shop/main.py": (40, range(1, 40), (), ()),
    "shop/shared.py": (20, range(1, 11), range(1, 21), range(1, 5)),
    "unrun.py": (5, (), (), [1]),
    HOSTILE: (3, [1], [1], [2]),
    LONG: (4, [1], [2], [3]),
}
FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# The contrast of each text with what is behind it, as WCAG 2 has it.
CONTRASTS: Final = """
const luminance = (color) => {
  const [r, g, b] = color.match(/[0-9.]+/g).map((part) => {
    const level = part / 255;
    return level <= .04045 ? level / 12.92 : ((level + .055) / 1.055) ** 2.4;
  });
  return .2126 * r + .7152 * g + .0722 * b;
};
const behind = (element) => {
  const color = getComputedStyle(element).backgroundColor;
  return color === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : color;
};
const texts = "h1, p, a, .counts span, .none, .legend span, th button, dt";
return [...document.querySelectorAll(texts)]
  .filter((element) => element.checkVisibility())
  .map((element) => {
    const [dark, light] = [luminance(getComputedStyle(element).color), luminance(behind(element))]
      .sort((one, other) => one - other);
    return [element.textContent, (light + .05) / (dark + .05)];
  });
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page of a project of three origins, beside coverage.py's own."""
    project = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        _write_project()
        hcoverage.combine(["data"], command=7)
        settings = Path(".coverage"), hcoverage.read_rcfile()
        with analysed(*settings) as analysis:
            counted = counted_origins(settings[0], analysis)
            assert report(analysis, files=["html"], quiet=True) == 0
            report_origins(counted, page_directory=Path("htmlcov"), quiet=True)
    yield project / "htmlcov" / "origins.html"
    shutil.rmtree(project)


def _write_project() -> None:
    Path(".coveragerc").write_text("[run]\nparallel = True\n")
    Path("data").mkdir()
    Path("data/image.0123456789ab.txt").write_text(IMAGE)
    for name, (size, *_rows) in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("".join(f"x{number} = 0\n" for number in range(size)))
    for place, who in enumerate((f"{HERE}.pid7", f"{HERE}.pid8", "0123456789ab.pid1")):
        data = CoverageData(basename=f"data/.coverage.{who}.Xabcdefx")
        ran = {name: rows[place] for name, (_, *rows) in FILES.items()}
        data.add_lines(
            {str(Path(name).absolute()): list(rows) for name, rows in ran.items() if rows}
        )
        data.close(force=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """A headless Chromium."""
    got = subprocess.run([DEV / "chromium"], check=False)
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if got.returncode != 0 or not all(programs):
        reason = "no chromium with its driver: dev/chromium gets them on Debian as root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    selenium = pytest.importorskip("selenium.webdriver")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = selenium.ChromeOptions()
        options.binary_location, driver = programs
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        started = selenium.Chrome(options=options, service=service.Service(driver))
        yield started
        started.quit()


@pytest.fixture
def shown(browser: Chrome, page: Path) -> Chrome:
    """The browser with the page, as wide as a laptop's, in light colours."""
    look(browser, "light", 1280)
    visit(browser, page.as_uri())
    return browser


def look(browser: Chrome, scheme: str, width: int) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def visit(browser: Chrome, address: str) -> None:
    """Load a page, to its end."""
    support = pytest.importorskip("selenium.webdriver.support.wait")
    browser.get(address)
    wait = support.WebDriverWait(browser, 60)
    wait.until(lambda _: ask(browser, "return document.readyState") == "complete")


def press(browser: Chrome, *keys: str) -> None:
    browser.switch_to.active_element.send_keys(*keys)


def ask(browser: Chrome, script: str) -> Any:  # noqa: ANN401 - what JavaScript gives
    return browser.execute_script(script)


def names(browser: Chrome) -> list[str]:
    found: list[str] = texts(browser, ".entry:not([hidden])", "dataset.name")
    return found


def texts(browser: Chrome, selector: str, what: str = "innerText") -> Any:  # noqa: ANN401
    """What each of some elements has."""
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return ask(browser, f"return {found}.map(element => element.{what})")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")  # one browser takes seconds to start, and memory
class TestInABrowser:
    def test_it_has_each_file_and_what_each_origin_ran_of_it(self, shown: Chrome) -> None:
        assert names(shown) == sorted(FILES)
        cells = texts(shown, "[data-name='shop/alone.py'] tr:first-child td")
        number, run, main, none, image = (cell.split("\n") for cell in cells)
        assert (number, run) == (["10"], ["90%", "9"])
        assert main == image == ["5", "4 only"]
        assert none == ["\N{EN DASH}"]
        assert [text.split("\n") for text in texts(shown, "thead .origin")] == [
            ["main", "1 process"],
            ["subprocesses", "1 process"],
            ["image", IMAGE, "1 process"],
        ]
        widths = (
            "return [...document.querySelectorAll('[data-name=\"shop/alone.py\"] .origin i')]"
            ".map(i => Math.round(100 * i.offsetWidth / i.parentElement.offsetWidth))"
        )
        assert ask(shown, widths) == pytest.approx([40, 10, 40, 10], abs=1)

    def test_it_fetches_nothing_and_has_no_error(self, shown: Chrome) -> None:
        assert ask(shown, "return performance.getEntriesByType('resource').length") == 0
        assert shown.get_log("browser") == []  # type: ignore[no-untyped-call]

    def test_names_are_text_and_not_markup(self, shown: Chrome) -> None:
        assert ask(shown, "return document.querySelectorAll('img, b').length") == 0
        assert HOSTILE in names(shown)

    def test_each_file_leads_to_its_page_and_its_lines_to_theirs(
        self, shown: Chrome, page: Path
    ) -> None:
        links = texts(shown, ".entry a", "href")
        pages = {link.partition("#")[0] for link in links}
        assert len(pages) == len(FILES)
        lines = [link for link in links if "#t" in link]
        for link in sorted(pages) + [link for link in lines if "alone" in link]:
            visit(shown, link)
            assert "Coverage for" in shown.title
            anchor = link.partition("#")[2]
            assert not anchor or ask(shown, f"return !!document.getElementById('{anchor}')")
        visit(shown, page.as_uri())

    def test_headings_sort_by_the_keyboard(self, shown: Chrome) -> None:
        keys = pytest.importorskip("selenium.webdriver").Keys
        ask(shown, "document.querySelector('thead .origin button').focus()")
        press(shown, keys.ENTER)
        assert names(shown)[:2] == ["shop/main.py", "shop/shared.py"]
        sorts = "return [...document.querySelectorAll('th')].map(h => h.ariaSort).filter(Boolean)"
        assert ask(shown, sorts) == ["descending"]
        press(shown, keys.SPACE)
        assert names(shown)[0] == "unrun.py"
        assert ask(shown, sorts) == ["ascending"]

    def test_the_filter_finds_files_as_they_are_typed(self, shown: Chrome) -> None:
        keys = pytest.importorskip("selenium.webdriver").Keys
        press(shown, "/")
        press(shown, "SHOP/")
        assert names(shown) == ["shop/alone.py", "shop/main.py", "shop/shared.py"]
        assert ask(shown, "return document.getElementById('shown').innerText") == "3 of 6 files"
        press(shown, "x")
        assert "No such file." in ask(shown, "return document.body.innerText")
        press(shown, keys.ESCAPE)
        assert len(names(shown)) == len(FILES)

    def test_lines_that_only_one_ran_open_by_the_keyboard(self, shown: Chrome) -> None:
        keys = pytest.importorskip("selenium.webdriver").Keys
        row = "document.querySelector('[data-name=\"shop/alone.py\"]')"
        ask(shown, f"{row}.querySelector('.more').focus()")
        press(shown, keys.ENTER)
        assert ask(shown, f"return {row}.querySelector('.lines').innerText").split() == (
            f"only main 1-4 only image {IMAGE} 6-9".split()
        )
        press(shown, keys.ENTER)
        assert ask(shown, f"return {row}.querySelector('.lines').hidden")

    def test_what_has_the_focus_shows_it(self, shown: Chrome) -> None:
        keys = pytest.importorskip("selenium.webdriver").Keys
        seen = set()
        for _ in range(12):
            press(shown, keys.TAB)
            focused = "document.activeElement"
            assert ask(shown, f"return getComputedStyle({focused}).outlineStyle") == "solid"
            seen.add(ask(shown, f"return {focused}.tagName"))
        assert seen >= {"A", "BUTTON", "INPUT"}

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_text_is_legible(self, shown: Chrome, scheme: str) -> None:
        look(shown, scheme, 1280)
        ask(shown, "document.querySelectorAll('.more').forEach(button => button.click())")
        contrasts = dict(ask(shown, CONTRASTS))
        assert {text: value for text, value in contrasts.items() if value < 4.5} == {}
        background = ask(shown, "return getComputedStyle(document.body).backgroundColor")
        levels = [int(level) for level in background[4:-1].split(",")]
        assert (max(levels) < 64) is (scheme == "dark")

    @pytest.mark.parametrize("width", [320, 700, 1920])
    def test_nothing_sticks_out_of_the_window(self, shown: Chrome, width: int) -> None:
        look(shown, "light", width)
        assert ask(shown, "return document.documentElement.scrollWidth") <= width
        # Each name is within its column, however long.
        outside = (
            "const right = (element) => element.getBoundingClientRect().right;"
            "return [...document.querySelectorAll('.entry .name')]"
            ".filter((name) => right(name) > right(name.parentElement)).length"
        )
        assert ask(shown, outside) == 0

    def test_a_thousand_files_of_twelve_origins_sort_and_filter(
        self, browser: Chrome, tmp_path: Path
    ) -> None:
        page = write_page(*_large(), tmp_path)
        visit(browser, page.as_uri())
        assert len(names(browser)) == 1000
        ask(browser, "document.querySelectorAll('th button')[4].click()")
        assert names(browser)[0] == "shop/module_999.py"
        press(browser, "/")
        press(browser, "module_77")
        assert len(names(browser)) == 11
        assert page.stat().st_size < 8 << 20


def _large() -> tuple[hcoverage.OriginData, list[OriginsOfFile]]:
    from hcoverage._read.part import Part

    origins = [f"image service-{number}" for number in range(12)]
    ran = {name: frozenset(range(number, 300, 2)) for number, name in enumerate(origins)}
    files = [
        OriginsOfFile(
            f"shop/module_{number}.py",
            "none.html",
            frozenset(range(1001)),
            {**ran, origins[1]: frozenset(range(number + 1))},
        )
        for number in range(1000)
    ]
    return hcoverage.OriginData(Part(), dict.fromkeys(origins, 1)), files


class TestWriting:
    def test_markup_in_names_is_escaped(self, page: Path) -> None:
        text = page.read_text()
        assert "<img" not in text
        assert "<b>" not in text
        assert "&lt;img" in text

    def test_without_the_template_engine_it_says_how_to_get_it(
        self,
        page: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "jinja2", None)
        project = page.parents[1]
        settings = project / ".coverage", hcoverage.read_rcfile(project / ".coveragerc")
        (tmp_path / page.name).touch()
        with analysed(*settings) as analysis:
            counted = counted_origins(settings[0], analysis)
            report_origins(counted, page_directory=tmp_path, quiet=True)
        assert not (tmp_path / page.name).exists()
        assert "pip install 'hcoverage[html]'" in capsys.readouterr().err

    def test_a_page_that_coverage_py_did_not_write_is_no_link(self, tmp_path: Path) -> None:
        text = write_page(*_large(), tmp_path).read_text()
        assert "none.html" not in text
        assert "index.html" not in text
