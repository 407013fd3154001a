"""The two servers of a Hub on the loopback: one for its API and files, one for where large files lie."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from .api import APIHandler, StorageHandler
from .hub import Hub


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A running Hub without any repository; every request that it has no answer to is an error at its end."""
    api, storage = (ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (APIHandler, StorageHandler))
    hub = Hub(f"http://127.0.0.1:{api.server_port}", f"http://localhost:{storage.server_port}")
    for server in (api, storage):
        server.hub = hub
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.mend()
        for server in (api, storage):
            server.shutdown()
            server.server_close()
    assert not hub.unknown, f"this Hub has no answer to {hub.unknown}"
