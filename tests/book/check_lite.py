"""The built site of exercises in the browser is complete, and JupyterLab starts from it alone.

Run by ``make lite``; not collected by the other tests. With Pyodide in the site, the first cells of
a notebook are run there, too, and all cells of each under Node.js; without it these tests are
skipped, because browsers then load it from another host.
"""

import hashlib
import json
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools")]

from check_pages import Quiet, browser  # noqa: E402, F401
from lite import CHAPTERS, KERNEL, PURE, RELEASED, SITE  # noqa: E402

REFERENCE = re.compile(r'\b(?:src|href)="([^"#?]+)')
PYODIDE = SITE / "static" / "pyodide"
HOSTED = PYODIDE.exists()
hosted = pytest.mark.skipif(
    not HOSTED, reason="Pyodide is not in this site (PYODIDE=... of `make lite`)"
)


def read(path):
    return json.loads((SITE / path).read_text("utf8"))


def kernel_settings():
    return read("jupyter-lite.json")["jupyter-config-data"]["litePluginSettings"][
        f"{KERNEL}:kernel"
    ]


def test_every_file_that_a_page_names_is_there():
    pages = [*SITE.glob("*.html"), *SITE.glob("lab/**/*.html")]
    links = [(page, link) for page in pages for link in REFERENCE.findall(page.read_text("utf8"))]
    assert len(links) >= 2
    assert [(p, link) for p, link in links if not (p.parent / link).exists()] == []


def test_extensions_are_there_and_no_source_maps():
    for each in read("jupyter-lite.json")["jupyter-config-data"]["federated_extensions"]:
        assert (SITE / "extensions" / each["name"] / each["load"]).exists()
    assert [*SITE.rglob("*.map")] == []


def test_notebooks_are_listed():
    listed = {entry["path"] for entry in read("api/contents/all.json")["content"]}
    assert listed == {f"{chapter}.ipynb" for chapter in CHAPTERS}
    assert all((SITE / "files" / path).exists() for path in listed)


def test_wheels_are_those_that_the_index_names():
    names = set()
    for url in kernel_settings()["pipliteUrls"]:
        index, _, digest = url.partition("?sha256=")
        data = (SITE / index).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        for name, package in json.loads(data).items():
            names.add(name)
            for (wheel,) in package["releases"].values():
                data = ((SITE / index).parent / wheel["url"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == wheel["digests"]["sha256"]
    assert {"batchnorm-book", "pyodide-kernel", "piplite", *PURE} <= names
    assert kernel_settings()["disablePyPIFallback"] is True


def test_pyodide_is_named_where_it_is():
    url = kernel_settings().get("pyodideUrl")
    assert (SITE / url).exists() if HOSTED else url is None


@pytest.fixture
def lab(browser):  # noqa: F811
    """Open a notebook without any other host; collect what was asked for and not found."""
    handler = partial(Quiet, directory=SITE)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        context = browser.new_context()
        tab, missing = context.new_page(), []
        tab.set_default_timeout(300_000)
        tab.on("requestfailed", lambda request: missing.append(request.url))
        tab.on("response", lambda r: r.status >= 400 and missing.append(r.url))
        tab.goto(f"{address}lab/index.html?path=forward_pass.ipynb")
        yield tab, missing
        context.close()
        server.shutdown()


def test_lab_opens_a_notebook_from_this_site_alone(lab):
    tab, missing = lab
    tab.wait_for_selector(".jp-Notebook .jp-RenderedHTMLCommon h1")
    assert tab.locator(".jp-Notebook h1").first.inner_text().startswith("The forward pass")
    assert "In the browser, install" in tab.locator(".jp-Notebook .jp-CodeCell").first.inner_text()
    tab.screenshot(path=SITE.parent / "screenshots" / "lite.png")
    if not HOSTED:  # of all that it asks for, only the kernel's Pyodide is elsewhere
        missing = [url for url in missing if "/pyodide/v" not in url]
    assert missing == []


@hosted
def test_first_cells_run(lab):
    tab, missing = lab
    tab.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    installation = tab.locator(".jp-CodeCell").first
    for _ in range(60):  # a kernel that does not listen loses the keys
        installation.locator(".cm-content").click()
        tab.keyboard.press("Shift+Enter")
        tab.wait_for_timeout(3000)
        if re.search(r"[*\d]", installation.locator(".jp-InputPrompt").inner_text()):
            break
    tab.wait_for_selector(".jp-InputPrompt:has-text('[1]:')")
    cells = read("files/forward_pass.ipynb")["cells"]
    tags = [cell["metadata"].get("tags", []) for cell in cells]
    first_check = next(i for i, each in enumerate(tags) if "check" in each)
    done = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    for _ in range(done, first_check):  # it imports, and has its first result checked
        tab.keyboard.press("Shift+Enter")
    output = ".jp-OutputArea-output:has-text('{}')".format
    tab.wait_for_selector(f"{output('exactly those of the table')}, {output('Traceback')}")
    assert tab.locator(output("Traceback")).all_inner_texts() == []
    tab.screenshot(path=SITE.parent / "screenshots" / "lite_ran.png")
    # the kernel looks for modules beside the notebooks, too
    assert [url for url in missing if "/api/contents/" not in url] == []


@hosted
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_all_cells_run(chapter):
    """In the memory and with the integers of 32 bits, which a test on this machine cannot have."""
    notebook = SITE / "files" / f"{chapter}.ipynb"
    command = ["node", HERE / "run_in_pyodide.mjs", PYODIDE, SITE / "pypi", notebook, *RELEASED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
