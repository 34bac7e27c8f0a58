"""What the book needs from Sphinx that `_config.yml` cannot say.

* The package is importable for autodoc, installed or not.
* Outputs of notebooks come from a cache that is never older than the library.
* A build with a warning leaves nothing behind that would hide the warning next time.
* Links to the repository and to the book as one PDF appear when the environment names them (the
  workflow that publishes does).
"""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from execution_cache import current_cache, hash_files, prepare_kernels  # noqa: E402


def _set_state(app, config):
    prepare_kernels(ROOT)
    config.nb_execution_cache_path = str(current_cache(ROOT))
    # Sphinx looks for changes in pages only: let a new style sheet rewrite them too.
    config.bn_assets = hash_files(ROOT, "book/_ext", "book/_static", "book/_templates")


def _set_links(app, config):
    options = config.html_theme_options
    if repository := os.environ.get("BOOK_REPOSITORY_URL"):
        options["repository_url"] = repository
        options["repository_branch"] = os.environ.get("BOOK_REPOSITORY_BRANCH", "main")
        for button in ("repository", "edit_page", "issues"):
            options[f"use_{button}_button"] = True
    if site := os.environ.get("BOOK_BASE_URL"):
        config.html_baseurl = config.ogp_site_url = f"{site.rstrip('/')}/"


def _link_pdf(app, pagename, templatename, context, doctree):
    """Put the PDF, which `tools/pdf.py` prints after the build, beside the button that prints."""
    if not (name := os.environ.get("BOOK_PDF")):
        return
    link = {
        "type": "link",
        "text": "The book as PDF",
        "tooltip": "Download the book as PDF",
        "url": context["pathto"](name, 1),
        "icon": "fas fa-book",
        "label": "download-book-button",
    }
    for group in context.get("header_buttons", []):
        if group["label"] == "download-buttons":
            group["buttons"].append(link)


def _forget_failure(app, exception):
    # Pages with warnings would count as done, and the next build would succeed without a word.
    if exception is not None or app._warncount:
        shutil.rmtree(app.doctreedir, ignore_errors=True)


def _skip_bare_fields(app, what, name, obj, skip, options):
    # A named tuple documents its fields with their numbers; the signature already lists them.
    if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number"):
        return True
    return None


def setup(app):
    """Register with Sphinx."""
    app.add_config_value("bn_assets", "", "html")
    app.connect("autodoc-skip-member", _skip_bare_fields)
    app.connect("config-inited", _set_state)
    app.connect("config-inited", _set_links)
    app.connect("html-page-context", _link_pdf, priority=900)
    app.connect("build-finished", _forget_failure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
