"""Ray Serve with its defaults: a composition of deployments, written as its documentation shows."""

from pathlib import Path

from loadtests.peers.launch import first_prediction, image_or_rows, program
from loadtests.peers.peer import Peer

PEER = Peer(
    name="rayserve",
    title="Ray Serve, composition, defaults",
    command=program("rayserve", "python", "-m", "loadtests.peers.rayserve.server"),
    request=image_or_rows,
    read=first_prediction,
    requirements=Path(__file__).parent,
    interrupt=True,
    startup_timeout_s=180,
)
