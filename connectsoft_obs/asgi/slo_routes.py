"""Checks at start-up whether the routes in SLOs exist in the application; an SLO of an unknown route counts no requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.route_template import read_route_table
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import HTTP_ROUTE, SLO_NAME

if TYPE_CHECKING:
    from connectsoft_obs.slo import SLO
    from connectsoft_obs.slo.declared_slos import UnknownName


def unknown_slo_routes(slos: Sequence[SLO], application: Any, root_path: str | None = None) -> Iterator[UnknownName]:
    """Yield the routes of SLOs that an application does not have; none if its routes cannot be read.

    Args:
        slos: the SLOs.
        application: the application, also inside of middlewares.
        root_path: the path that the server has set; route templates begin with it. None before the first request, when
            it is unknown; a route that may begin with a root path is not reported then.
    """
    from connectsoft_obs.slo.declared_slos import unknown_routes  # not imported by services without SLOs

    table = read_route_table(application)
    if table is None:
        return
    templates = {(root_path or "") + template for template in table.templates}
    prefixes = tuple(f"{root_path or ''}{prefix}/" for prefix in table.opaque_prefixes)
    for unknown in unknown_routes(slos, templates):
        could_be_mounted = f"{unknown.name}/".startswith(prefixes)
        if not could_be_mounted and not (root_path is None and unknown.name.endswith(tuple(templates))):
            yield unknown


def warn_unknown_slo_routes(telemetry: Telemetry, application: Any, root_path: str | None = None) -> None:
    """Log one warning for each route of an SLO that the application does not have; see `unknown_slo_routes`."""
    if telemetry.slos is None:
        return
    for unknown in unknown_slo_routes(telemetry.slos.slos, application, root_path):
        telemetry.internal_telemetry.warn_once(
            (unknown.slo, unknown.name),
            "an SLO names a route that the application does not have, so no request is counted for it",
            {
                SLO_NAME: unknown.slo,
                HTTP_ROUTE: unknown.name,
                "instead": unknown.advice or "use the template of a route; connectsoft-obs doctor lists them",
            },
        )
