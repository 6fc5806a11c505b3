"""`connectsoft-obs demo`: a service with real traffic on this machine, and what its four signals say."""

from connectsoft_obs.demo.show import main as main
