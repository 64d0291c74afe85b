"""Python's own http.server, as tutorials show it."""

from pathlib import Path

from loadtests.peers.launch import first_prediction, image_or_rows, program
from loadtests.peers.peer import Peer

PEER = Peer(
    name="httpserver",
    title="http.server",
    command=program("httpserver", "python", "-m", "loadtests.peers.httpserver.server"),
    request=image_or_rows,
    read=first_prediction,
    requirements=Path(__file__).parent,
)
