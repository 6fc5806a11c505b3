"""Promises that were written for other tools, as ours."""

from connectsoft_obs.slo.migrate.documents import migrated as migrated
