"""Promises that were written for other tools, as ours."""

from connectsoft_obs.ops.slo.importers.detect import import_document as import_document
