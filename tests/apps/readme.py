"""The README's FastAPI example, as a module that a server can load."""

import re
from pathlib import Path

_text = (Path(__file__).parents[2] / "README.md").read_text()
exec(re.findall(r"^```python\n(.*?)^```", _text, flags=re.MULTILINE | re.DOTALL)[0])  # noqa: S102
