"""Serve the built book on this computer only, and open it in the browser.

Usage: ``python tools/serve.py [port]``
"""

import sys
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HTML = Path(__file__).parents[1] / "_build" / "html"


def main(port: int) -> None:
    """Serve until Ctrl-C."""
    if not (HTML / "index.html").exists():
        sys.exit("The book is not built yet: run `make book` first.")
    handler = partial(SimpleHTTPRequestHandler, directory=HTML)
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/book/index.html"
        print(f"The book: {address}   (Ctrl-C ends)", flush=True)
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
