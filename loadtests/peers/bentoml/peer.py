"""BentoML: one worker process per core."""

from pathlib import Path

from loadtests.peers.launch import executable, image_or_rows, settings
from loadtests.peers.peer import Command, Peer, Start


def command(start: Start) -> Command:
    """`bentoml serve`, with a home of its own."""
    service = "loadtests.peers.bentoml.server:Service"
    environment = {
        **settings(start),
        "BENTOML_HOME": str(start.directory),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    serve = [executable("bentoml", "bentoml"), "serve", service, "--host=127.0.0.1", f"--port={start.port}"]
    return Command([*serve, "--production"], environment)


def read(answer: list[list[float]]) -> list[float]:
    """What the method returns is the body."""
    return answer[0]


PEER = Peer(
    name="bentoml",
    title="BentoML",
    command=command,
    request=image_or_rows,
    read=read,
    requirements=Path(__file__).parent,
)
