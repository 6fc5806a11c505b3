"""What importing the package costs, and which other packages it imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench import imports

import connectsoft_obs

PACKAGE = Path(connectsoft_obs.__file__).parent


def run_code(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_importing_the_package_imports_no_heavy_dependency() -> None:
    modules = run_code("import sys, connectsoft_obs; print(*sys.modules, sep='\\n')").split()
    heavy = {"starlette", "fastapi", "grpc", "requests", "opentelemetry", "structlog", "prometheus_client", "orjson"}
    assert not heavy & {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("name", sorted(connectsoft_obs.__all__))
def test_using_any_public_name_imports_no_framework(name: str) -> None:
    modules = run_code(f"import sys, connectsoft_obs as o; o.{name}; print(*sys.modules, sep='\\n')").split()
    assert not {"starlette", "fastapi", "grpc", "requests", "uvicorn"} & {
        module.partition(".")[0] for module in modules
    }


def test_the_export_list_is_sorted_and_complete() -> None:
    assert list(connectsoft_obs.__all__) == sorted(connectsoft_obs.__all__)
    for name in connectsoft_obs.__all__:
        value = getattr(connectsoft_obs, name)
        assert getattr(value, "__module__", getattr(value, "__name__", "")).startswith("connectsoft_obs")
    assert set(connectsoft_obs.__all__) <= set(dir(connectsoft_obs))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        connectsoft_obs.nothing  # noqa: B018  the access is the test


def test_importing_starts_no_thread_and_changes_no_global_state() -> None:
    code = (
        "import threading, logging, signal, connectsoft_obs as o\n"
        "for name in o.__all__: getattr(o, name)\n"
        "from opentelemetry import trace\n"
        "print(threading.active_count(), logging.getLogger().handlers, type(trace.get_tracer_provider()).__name__,"
        " signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    assert run_code(code).split() == ["1", "[]", "ProxyTracerProvider", "True"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("statement", "reference"),
    [(imports.PACKAGE, imports.PACKAGE_DEPENDENCIES), (imports.SERVICE, imports.SERVICE_DEPENDENCIES)],
    ids=["package", "service"],
)
def test_import_time_is_below_one_and_a_half_times_its_dependencies(statement: str, reference: str) -> None:
    assert imports.ratio(statement, reference) < 1.5


def test_posix_only_names_are_guarded() -> None:
    """All modules can be imported on Windows: names that it lacks are tested with hasattr or imported conditionally."""
    functions = r"os\.(fork|register_at_fork|getppid|killpg|setsid|getuid|geteuid|O_NOFOLLOW)\b|signal\.(SIGKILL|SIGHUP|SIGUSR\w|pthread_\w+)"
    modules = r"^\s*(import|from) (fcntl|resource|pwd|grp|termios|pty)\b"
    unguarded = []
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            is_posix_only = re.search(functions, line) or re.search(modules, line)
            context = "\n".join(lines[max(0, number - 3) : number + 1])
            if is_posix_only and not re.search(r"hasattr\((os|signal)|sys\.platform|try:|suppress\(", context):
                unguarded.append(f"{path.name}:{number + 1}: {line.strip()}")
    assert unguarded == []
