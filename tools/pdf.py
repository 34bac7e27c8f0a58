"""Print the built book as one PDF: a title, the contents, then the pages of `_toc.yml`.

Usage: ``python tools/pdf.py [page ...]`` after ``make book``; without pages, all but `book/api`.

The pages are put into one document, so that a link to another page leads there on paper too, and
Chromium prints it with its headings as bookmarks (``CHROMIUM`` names another browser). Answers,
solutions and checks are open, because the document has no scripts; the code of figures and the
imports are left out. Poppler's `pdfinfo` says on which page a chapter begins; without it, the list
of contents has no numbers.
"""

import html
import os
import posixpath
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import yaml
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
NAME = "batch-normalization.pdf"
SCALE = 0.8  # of a page on the screen, so that a line of code fits
FLAGS = ["--no-sandbox", "--disable-gpu"]
STYLE = Path(__file__).with_suffix(".css")

ARTICLE = re.compile(r'<article class="bd-article">(.*?)</article>', re.DOTALL)
TITLE = re.compile(r'<h1>(.*?)<a class="headerlink"', re.DOTALL)
PLUMBING = re.compile(
    r'<details class="admonition hide above-input">\s*<summary>\s*'
    r'<p class="collapsed admonition-title">(?:Imports|Code of the figure)</p>.*?</details>',
    re.DOTALL,
)
SCREEN_ONLY = re.compile(  # links to the source of a function, and the marks of headings
    r'<a class="(?:headerlink|reference internal" href="[^"]*_modules/)[^>]*>.*?</a>', re.DOTALL
)
ID = re.compile(r'(?<=\s)(id|aria-labelledby)="([^"]+)"')
LINK = re.compile(r'(?<=\s)((?:xlink:)?href)="([^"]*)"')
PAINT = re.compile(r"url\(#([^)]+)\)")
DESTINATION = re.compile(r'^\s*(\d+) \[.*\] "([\w-]+)--"$', re.MULTILINE)


def parts(root: Path) -> dict[str, list[str]]:
    """Map the caption of each part of the book to its pages, in the order of `_toc.yml`."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    found = {"": [toc["root"]]}
    for part in toc["parts"]:
        entries = part["chapters"]
        inner = [[e["file"], *(s["file"] for s in e.get("sections", []))] for e in entries]
        found[part["caption"]] = [name for names in inner for name in names]
    return found


def key(page: str) -> str:
    """Return what the names of a page begin with in the document."""
    return page.removeprefix("book/").replace("/", "-")


def read_article(page: str, folder: Path) -> str:
    """Return the text of a built page without the navigation around it."""
    return ARTICLE.search((folder / f"{page}.html").read_text("utf8"))[1]


def article(page: str, folder: Path, pages: list[str], site: str = "") -> str:
    """Return the text of a page, whose names and links are unique in the document.

    A link to what is not in the document leads to the published book, if there is a `site`.
    """
    text = PLUMBING.sub("", SCREEN_ONLY.sub("", read_article(page, folder)))

    def link(found):
        kind, target = found[1], html.unescape(found[2])
        if re.match(r"[a-z]+:", target):
            return found[0]
        path, _, name = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        if path.removesuffix(".html") in pages or path == page:
            return f'{kind}="#{key(path.removesuffix(".html"))}--{name}"'
        return f'{kind}="{site}{path}{"#" * bool(name)}{name}"' if site else ""

    text = LINK.sub(link, text)
    text = ID.sub(rf'\1="{key(page)}--\2"', text)
    text = PAINT.sub(rf"url(#{key(page)}--\1)", text)
    text = re.sub(r"<details\b", "<details open", text)
    text = re.sub(
        r'(?<=\s)src="([^":]+)"',
        lambda found: (
            f'src="{posixpath.normpath(posixpath.join(posixpath.dirname(page), found[1]))}"'
        ),
        text,
    )
    return f'<section class="page" id="{key(page)}--">{text}</section>'


def title_of(page: str, folder: Path) -> str:
    """Return the title of a page, with the number of its chapter."""
    text = TITLE.search(read_article(page, folder))[1]
    return html.unescape(re.sub(r"<[^>]+>", "", text)).strip()


def document(pages: list[str], folder: Path, numbers: dict[str, int], site: str = "") -> str:
    """Return the whole document; `numbers` are those of the pages, as far as they are known."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    head = (folder / f"{pages[0]}.html").read_text("utf8").partition("</head>")[0]
    styles = re.findall(r'<link[^>]*href="[./]*(_static/[^"?]+\.css)[^>]*>', head)
    titles = {page: title_of(page, folder) for page in pages}
    contents = []
    for caption, names in parts(ROOT).items():
        lines = [
            f'<li><a href="#{key(name)}--">{html.escape(titles[name])}</a>'
            f"<span>{numbers.get(key(name), '')}</span></li>"
            for name in names
            if name in pages
        ]
        if lines:
            contents.append(f"<h3>{caption}</h3>" * bool(caption) + f"<ul>{''.join(lines)}</ul>")
    running = "".join(
        f'@page {key(page)} {{ @top-left {{ content: "{titles[page].replace(chr(34), "")}"; }} }}\n'
        f'[id="{key(page)}--"] {{ page: {key(page)}; }}\n'
        for page in pages
    )
    facts = [f"Version {metadata.version('batchnorm-book')}", f"{datetime.now(UTC):%d %B %Y}"]
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8">
<base href="{folder.resolve().as_uri()}/">
<title>{config["title"]}</title>
{"".join(f'<link rel="stylesheet" href="{style}">' for style in styles)}
<style>{STYLE.read_text("utf8")}{running}</style>
</head>
<body>
<section class="title">
<img src="_static/logo.svg" alt="">
<p class="name">{config["title"]}</p>
<p>{config["author"]}</p>
<p>{", ".join(fact.lstrip("0") for fact in facts)}</p>
{f'<p><a href="{site}">{site}</a></p>' if site else ""}
<p class="note">Printed from the pages of the book, with all answers open. The notebooks have the
code of the figures, and the pages every setting of a claim and the reference of the library.</p>
</section>
<section class="contents"><h2>Contents</h2>{"".join(contents)}</section>
<main class="bd-article">
{"".join(article(page, folder, pages, site) for page in pages)}
</main>
</body>
</html>
"""


def find_chromium() -> str:
    """Find the browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise FileNotFoundError("Chromium is not installed (CHROMIUM=/path/to/it)")
    return found


def print_pages(
    browser: Browser, pages: list[str], folder: Path, out: Path, site: str = ""
) -> None:
    """Print pages of the built book into one PDF; the first time finds the numbers of the pages."""
    source = out.with_suffix(".html")
    tab = browser.new_page(java_script_enabled=False)
    tab.set_default_timeout(0)
    numbers: dict[str, int] = {}
    for final in (False, True) if shutil.which("pdfinfo") else (True,):
        source.write_text(document(pages, folder, numbers, site), "utf8")
        tab.goto(source.resolve().as_uri(), wait_until="load")
        tab.pdf(
            path=out,
            prefer_css_page_size=True,
            print_background=True,
            scale=SCALE,
            outline=final,
            tagged=final,
        )
        numbers = {} if final else page_numbers(out)
    tab.close()
    source.unlink()


def page_numbers(pdf: Path) -> dict[str, int]:
    """Map each page of the book to the page of the PDF on which it begins."""
    found = subprocess.run(
        ["pdfinfo", "-dests", str(pdf)], capture_output=True, text=True, check=True
    )
    return {name: int(number) for number, name in DESTINATION.findall(found.stdout)}


if __name__ == "__main__":
    every = [page for names in parts(ROOT).values() for page in names]
    chosen = sys.argv[1:] or [page for page in every if not page.startswith("book/api/")]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        print_pages(chromium, chosen, HTML, HTML / NAME, os.environ.get("BOOK_BASE_URL", ""))
        chromium.close()
    print(f"The book: {HTML / NAME}")
