"""Importers for OpenSLO, Sloth and Pyrra."""

from connectsoft_obs.ops.slo.importers.detect import import_documents as import_documents
from connectsoft_obs.ops.slo.importers.omissions import Omissions as Omissions
