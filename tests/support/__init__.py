"""Real servers, sinks and processes for tests."""
