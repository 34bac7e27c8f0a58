"""Notebooks to run, for each chapter: where a page links them, and that the build writes them.

A published book has them in a branch of the repository too, from which Binder and Colab open them
(`.github/workflows/pages.yml`). `tools/jupyter_notebooks.py` says how they are made.
"""

import os
from pathlib import Path

from bnbook import ROOT
from jupyter_notebooks import write_all
from lite import CHAPTERS

BRANCH = "notebooks"


def _link(text, tooltip, url, icon, label):
    named = {"text": text, "tooltip": tooltip, "url": url, "icon": icon, "label": label}
    return named | {"type": "link"}


def _launch(repository, name):
    """Link what runs a notebook elsewhere: only GitHub's repositories are known to both."""
    if not repository.startswith("https://github.com/"):
        return []
    path = repository.removeprefix("https://github.com/").strip("/")
    binder = f"https://mybinder.org/v2/gh/{path}/{BRANCH}?urlpath=lab/tree/notebooks/{name}"
    colab = f"https://colab.research.google.com/github/{path}/blob/{BRANCH}/notebooks/{name}"
    images = "_static/images/logo_"
    return [
        _link("Binder", "Run on Binder", binder, f"{images}binder.svg", "binder"),
        _link("Colab", "Run on Colab", colab, f"{images}colab.png", "colab"),
    ]


def _lite(name, pathto):
    """Link the exercises in the browser, if `BOOK_LITE` names the folder of the site with them."""
    folder = os.environ.get("BOOK_LITE")
    if not folder or Path(name).stem not in CHAPTERS:
        return []
    url = f"{pathto(f'{folder}/lab/index.html', 1)}?path={name}"
    return [_link("In the browser", "Do the exercises in the browser", url, "fas fa-play", "lite")]


def _set_buttons(app, pagename, templatename, context, doctree):
    if context.get("page_source_suffix") != ".ipynb":
        return
    name = f"{Path(pagename).name}.ipynb"
    buttons = [
        *_lite(name, context["pathto"]),
        *_launch(os.environ.get("BOOK_REPOSITORY_URL", ""), name),
        *(
            _link(text, f"Download the {text.lower()}", context["pathto"](url, 1), icon, "notebook")
            for text, url, icon in (
                ("Notebook", f"notebooks/{name}", "fas fa-download"),
                ("Exercises without solutions", f"exercises/{name}", "fas fa-pencil-alt"),
            )
        ),
        _link(
            "How to run it",
            "How to run this page",
            context["pathto"]("book/index") + "#how-to-run-it",
            "fas fa-question",
            "how-to-run",
        ),
    ]
    group = {"type": "group", "tooltip": "Run this page", "icon": "fas fa-rocket"}
    context["header_buttons"].insert(0, group | {"buttons": buttons, "label": "launch-buttons"})
    for each in context["header_buttons"]:  # the source is no notebook to run
        if each["label"] == "download-buttons":
            each["buttons"] = [b for b in each["buttons"] if b["text"] != ".ipynb"]


def _write_notebooks(app, exception):
    if exception is None and app.builder.format == "html":
        out = Path(app.outdir)
        folders = {False: out / "notebooks", True: out / "exercises"}
        write_all(ROOT, folders, "plain", app.config.html_baseurl)


def setup(app):
    """Register with Sphinx."""
    app.connect("html-page-context", _set_buttons, priority=900)
    app.connect("build-finished", _write_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
