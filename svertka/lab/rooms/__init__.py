"""The rooms of the lab: what each computes for the page, by the library itself."""

from svertka.lab.api import Endpoint, Stream
from svertka.lab.rooms import convolution, filters, layers, learnt, network, pictures, pooling, training

ENDPOINTS: tuple[Endpoint | Stream, ...] = (
    *convolution.ENDPOINTS, *pictures.ENDPOINTS, *pooling.ENDPOINTS, *filters.ENDPOINTS, *layers.ENDPOINTS,
    *network.ENDPOINTS, *learnt.ENDPOINTS, *training.ENDPOINTS,
)  # fmt: skip
