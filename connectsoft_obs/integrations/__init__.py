"""One library each, imported by whoever uses it: `from connectsoft_obs.integrations import celery; celery.install(app)`."""
