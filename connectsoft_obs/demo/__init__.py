"""`connectsoft-obs demo`: runs a service with traffic on this machine and shows its health, metrics, logs and traces."""

from connectsoft_obs.demo.runner import main as main
