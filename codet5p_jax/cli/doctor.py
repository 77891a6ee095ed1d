"""`codet5p doctor`: what on this machine would keep a run from working, and how to mend it."""

import argparse
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from codet5p_jax.cli import findings, gin_config, installation_checks, machine_checks, run_checks
from codet5p_jax.cli.findings import Finding, Severity, problem

LOG_WIDTH = 120  # columns where the output is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `codet5p doctor`."""
    gin_config.add_arguments(parser)
    for macro in run_checks.FOLDERS:
        parser.add_argument(
            f"--{macro.lower()}",
            metavar="DIR",
            help=f"folder to check; --gin.{macro}=DIR is the same",
        )
    parser.add_argument("--json", action="store_true", help="write JSON instead of a page")


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; returns 1 when one of them is a problem."""
    sections = examine(arguments.gin_file, _all_bindings(arguments))
    if arguments.json:
        print(json.dumps(findings.as_json(sections), indent=1, ensure_ascii=False))
    else:
        from codet5p_jax.cli.results import results_console

        findings.print_findings(sections, results_console(LOG_WIDTH))
    found = [finding for section in sections.values() for finding in section]
    return int(any(finding.severity is Severity.PROBLEM for finding in found))


def examine(
    gin_files: Sequence[str] = (), bindings: Sequence[str] = ()
) -> Mapping[str, list[Finding]]:
    """Returns the findings by section: installation, machine, run.

    Args:
        gin_files: A recipe to parse; none checks no recipe.
        bindings: NAME=VALUE, the folders among them.
    """
    environment = dict(os.environ)
    parsing = run_checks.recipe_program(gin_files, bindings) if gin_files else "print()"
    given = run_checks.folder_bindings(bindings)
    devices = machine_checks.ask_for_devices(environment=environment)
    end_imports = installation_checks.start_imports(then=parsing)
    installation, machine, folders = _installation(), _machine(environment), _folders(given)
    machine = [devices(), *machine]
    imports, line = end_imports()
    importable = all(finding.severity is Severity.OK for finding in imports)
    recipe = _recipe(line, given, importable=importable) if gin_files else []
    return {
        "installation": [*installation, *imports],
        "machine": machine,
        "run": [*_gin(), *recipe, *folders],
    }


def _installation() -> list[Finding]:
    return [
        installation_checks.python_version(),
        installation_checks.main_versions(),
        *installation_checks.package_versions(),
        *installation_checks.jaxlib_clash(),
        *installation_checks.libtpu_clash(),
        *installation_checks.sentencepiece_clash(),
        *installation_checks.torch_clashes(),
    ]


def _machine(environment: Mapping[str, str]) -> list[Finding]:
    return [
        *machine_checks.accelerator_in_use(environment),
        *machine_checks.tpu_variables(environment),
        *machine_checks.memory(),
        machine_checks.disk(pathlib.Path.cwd()),
    ]


def _gin() -> list[Finding]:
    return run_checks.gin_folders(gin_config.gin_directories()[1:])


def _recipe(line: str | None, checked: Mapping[str, str], *, importable: bool) -> list[Finding]:
    """Returns what a parsed recipe is like, and the folders that only its gin files name."""
    finding, bound = run_checks.read_recipe(line, importable=importable)
    return [finding, *_folders({m: folder for m, folder in bound.items() if m not in checked})]


def _folders(given: Mapping[str, str]) -> list[Finding]:
    found = []
    if "MODEL_DIR" in given:
        found.append(machine_checks.disk(pathlib.Path(given["MODEL_DIR"])))
    _read_on_cpu()
    return [*found, *_guarded(lambda: run_checks.folders(given))]


def _guarded(check: Callable[[], list[Finding]]) -> list[Finding]:
    """Returns the findings of a check, or that a package it imports is broken."""
    try:
        return check()
    except ImportError as error:
        return [problem("folders", f"not checked: {error}", mend="mend the installation first")]


def _read_on_cpu() -> None:
    """Checkpoints are read on the CPU: an accelerator that hangs is for another check to find."""
    try:
        import jax
    except ImportError:
        return  # a finding of its own
    jax.config.update("jax_platforms", "cpu")


def _all_bindings(arguments: argparse.Namespace) -> list[str]:
    """Returns the bindings, with the folders that were given by flags."""
    flags = {macro: getattr(arguments, macro.lower()) for macro in run_checks.FOLDERS}
    return [*arguments.gin_bindings, *(f"{m}={folder}" for m, folder in flags.items() if folder)]
