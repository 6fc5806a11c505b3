"""Checks, benchmarks and demos of the project. CI calls only these sessions."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "docs", "package", "tests"]

MIN_COVERAGE = 88
"""Percent of statements; 88.7 were measured on 2026-11-30."""

PYPROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def demo(session: nox.Session) -> None:
    """Run a service with traffic and print its health, metrics, logs and traces."""
    session.install("-q", ".[demo]")
    session.run("python", "-m", "connectsoft_obs", "demo", *(session.posargs or ["--once"]))


@nox.session
def demo_workers(session: nox.Session) -> None:
    """Run two services connected by RabbitMQ: one trace from the request to the job, and each job outcome."""
    session.install("-q", ".[demo]", *group("tests"))
    script = "examples/orders_and_mail/show.py"
    session.run("python", "-m", "support.brokers", "rabbitmq", "python", script, env={"PYTHONPATH": "tests"})


@nox.session
def platform(session: nox.Session) -> None:
    """Run the six services of `examples/` and print the trace of one request through all of them."""
    session.install("-q", ".[demo]", *group("examples"))
    session.run("python", "examples/together.py", *(session.posargs or ["--once"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and measure coverage; the summary lists the tests that passed only when they were repeated.

    Without arguments, coverage must not fall below `MIN_COVERAGE`. Code that runs only in subprocesses is not counted.
    """
    session.install("-q", ".[demo]", *group("tests"))
    coverage = ["--cov", "--cov-report=term:skip-covered", f"--cov-fail-under={MIN_COVERAGE}"]
    arguments = session.posargs or coverage
    session.run("pytest", "-n", "2", "--dist", "loadfile", "--reruns", "1", "-rR", *arguments)


@nox.session
def full(session: nox.Session) -> None:
    """Run the long scenarios; the `tests` session runs a short form of each."""
    session.install("-q", ".[demo]", *group("tests"))
    session.run("pytest", "-m", "full", *session.posargs)
    session.notify("framework_suites", posargs=[])


@nox.session
def framework_suites(session: nox.Session) -> None:
    """Run the test suites of Starlette and FastAPI with the package around and inside every application.

    `-- starlette` runs one of them. The suites come from the source distributions of the installed versions.
    """
    session.install("-q", ".", "fastapi[all]", "starlette[full]", "pytest-xdist")
    for framework, group_name in {"starlette": "dev", "fastapi": "tests"}.items():
        if framework not in (session.posargs or [framework]):
            continue
        sources = download_sources(session, framework)
        session.install(
            "-q", *nox.project.dependency_groups(nox.project.load_toml(sources / "pyproject.toml"), group_name)
        )
        compare_suite(session, framework, sources)


def download_sources(session: nox.Session, distribution: str) -> Path:
    """Unpack the source distribution of the installed version, and return its folder. It has to contain tests."""
    code = f"import importlib.metadata; print(importlib.metadata.version({distribution!r}))"
    version = str(session.run("python", "-c", code, silent=True)).strip()
    folder = Path(session.create_tmp()).resolve()  # the suites run in another working directory
    requirement = f"{distribution}=={version}"
    options = ("--no-binary", distribution, "--no-deps", "--dest", str(folder))
    session.run("python", "-m", "pip", "download", "-q", requirement, *options)
    sources = folder / f"{distribution}-{version}"
    shutil.rmtree(sources, ignore_errors=True)
    with tarfile.open(sources.with_name(f"{sources.name}.tar.gz")) as archive:
        archive.extractall(folder, filter="data")
    if not list(sources.glob("tests/**/test_*.py")):
        session.error(f"The source distribution of {requirement} contains no tests.")
    return sources


def compare_suite(session: nox.Session, framework: str, sources: Path) -> None:
    """Run the suite of a framework three times, and compare the outcomes with tests/framework_suites/expected.toml."""
    suites = Path("tests/framework_suites").resolve()
    reports = sources.parent / f"{framework}-reports"
    shutil.rmtree(reports, ignore_errors=True)
    # These tests replace the providers of the process, so their outcome depends on the tests that ran before.
    ignored = ["--ignore=tests/test_telemetry/test_runtime.py"]
    with session.chdir(sources):
        for position in ("bare", "around", "inside"):
            variables = {"PYTHONPATH": str(suites), "FRAMEWORK_SUITE_POSITION": position}
            options = ("-p", "suite_plugin", "-p", "no:cacheprovider", "-n", "2", "-q", "--tb=no", *ignored)
            report = f"--junitxml={reports / position}.xml"
            # Exit code 1: some tests fail, some of them by design.
            session.run("pytest", *options, report, "tests", env=variables, success_codes=[0, 1])
    session.run("python", str(suites / "compare.py"), framework, str(reports))


@nox.session
def soak(session: nox.Session) -> None:
    """Run two workers at full load for 600 s, or the given number of seconds, and plot memory and rates for the docs."""
    session.install("-q", ".[demo]", *group("tests"), "matplotlib")
    seconds = session.posargs or ["600"]
    session.run("python", "tests/bench/soak.py", *seconds, "--plot", "docs/explanation/soak.png")


@nox.session
def worker_soak(session: nox.Session) -> None:
    """Kill the workers of each framework at random for 600 s, and compare their metrics with what the jobs recorded."""
    session.install("-q", ".[demo]", *group("tests"))
    session.run("python", "tests/bench/worker_soak.py", *(session.posargs or ["--parallel", "2"]))


@nox.session
def faults(session: nox.Session) -> None:
    """Measure each exporter fault and print the table of docs/explanation/exporter-faults.md."""
    session.install("-q", ".[demo]", *group("tests"))
    session.run("python", "tests/bench/collector_faults.py", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests that depend most on libraries with the oldest versions that pyproject allows."""
    requirements = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["demo"]]
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(map(lower_bound, requirements)) + "\n")
    servers = ("uvicorn", "uvicorn-worker", "gunicorn", "hypercorn", "granian", "websockets")
    frameworks = ("litestar", "quart", "django", "channels", "falcon", "blacksheep")
    test_tools = (
        *servers,
        *frameworks,
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
    tools = [tool for tool in group("tests") if re.split(r"[^a-z0-9-]", tool)[0] in test_tools]
    session.install("-q", ".[demo]", *tools, "-c", str(constraints))
    session.run("pip", "list", "--format=freeze")
    folders = ["tests/asgi", "tests/export", "tests/logs", "tests/tracing", "tests/work/test_jobs.py", "tests/testing"]
    # These tests need instrumentation packages, which require the newest OpenTelemetry.
    need_instrumentation = ("asgi/test_coexistence", "asgi/test_outgoing_calls", "asgi/test_private_names")
    ignored = [f"--ignore=tests/{name}.py" for name in (*need_instrumentation, "tracing/test_otel_private")]
    session.run("pytest", "-q", *(session.posargs or [*folders, *ignored, "-k", "not outgoing_call"]))


def lower_bound(requirement: str) -> str:
    """Convert `structlog>=25.1` to `structlog==25.1`, without extras."""
    name, _, versions = requirement.partition(">=")
    return f"{name.partition('[')[0]}=={versions.partition(',')[0]}"


@nox.session
def audit(session: nox.Session) -> None:
    """Check the installed dependencies for known vulnerabilities; list them if the database cannot be reached."""
    session.install("-q", ".[demo,cli]", "pip-audit")
    frozen = session.run("pip", "freeze", "--exclude", "connectsoft-obs", silent=True) or ""
    requirements = Path(session.create_tmp()) / "installed.txt"
    requirements.write_text("\n".join(line for line in frozen.splitlines() if "==" in line) + "\n")
    output = session.run(
        "pip-audit", "-r", str(requirements), "--disable-pip", "--no-deps", silent=True, success_codes=[0, 1], log=False
    )
    if "No known vulnerabilities found" in (output or ""):
        session.log("No known vulnerabilities found")
        return
    if "Found " in (output or "") and "vulnerabilit" in (output or ""):
        session.error(output)
    session.warn("The advisory database cannot be reached. Installed versions, to be checked manually:")
    session.log(requirements.read_text())


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, lint rules and import contracts."""
    session.install("-q", "-e", ".", *group("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, of its tests, and the completeness of its public types."""
    session.install("-q", "-e", ".[demo]", *group("types"), *group("tests"))
    session.run("mypy", "connectsoft_obs", "tests")
    session.run("mypy", "tests/bench", env={"MYPYPATH": "tests/bench"})
    session.run("pyright", "--verifytypes", "connectsoft_obs", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, search it, and run its code blocks (the tests run those of the README)."""
    session.install("-q", ".[demo,cli]", *group("docs"))
    # -E: Sphinx does not save the index entries of pages that do not change
    session.run("sphinx-build", "-E", "-W", "-q", "-b", "html", "docs", "docs/_build/html")
    session.run("pytest", "docs")


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, install the wheel into a new environment, and use it there."""
    session.install("-q", "build", "check-wheel-contents")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, silent=True)
        wheel = str(next(Path(folder).glob("*.whl")))
        session.run("check-wheel-contents", "--toplevel", "connectsoft_obs", wheel)
        environment = Path(folder) / "environment"
        session.run("python", "-m", "venv", str(environment))
        python = str(environment / "bin" / "python")
        session.run(python, "-m", "pip", "install", "-q", f"{wheel}[demo]", external=True)
        script = Path(folder) / "smoke.py"
        shutil.copy("tests/smoke.py", script)
        with session.chdir(folder):
            session.run(python, "-I", str(script), external=True)
            session.run(python, "-m", "connectsoft_obs", "demo", "--once", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure costs relative to the bare application and to peers; `-- --short` compares instruction counts only."""
    peers = () if "--short" in session.posargs else group("bench")
    session.install("-q", ".[demo]", *group("tests"), *peers)
    if peers:  # its pinned dependencies are from 2023; it also works with current versions
        session.install("-q", "--no-deps", "autometrics")
    session.run("python", "tests/bench/run.py", *session.posargs)
