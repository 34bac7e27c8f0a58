"""Mathematics: KaTeX at build time, so that pages are light and read offline.

Where Node.js or KaTeX (`npm ci`) is missing, the reader's browser sets the formulas as MathML,
with a script that is part of the book. No page asks another host for anything in either case.
"""

import html
import shutil
import socket
import subprocess
import time
from pathlib import Path

from sphinx.util import logging
from sphinxcontrib import katex

DIST = Path(__file__).resolve().parents[2] / "node_modules" / "katex" / "dist"
SECONDS_TO_START = 60


def _set_math(app, config):
    config.katex_prerender = shutil.which("node") is not None and DIST.is_dir()
    if config.katex_prerender:
        config.katex_css_path = "katex/katex.min.css"
    else:  # MathML needs neither style sheet nor fonts
        config.katex_css_path = "katex-math.css"
        config.katex_options = "output: 'mathml'"


def _copy_fonts(app):
    if app.builder.format == "html" and app.config.katex_prerender:
        target = Path(app.outdir) / "_static" / "katex"
        shutil.copytree(DIST / "fonts", target / "fonts", dirs_exist_ok=True)
        shutil.copy(DIST / "katex.min.css", target)


def _start_server(cls, rundir, timeout):
    # The extension's own function fails now and then: it may see the server's socket
    # before the server listens.
    address = rundir / "katex.sock"
    command = cls.build_command(socket=address)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=rundir)
    end = time.monotonic() + SECONDS_TO_START
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(str(address))
            return process, client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            if time.monotonic() > end:
                process.kill()
                raise
            time.sleep(0.01)


def _render_or_warn(latex, options=None, render=katex.render_latex):
    # The extension shows a wrong formula in red and says nothing: let it fail the build.
    try:
        return render(latex, {"throwOnError": True, **(options or {})})
    except katex.KaTeXError as error:
        logging.getLogger(__name__).warning("KaTeX: %s in %r", error, latex)
        return html.escape(latex)


def setup(app):
    """Register with Sphinx."""
    katex.KaTeXServer.start_server_process = classmethod(_start_server)
    katex.RENDER_TIMEOUT = SECONDS_TO_START
    katex.render_latex = _render_or_warn
    app.connect("config-inited", _set_math)
    app.connect("builder-inited", _copy_fonts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
