"""codet5p corpus: builds a corpus from packages or source code at hand, shows and inspects one."""

import argparse
import dataclasses
import logging
import os

from codet5p_jax.cli import corpus_inspect, corpus_show
from codet5p_jax.cli.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands build, show and inspect."""
    commands = parser.add_subparsers(dest="command", required=True)
    _add_build(commands.add_parser("build", help="build a corpus", allow_abbrev=False))
    show = commands.add_parser("show", help="tell what a corpus holds", allow_abbrev=False)
    corpus_show.add_arguments(show)
    inspect = commands.add_parser("inspect", help="print some of its records", allow_abbrev=False)
    corpus_inspect.add_arguments(inspect)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", help="name of a recipe, or path of a JSON file")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        type=os.path.expanduser,  # a shell leaves the ~ of --source=~/code alone
        help="directory or archive of source code, or a data set of it: a folder, a file of rows "
        "or an address such as hf://datasets/owner/name; may be repeated",
    )
    parser.add_argument("--license", help="licence (SPDX) of sources that do not state theirs")
    parser.add_argument(
        "--licenses",
        help="what a file may be licensed under: permissive (the default), any, or SPDX names "
        "such as permissive,MPL-2.0",
    )
    parser.add_argument(
        "--field_map",
        help="what the columns of a data set hold, where they do not tell: code_search_net, "
        "github-code, the-stack, the-stack-v2, or a JSON file",
    )
    parser.add_argument(
        "--out", required=True, type=os.path.expanduser, help="where the corpus goes"
    )
    parser.add_argument("--num_shards", type=int, default=8, help="record files in each split")
    parser.add_argument(
        "--exclude",
        type=os.path.expanduser,
        help="text file of repositories of evaluation sets to leave out, one a line",
    )
    parser.add_argument(
        "--evaluation_sets",
        action="append",
        default=[],
        type=os.path.expanduser,
        help="file or folder of an evaluation set (code, JSON, JSON lines): files and functions "
        "that share 13 tokens in a row with it are left out, and so are the repositories it "
        "names; may be repeated",
    )
    parser.add_argument(
        "--archives",
        type=os.path.expanduser,
        help="where fetched archives are found and kept; else they go with the build",
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        help="processes that extract sources on this machine (as many as it has cores)",
    )
    parser.add_argument(
        "--runner", help="Beam runner that does it all, in place of this machine's processes"
    )
    parser.add_argument(
        "beam_options", nargs="*", help="after a lone --: further options of Apache Beam"
    )


def run(arguments: argparse.Namespace) -> int | None:
    """Builds, shows or inspects a corpus."""
    commands = {"build": _build, "show": corpus_show.run, "inspect": corpus_inspect.run}
    return commands[arguments.command](arguments)


def _build(arguments: argparse.Namespace) -> int:
    from codet5p_jax.corpus import build
    from codet5p_jax.corpus.evaluation_sets import read_names
    from codet5p_jax.corpus.licenses import parse_allowed
    from codet5p_jax.corpus.manifest import manifest_tables
    from codet5p_jax.corpus.recipes import load_recipe
    from codet5p_jax.corpus.sources import sources_of_path

    # Beam says on import that a cloud library is absent; it is not needed.
    logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())
    if bool(arguments.recipe) == bool(arguments.source):
        raise ValueError(
            "Give either --recipe=NAME or --source=PATH, for example --recipe=quickstart."
        )
    if arguments.archives and not arguments.recipe:
        raise ValueError("--archives keeps what a recipe fetches; --source reads what is there.")
    if arguments.recipe and (arguments.license or arguments.field_map):
        raise ValueError(
            "--license and --field_map describe what --source gives; a recipe says it of each of "
            "its packages."
        )
    allowed = None if arguments.licenses is None else parse_allowed(arguments.licenses)
    runner = [f"--runner={arguments.runner}"] if arguments.runner else []
    common = {
        "excluded": read_names(arguments.exclude) if arguments.exclude else [],
        "evaluation_sets": arguments.evaluation_sets,
        "pipeline_args": [*runner, *arguments.beam_options],
        "num_workers": _num_workers(arguments),
        "num_shards": arguments.num_shards,
    }
    if arguments.recipe:
        recipe = load_recipe(arguments.recipe)
        recipe = dataclasses.replace(recipe, licenses=allowed or recipe.licenses)
        manifest = build.build_from_recipe(
            recipe, arguments.out, archives_dir=arguments.archives, **common
        )
    else:
        sources = [
            source
            for path in arguments.source
            for source in sources_of_path(
                path, license=arguments.license, field_map=arguments.field_map
            )
        ]
        licenses = allowed or parse_allowed("permissive")
        manifest = build.build_from_sources(sources, arguments.out, licenses=licenses, **common)
    print(printable(manifest_tables(manifest)))
    if not any(count for split in manifest["splits"].values() for count in split.values()):
        raise ValueError(
            f"The corpus in {arguments.out} is empty: the table above says why everything was left "
            "out. Remove it and build it from other sources, or with other --license, --licenses."
        )
    print(f"The corpus is in {arguments.out}")
    return 0


def _num_workers(arguments: argparse.Namespace) -> int:
    """Returns how many processes extract here; 1 where a runner brings its own."""
    count = arguments.num_workers
    runner = arguments.runner or any(word.startswith("--runner") for word in arguments.beam_options)
    if runner and count is not None:
        raise ValueError(
            f"--num_workers={count} counts processes of this machine, and --runner brings workers "
            "of its own: give one of them."
        )
    if count is not None and count < 1:
        raise ValueError(f"--num_workers is {count}; give 1 or more.")
    return 1 if runner else count or os.cpu_count() or 1
