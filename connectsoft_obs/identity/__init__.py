"""Identity of the process: OpenTelemetry resource and detected platform."""

from connectsoft_obs.identity.local_terminal import is_local_terminal as is_local_terminal
from connectsoft_obs.identity.platforms import DetectedPlatform as DetectedPlatform
from connectsoft_obs.identity.platforms import Platform as Platform
from connectsoft_obs.identity.platforms import detect as detect
from connectsoft_obs.identity.resource import DEFAULT as DEFAULT
from connectsoft_obs.identity.resource import TITLE as TITLE
from connectsoft_obs.identity.resource import UNKNOWN_SERVICE as UNKNOWN_SERVICE
from connectsoft_obs.identity.resource import ResourceIdentity as ResourceIdentity
from connectsoft_obs.identity.resource import identify as identify
from connectsoft_obs.identity.resource import normalize_environment as normalize_environment
