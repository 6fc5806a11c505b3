"""Who is reporting, and where it runs."""

from connectsoft_obs.identity.identity import UNKNOWN_SERVICE as UNKNOWN_SERVICE
from connectsoft_obs.identity.identity import Identity as Identity
from connectsoft_obs.identity.identity import identify as identify
from connectsoft_obs.identity.identity import normalised as normalised
from connectsoft_obs.identity.platforms import Place as Place
from connectsoft_obs.identity.platforms import Platform as Platform
from connectsoft_obs.identity.platforms import detect as detect
