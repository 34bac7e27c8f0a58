"""Look at every built page as a reader does: in Chromium, light, dark, and 390 pixels wide.

Run by ``make browser`` after ``make book``; not collected by the other tests. Screenshots are in
``_build/screenshots``. The browser is the installed one (``CHROMIUM`` names another).
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))

import pdf  # noqa: E402
from jupyter_markdown import Book  # noqa: E402

BOOK = Book(ROOT)
HTML = ROOT / "_build" / "html"
SCREENSHOTS = ROOT / "_build" / "screenshots"
BUDGET = 400_000  # bytes of a chapter and all that it loads, compressed as a server does
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
READ_ON = """async () => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
    scrollTo({top: y, behavior: 'instant'});
    await new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)));
  }
  scrollTo({top: 0, behavior: 'instant'});  // where the bar at the top covers nothing
}"""
AUDIT = "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})"
GENERATED = ("index.html", "_modules", "_static", "reports")  # a copy; listings of the source


def pages():
    found = (p.relative_to(HTML).as_posix() for p in HTML.rglob("*.html"))
    return sorted(name for name in found if not name.startswith(GENERATED))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    assert CHROMIUM, "Chromium is not installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Return a function that opens a page in a view and collects what goes wrong."""
    contexts = []

    def open_page(name, view):
        context = browser.new_context(**VIEWS[view])
        contexts.append(context)
        tab = context.new_page()
        faults = []
        tab.on("console", lambda m: m.type == "error" and faults.append(f"console: {m.text}"))
        tab.on("pageerror", lambda error: faults.append(f"script: {error}"))
        tab.on("requestfailed", lambda r: faults.append(f"failed: {r.url}"))
        tab.on("response", lambda r: r.status >= 400 and faults.append(f"{r.status}: {r.url}"))
        tab.on(
            "request",
            lambda r: (
                r.url.startswith(("data:", "blob:", address))
                or faults.append(f"other host: {r.url}")
            ),
        )
        tab.goto(f"{address}/{name}")  # a slow page may be silent before it is complete
        tab.wait_for_load_state("networkidle")
        return tab, faults

    yield open_page
    for context in contexts:
        context.close()


def test_the_book_is_built():
    assert "book/index.html" in pages()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", pages())
def test_page(visit, name, view):
    tab, faults = visit(name, view)

    picture = SCREENSHOTS / f"{name.removesuffix('.html').replace('/', '-')}-{view}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=picture, full_page=True)

    theme = tab.evaluate("document.documentElement.dataset.theme")
    if theme != VIEWS[view]["color_scheme"]:
        faults.append(f"the theme is {theme}")
    wide = tab.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    if wide > 0:
        faults.append(f"the page is {wide} pixels wider than the window")
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll('article img, article svg')].filter(picture =>
             !(picture.getAttribute('alt') || picture.getAttribute('aria-label')
               || picture.closest('[aria-hidden=true], .katex, button, .tb-icon')))
           .map(picture => picture.outerHTML.slice(0, 120))"""
    )
    faults += [f"no alternative text: {picture}" for picture in nameless]
    raw = tab.evaluate(
        r"""() => [...document.querySelectorAll('article p, article li')]
           .filter(p => /\$\$|\\\(|\{(ref|eq|numref|cite)/.test(p.innerText))
           .map(p => p.innerText.slice(0, 120))"""
    )
    faults += [f"markup that was not understood: {text}" for text in raw]

    # Sections are laid out, and boxes that scroll are marked, when they come near the window.
    tab.add_style_tag(content="section { content-visibility: visible !important }")
    tab.evaluate("dispatchEvent(new Event('resize'))")
    tab.evaluate(READ_ON)
    # Two thirds of the elements are inside formulas, and axe has no rule for MathML.
    tab.evaluate("document.querySelectorAll('.katex').forEach(f => { f.textContent = 'x' })")
    tab.add_script_tag(path=AXE)
    found = tab.evaluate(AUDIT, TAGS)
    for violation in found["violations"]:
        where = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
        faults.append(f"axe {violation['id']} ({len(violation['nodes'])}): {where}")

    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("chapter", list(BOOK.notebooks))
def test_notebook_has_the_numbers_of_its_page(chapter):
    page = (HTML / "book" / f"{chapter}.html").read_text("utf8")
    shown = re.findall(r'(?:eqno|caption-number)">(\([\d.]+\)|[A-Z][\w.]+ [\d.]+)', page)
    derived = [words for place, words in BOOK.targets.values() if place == chapter]
    assert sorted(shown) == sorted(words for words in derived if words[-1] in "0123456789)")


def test_notebooks_can_be_downloaded(visit):
    tab, faults = visit("book/backward_pass.html", "light")
    for folder in ("notebooks", "exercises"):
        link = tab.locator(f"a[download][href$='{folder}/backward_pass.ipynb']")
        tab.locator(".dropdown-launch-buttons > button").first.click()
        with tab.expect_download() as download:
            link.first.click()
        assert json.loads(download.value.path().read_text("utf8"))["cells"]
    assert not faults, "\n".join(faults)


def test_colour_mode_can_be_switched(visit):
    tab, faults = visit("book/index.html", "light")
    seen = set()
    for _ in range(3):
        tab.locator(".theme-switch-button").first.click()
        seen.add(tab.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}
    assert not faults, "\n".join(faults)


def test_search_finds_a_page(visit):
    tab, faults = visit("search.html?q=normalization", "light")
    tab.wait_for_selector("#search-results li", timeout=20_000)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", ["index.html", "404.html"])
def test_pages_at_the_root(visit, name):
    tab, faults = visit(name, "light")
    assert tab.locator("main h1:visible").count() == 1
    assert tab.locator(".bd-sidebar-primary a").count() > 10
    assert not faults, "\n".join(faults)


def test_search_shows_what_was_found(visit):
    tab, faults = visit("search.html?q=eigenvalue", "light")
    tab.wait_for_selector("#search-results li .context", timeout=20_000)
    shown = " ".join(tab.locator("#search-results .context").all_inner_texts())
    assert "eigenvalue" in shown
    assert not any(mark in shown for mark in ("\\hat", "\\frac", "\\lambda", "What you will learn"))
    field = tab.locator("form.bd-search input.form-control").first
    assert float(field.evaluate("f => parseFloat(getComputedStyle(f).paddingLeft)")) > 30
    assert not faults, "\n".join(faults)


def test_paper_is_white_and_holds_everything(visit):
    tab, faults = visit("book/backward_pass.html", "dark")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    cut = """() => [...document.querySelectorAll('article pre')]
        .filter(pre => pre.scrollWidth > pre.clientWidth + 1 || !pre.clientHeight)
        .map(pre => pre.innerText.slice(0, 80))"""
    assert tab.evaluate(cut) == []
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not faults, "\n".join(faults)


def test_a_solution_opens_by_its_title_and_by_a_link_to_it(visit):
    tab, _ = visit("book/backward_pass.html", "light")
    solution = tab.locator(".solution.admonition").first
    title = solution.locator(".admonition-title").first
    assert title.locator("a[href]").count() == 0
    title.click(position={"x": 30, "y": 12})
    assert "toggle-hidden" not in solution.get_attribute("class")
    name = tab.locator(".solution.admonition").nth(1).get_attribute("id")
    tab.goto(f"{tab.url.partition('#')[0]}#{name}")
    tab.wait_for_function(
        "id => !document.getElementById(id).classList.contains('toggle-hidden')", arg=name
    )


PREVIEWS = {  # the start of a link's address, and what the preview of it holds
    "#equation-": ".katex",
    "forward_pass.html#thm-": ".proof .katex",
    "glossary.html#term-": "p",
    "bibliography.html#": None,
}


@pytest.mark.parametrize("place", PREVIEWS)
def test_link_shows_what_it_leads_to(visit, place):
    tab, faults = visit("book/backward_pass.html", "light")
    link = tab.locator(f"article a.reference[href^='{place}']:visible").first
    preview = tab.locator("[role=tooltip]")
    link.hover()
    preview.wait_for()
    assert link.get_attribute("aria-describedby") == preview.get_attribute("id")
    assert len(preview.inner_text().strip()) > 10
    assert PREVIEWS[place] is None or preview.locator(PREVIEWS[place]).count()
    assert preview.locator("a, button, [id], [tabindex]").count() == 0
    inside = preview.bounding_box()
    assert inside["x"] >= 0
    assert inside["x"] + inside["width"] <= VIEWS["light"]["viewport"]["width"]
    tab.evaluate(
        "document.querySelectorAll('#preview .katex').forEach(f => { f.textContent = 'x' })"
    )
    tab.add_script_tag(path=AXE)
    found = tab.evaluate("tags => axe.run('[role=tooltip]', {runOnly: tags})", TAGS)
    faults += [violation["id"] for violation in found["violations"]]
    preview.hover()  # it stays while it is read
    tab.wait_for_timeout(500)
    assert preview.is_visible()
    tab.emulate_media(media="print")
    assert not preview.is_visible()
    tab.emulate_media(media="screen")
    tab.mouse.move(1, 1)
    preview.wait_for(state="detached")
    assert link.get_attribute("aria-describedby") is None

    tab.keyboard.press("Tab")
    link.focus()
    preview.wait_for()
    tab.keyboard.press("Escape")
    preview.wait_for(state="detached")
    assert not faults, "\n".join(faults)


def test_finger_follows_a_link_at_once(browser, address):
    context = browser.new_context(has_touch=True, **VIEWS["narrow"])
    tab = context.new_page()
    tab.goto(f"{address}/book/backward_pass.html", wait_until="networkidle")
    link = tab.locator("article a.reference[href^='#equation-']:visible").first
    link.tap()
    tab.wait_for_url(f"**/backward_pass.html{link.get_attribute('href')}")
    tab.wait_for_timeout(500)
    assert tab.locator("[role=tooltip]").count() == 0
    context.close()


def test_a_fold_is_on_paper_at_once(visit):
    """One that fades in is printed before it can be seen."""
    tab, _ = visit("book/backward_pass.html", "light")
    tab.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    moving = """() => [...document.querySelectorAll('details *')]
        .map(part => getComputedStyle(part).animationName).filter(name => name !== 'none')"""
    assert tab.evaluate(moving)
    tab.emulate_media(media="print")
    assert tab.evaluate(moving) == []


@pytest.mark.skipif(not shutil.which("pdftoppm"), reason="needs Poppler")
def test_two_pages_as_one_pdf(browser, tmp_path):
    out = tmp_path / "book.pdf"
    pdf.print_pages(browser, ["book/how_we_measure", "book/placement"], HTML, out)

    def poppler(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    sheets = poppler("pdftotext", "-layout", out, "-").split("\f")[:-1]
    title = pdf.title_of("book/placement", HTML)
    begins = next(i for i, sheet in enumerate(sheets, 1) if i > 2 and title in sheet)
    assert 10 < len(sheets) < 40
    assert re.search(rf"{title} +(\d+)", sheets[1])[1] == str(begins)
    assert all(sheet.strip().endswith(str(i)) for i, sheet in enumerate(sheets[1:], 2))
    text = " ".join("".join(sheets).split())
    assert "Show the answer" in text
    assert "Solution" in text
    assert not [name for name in ("Code of the figure", "Search", "Click to show") if name in text]

    poppler("pdftoppm", "-r", "30", "-gray", out, tmp_path / "sheet")
    pictures = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("sheet-*"))]
    assert len(pictures) == len(sheets)
    margin = 20  # pixels; 18 mm are 21
    for picture in pictures:
        assert picture.mean() > 200
        assert (picture[:, :margin] == 255).all()
        assert (picture[:, -margin:] == 255).all()


@pytest.mark.parametrize("chapter", list(BOOK.notebooks))
def test_a_chapter_is_light_and_no_script_holds_it_up(browser, address, chapter):
    context = browser.new_context(**VIEWS["narrow"])
    tab, sizes = context.new_page(), {}

    def weigh(response):
        if response.url.startswith(address):
            kind, body = response.headers.get("content-type", ""), response.body()
            packed = "font" in kind or "image/png" in kind
            sizes[response.url] = len(body if packed else gzip.compress(body, 6))

    tab.on("response", weigh)
    tab.goto(f"{address}/book/{chapter}.html", wait_until="networkidle")
    blocking = tab.evaluate(
        """() => performance.getEntriesByType('resource')
            .filter(r => r.renderBlockingStatus === 'blocking').map(r => r.name)"""
    )
    context.close()
    assert [url.partition("?")[0] for url in blocking] == [f"{address}/_static/book.css"]
    assert sum(sizes.values()) < BUDGET, sizes


def test_a_link_far_down_arrives_where_it_points(visit):
    tab, faults = visit("book/backward_pass.html#summary", "narrow")
    tab.wait_for_timeout(1000)
    top = tab.evaluate("document.getElementById('summary').getBoundingClientRect().top")
    assert 0 <= top < 120
    assert not faults, "\n".join(faults)


def test_figures_share_letters_and_show_them(visit):
    tab, _ = visit("book/backward_pass.html", "light")
    lost = """() => [...document.querySelectorAll('svg.bn-figure use')]
        .filter(use => !document.querySelector(use.getAttribute('href')))
        .map(use => use.outerHTML)"""
    assert tab.evaluate(lost) == []
    letter = tab.locator("svg.bn-figure use[href^='#g']").first
    letter.scroll_into_view_if_needed()
    assert 2 < letter.bounding_box()["height"] < 20


def test_what_scrolls_is_in_reach_of_the_keyboard(visit):
    tab, _ = visit("book/backward_pass.html", "narrow")
    box = tab.locator("figure > .output:has(svg.bn-figure)").first
    box.scroll_into_view_if_needed()
    tab.wait_for_function("box => box.tabIndex === 0", arg=box.element_handle())
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")


@pytest.mark.parametrize(
    ("name", "kind", "title"),
    [
        ("index", "Book", "Batch Normalization: derived, measured, tested"),
        ("backward_pass", "Chapter", "The backward pass"),
    ],
)
def test_head_says_what_is_cited(name, kind, title):
    page = (HTML / "book" / f"{name}.html").read_text("utf8")
    (data,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', page)
    described = json.loads(data)
    assert (described["@type"], described["name"]) == (kind, title)
    assert described["author"]
    assert f'<meta name="citation_title" content="{title}" />' in page
    assert 'content="book/' not in page  # an address that begins nowhere
    assert page.count('name="viewport"') == 1


def test_landing_page_says_how_to_cite(visit):
    tab, _ = visit("book/index.html", "light")
    shown = tab.locator("section#cite-this-book").text_content()
    assert "@book{" in shown
    assert "derived, measured, tested" in shown


def test_changelog_is_a_page(visit):
    tab, faults = visit("book/changelog.html", "light")
    assert tab.locator("main h1:visible").inner_text().startswith("Changelog")
    assert tab.locator("main h2").count() >= 2
    assert not faults, "\n".join(faults)
