"""Commands: what people type; each module has `register(app)` and stands in the list of `bin/cli.py`."""
