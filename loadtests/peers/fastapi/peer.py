"""FastAPI behind uvicorn, one worker process per core."""

from pathlib import Path

from loadtests.peers.launch import first_prediction, image_or_rows, program
from loadtests.peers.peer import Peer

PEER = Peer(
    name="fastapi",
    title="FastAPI + uvicorn",
    command=program(
        *("fastapi", "uvicorn", "loadtests.peers.fastapi.server:app", "--host=127.0.0.1", "--port={port}"),
        *("--workers={cores}", "--log-level=warning", "--no-access-log"),
    ),
    request=image_or_rows,
    read=first_prediction,
    requirements=Path(__file__).parent,
)
