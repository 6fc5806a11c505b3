"""Identity of the process: OpenTelemetry resource and detected platform."""

from connectsoft_obs.identity.platforms import DetectedPlatform as DetectedPlatform
from connectsoft_obs.identity.platforms import Platform as Platform
from connectsoft_obs.identity.platforms import detect as detect
from connectsoft_obs.identity.resource import UNKNOWN_SERVICE as UNKNOWN_SERVICE
from connectsoft_obs.identity.resource import ResourceIdentity as ResourceIdentity
from connectsoft_obs.identity.resource import identify as identify
from connectsoft_obs.identity.resource import normalize_environment as normalize_environment
