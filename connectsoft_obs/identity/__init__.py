"""Who is reporting, and where it runs."""

from connectsoft_obs.identity.platforms import Place as Place
from connectsoft_obs.identity.platforms import Platform as Platform
from connectsoft_obs.identity.platforms import detect as detect
from connectsoft_obs.identity.resource import UNKNOWN_SERVICE as UNKNOWN_SERVICE
from connectsoft_obs.identity.resource import ResourceIdentity as ResourceIdentity
from connectsoft_obs.identity.resource import identify as identify
from connectsoft_obs.identity.resource import normalised as normalised
