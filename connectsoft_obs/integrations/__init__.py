"""Integrations of task and messaging libraries, one module for each library.

An application imports the ones it uses: `from connectsoft_obs.integrations import celery; celery.install(app)`.
"""
