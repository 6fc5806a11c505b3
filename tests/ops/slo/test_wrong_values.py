"""Each key of `slo.toml` with each wrong type and value: a service and the commands report a ConfigurationError."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.slo_file_errors import WrongFile, wrong_files

import connectsoft_obs as obs
from connectsoft_obs.__main__ import main
from connectsoft_obs.testing import capture

FILES = list(wrong_files())
SAMPLE = FILES[::29]
COMMANDS = (("lint",), ("explain",), ("generate", "-t", "prometheus"))


def check(wrong_file: WrongFile, directory: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Start a service and run the commands with a file. Return whether the file is refused."""
    file = directory / "slo.toml"
    file.write_text(wrong_file.text)
    refusal = None
    try:
        with capture(slo_file=str(file)):
            pass
    except obs.ConfigurationError as error:
        refusal = error
    is_refused = refusal is not None
    assert refusal is None or (refusal.why and refusal.instead), wrong_file.name
    for command in COMMANDS:
        output = ["-o", str(directory)] if command[0] == "generate" else []
        code = main(["slo", *command, *output, str(file)])
        errors = capsys.readouterr().err
        assert code in (0, 1, 2), wrong_file.name
        assert "Traceback" not in errors, wrong_file.name
        # `explain` also describes an SLO whose events the service cannot count.
        assert code == 2 or not is_refused or command == ("explain",), (wrong_file.name, command, "accepts the file")
    return is_refused


def check_all(files: list[WrongFile], directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failures = []
    refused = 0
    for wrong_file in files:
        try:
            is_refused = check(wrong_file, directory, capsys)
        except Exception as error:  # each failure is reported, not only the first
            failures.append(f"{wrong_file.name}: {type(error).__name__}: {error}"[:300])
            continue
        refused += is_refused
        if wrong_file.must_be_refused and not is_refused:
            failures.append(f"{wrong_file.name}: accepted")
    print(f"{len(files)} files, {refused} refused, {len(failures)} failures")
    assert not failures, "\n".join(failures)


def test_wrong_values_are_configuration_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_all(SAMPLE, tmp_path, capsys)


@pytest.mark.full
def test_all_wrong_values_of_all_keys_are_configuration_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_all(FILES, tmp_path, capsys)
