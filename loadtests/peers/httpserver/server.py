"""Python's own http.server: one process, a thread and a connection per request."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loadtests.peers.inference import Model

model = Model()


class Handler(BaseHTTPRequestHandler):
    """Answers POST."""

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's
        """Classify what was sent."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/image":
            probabilities = model.classify_images([body])
        else:
            probabilities = model.classify_rows(json.loads(body)["instances"])
        answer = json.dumps({"predictions": probabilities.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Not a line per request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["BENCH_PORT"])), Handler).serve_forever()
