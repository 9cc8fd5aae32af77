"""The rooms of the lab: what each computes for the page, by the library itself."""

from svertka.lab.api import Endpoint
from svertka.lab.rooms import convolution, filters, layers, learnt, network, pictures, pooling

ENDPOINTS: tuple[Endpoint, ...] = (
    *convolution.ENDPOINTS, *pictures.ENDPOINTS, *pooling.ENDPOINTS, *filters.ENDPOINTS, *layers.ENDPOINTS,
    *network.ENDPOINTS, *learnt.ENDPOINTS,
)  # fmt: skip
