"""mosec: a Rust front, one worker process per core."""

from pathlib import Path

from loadtests.peers.launch import first_prediction, program
from loadtests.peers.peer import Peer, Request

PEER = Peer(
    name="mosec",
    title="mosec",
    command=program("mosec", "python", "-m", "loadtests.peers.mosec.server", "--address=127.0.0.1", "--port={port}"),
    request=lambda workload: Request("/inference", {"Content-Type": workload.media_type}, workload.body),
    read=first_prediction,
    requirements=Path(__file__).parent,
)
