"""`connectsoft-obs demo`: a service with real traffic on this machine, and what its four signals say."""

from connectsoft_obs.demo.runner import main as main
