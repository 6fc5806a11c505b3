"""Health, metrics, info and logger endpoints, independent of the server that serves them."""

from connectsoft_obs.endpoints.http_server import DEFAULT_PORT as DEFAULT_PORT
from connectsoft_obs.endpoints.http_server import EndpointServer as EndpointServer
from connectsoft_obs.endpoints.management_listener import ManagementListener as ManagementListener
from connectsoft_obs.endpoints.management_listener import management_port as management_port
from connectsoft_obs.endpoints.request_response import EndpointRequest as EndpointRequest
from connectsoft_obs.endpoints.request_response import EndpointResponse as EndpointResponse
from connectsoft_obs.endpoints.router import EndpointRouter as EndpointRouter
