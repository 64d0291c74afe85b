"""LitServe: its API process in front, one worker process per core."""

from pathlib import Path

from loadtests.peers.launch import first_prediction, multipart, program
from loadtests.peers.peer import Peer, Request
from loadtests.workloads import Workload


def request(workload: Workload) -> Request:
    """LitServe reads JSON and forms; a file in a form is its way to send an image without base64."""
    if workload.pixels:
        return multipart("/predict", "file", workload.body, workload.media_type)
    return Request("/predict", {"Content-Type": workload.media_type}, workload.body)


PEER = Peer(
    name="litserve",
    title="LitServe",
    command=program("litserve", "python", "-m", "loadtests.peers.litserve.server"),
    request=request,
    read=first_prediction,
    requirements=Path(__file__).parent,
    interrupt=True,
)
