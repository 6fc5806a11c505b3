"""Rules, alerts, dashboards, runbooks and reports generated from SLO declarations."""
