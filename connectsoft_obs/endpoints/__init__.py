"""The endpoints: health, metrics, info."""

from connectsoft_obs.endpoints.asked import Answered as Answered
from connectsoft_obs.endpoints.asked import Asked as Asked
from connectsoft_obs.endpoints.endpoints import Endpoints as Endpoints
from connectsoft_obs.endpoints.listener import DEFAULT_PORT as DEFAULT_PORT
from connectsoft_obs.endpoints.listener import Listener as Listener
from connectsoft_obs.endpoints.side import Side as Side
