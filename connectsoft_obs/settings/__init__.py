"""Settings and how they are loaded from the environment."""

from connectsoft_obs.settings.argument_types import SettingsArguments as SettingsArguments
from connectsoft_obs.settings.fields import PREFIX as PREFIX
from connectsoft_obs.settings.fields import Settings as Settings
from connectsoft_obs.settings.fields import variable as variable
from connectsoft_obs.settings.loader import FIELDS as FIELDS
from connectsoft_obs.settings.loader import load_settings as load_settings
from connectsoft_obs.settings.loader import quote_setting as quote_setting
from connectsoft_obs.settings.opentelemetry_validation import valid_environment as valid_environment
from connectsoft_obs.settings.variable_checks import implausible_variables as implausible_variables
from connectsoft_obs.settings.variable_checks import invalid_variables as invalid_variables
from connectsoft_obs.settings.variable_checks import unknown_variables as unknown_variables
from connectsoft_obs.settings.variable_checks import variable_warnings as variable_warnings
