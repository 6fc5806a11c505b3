"""One policy for secrets, for every place where telemetry leaves the process."""

from connectsoft_obs.redaction.attributes import AttributeRedactor as AttributeRedactor
from connectsoft_obs.redaction.keys import REDACTED as REDACTED
from connectsoft_obs.redaction.policy import DEFAULT_POLICY as DEFAULT_POLICY
from connectsoft_obs.redaction.policy import RedactionPolicy as RedactionPolicy
from connectsoft_obs.redaction.string_conversion import safe_str as safe_str
from connectsoft_obs.redaction.text import is_card_number as is_card_number
