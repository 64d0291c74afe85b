"""The peers, by name."""

from collections.abc import Mapping

from loadtests.peers.bentoml.peer import PEER as BENTOML
from loadtests.peers.fastapi.peer import PEER as FASTAPI
from loadtests.peers.httpserver.peer import PEER as HTTP_SERVER
from loadtests.peers.litserve.peer import PEER as LITSERVE
from loadtests.peers.mlserver.peer import PEER as MLSERVER
from loadtests.peers.mosec.peer import PEER as MOSEC
from loadtests.peers.peer import Peer
from loadtests.peers.rayserve.peer import PEER as RAY_SERVE
from loadtests.peers.triton.peer import PEER as TRITON

PEERS: Mapping[str, Peer] = {
    peer.name: peer for peer in (TRITON, MOSEC, FASTAPI, MLSERVER, BENTOML, LITSERVE, HTTP_SERVER, RAY_SERVE)
}
