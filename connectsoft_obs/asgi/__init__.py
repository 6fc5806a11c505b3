"""HTTP services: the middleware for any ASGI application."""

from connectsoft_obs.asgi.middleware import ObservabilityMiddleware as ObservabilityMiddleware
