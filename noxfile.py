"""Every check of the project, and the demo. CI calls this file and nothing else."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "docs", "package", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """The packages of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def demo(session: nox.Session) -> None:
    """A service with traffic on this machine, and what its four signals say."""
    session.install("-q", ".[demo]")
    session.run("python", "-m", "connectsoft_obs", "demo", *(session.posargs or ["--once"]))


@nox.session
def demo_workers(session: nox.Session) -> None:
    """Two services with RabbitMQ between them: one trace from the request to the job, and every way to end."""
    session.install("-q", ".[demo]", *group("tests"))
    show = "examples/orders_and_mail/show.py"
    session.run("python", "-m", "support.brokers", "rabbitmq", "python", show, env={"PYTHONPATH": "tests"})


@nox.session
def platform(session: nox.Session) -> None:
    """The six services of `examples/` at once, and the trace of one request through all of them."""
    session.install("-q", ".[demo]", *group("examples"))
    session.run("python", "examples/together.py", *(session.posargs or ["--once"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Every behaviour, against real servers; the summary names each test that needed a second attempt."""
    session.install("-q", ".[demo]", *group("tests"))
    session.run("pytest", "-n", "2", "--dist", "loadgroup", "--reruns", "1", "-rR", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """The long scenarios that the ordinary run has a short form of."""
    session.install("-q", ".[demo]", *group("tests"))
    session.run("pytest", "-m", "full", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Two workers at full load, ten minutes unless another number of seconds is given; the plot goes into the docs."""
    session.install("-q", ".[demo]", *group("tests"), "matplotlib")
    seconds = session.posargs or ["600"]
    session.run("python", "tests/bench/soak.py", *seconds, "--plot", "docs/explanation/soak.png")


@nox.session
def fire(session: nox.Session) -> None:
    """Measure exporter faults, one by one; prints the table of docs/explanation/exporter-faults.md."""
    session.install("-q", ".[demo]", *group("tests"))
    session.run("python", "tests/bench/collector_faults.py", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """The oldest dependencies that pyproject allows, and the tests that lean on them most."""
    wanted = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["demo"]]
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(map(lower_bound, wanted)) + "\n")
    servers = ("uvicorn", "uvicorn-worker", "gunicorn", "hypercorn", "granian", "websockets", "litestar")
    needed = (
        *servers,
        "azure-monitor-opentelemetry-exporter",
        "pytest",
        "hypothesis",
        "httpx2",
        "fastapi",
        "trio",
        "cryptography",
        "rotel",
        "click",
        "rich",
        "pyyaml",
    )
    tools = [one for one in group("tests") if re.split(r"[^a-z0-9-]", one)[0] in needed]
    session.install("-q", ".[demo]", *tools, "-c", str(constraints))
    session.run("pip", "list", "--format=freeze")
    folders = ["tests/asgi", "tests/export", "tests/logs", "tests/tracing", "tests/work/test_jobs.py", "tests/testing"]
    # These need instrumentations, which pin the OpenTelemetry they were released with.
    beside = [f"--ignore=tests/asgi/test_{name}.py" for name in ("exactly_one", "outgoing")]
    session.run("pytest", "-q", *(session.posargs or [*folders, *beside, "-k", "not outgoing_call"]))


def lower_bound(requirement: str) -> str:
    """`structlog>=25.1` as `structlog==25.1`, without extras."""
    name, _, rest = requirement.partition(">=")
    return f"{name.partition('[')[0]}=={rest.partition(',')[0]}"


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what a service installs; the list of versions where nobody can be asked."""
    session.install("-q", ".[demo,cli]", "pip-audit")
    frozen = session.run("pip", "freeze", "--exclude", "connectsoft-obs", silent=True) or ""
    listed = Path(session.create_tmp()) / "installed.txt"
    listed.write_text("\n".join(line for line in frozen.splitlines() if "==" in line) + "\n")
    said = session.run(
        "pip-audit", "-r", str(listed), "--disable-pip", "--no-deps", silent=True, success_codes=[0, 1], log=False
    )
    if "No known vulnerabilities found" in (said or ""):
        session.log("No known vulnerabilities found")
        return
    if "Found " in (said or "") and "vulnerabilit" in (said or ""):
        session.error(said)
    session.warn("The advisory database cannot be reached from here. What is installed, to be looked up by hand:")
    session.log(listed.read_text())


@nox.session
def lint(session: nox.Session) -> None:
    """Format, rules, layers."""
    session.install("-q", "-e", ".", *group("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """What type checkers say of the package, its tests, and those who use it."""
    session.install("-q", "-e", ".[demo]", *group("types"), *group("tests"))
    session.run("mypy", "connectsoft_obs", "tests")
    session.run("mypy", "tests/bench", env={"MYPYPATH": "tests/bench"})
    session.run("pyright", "--verifytypes", "connectsoft_obs", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; warnings are errors, code blocks are run (those of the README by the tests)."""
    session.install("-q", ".[demo,cli]", *group("docs"))
    session.run("pytest", "docs")
    session.run("sphinx-build", "-W", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, install the wheel alone, and use it."""
    session.install("-q", "build", "check-wheel-contents")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, silent=True)
        wheel = str(next(Path(folder).glob("*.whl")))
        session.run("check-wheel-contents", "--toplevel", "connectsoft_obs", wheel)
        alone = Path(folder) / "alone"
        session.run("python", "-m", "venv", str(alone))
        python = str(alone / "bin" / "python")
        session.run(python, "-m", "pip", "install", "-q", f"{wheel}[demo]", external=True)
        script = Path(folder) / "smoke.py"
        shutil.copy("tests/smoke.py", script)
        with session.chdir(folder):
            session.run(python, "-I", str(script), external=True)
            session.run(python, "-m", "connectsoft_obs", "demo", "--once", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """What it costs, beside the bare application and its peers; `-- --short` compares instructions with the last run's."""
    peers = () if "--short" in session.posargs else group("bench")
    session.install("-q", ".[demo]", *group("tests"), *peers)
    if peers:  # it pins versions of 2023, which it works without
        session.install("-q", "--no-deps", "autometrics")
    session.run("python", "tests/bench/run.py", *session.posargs)
