"""Chooses a benchmark: ``python -m benchmarks embedded``."""

from __future__ import annotations

import argparse

from . import animate, batch, embedded, identity, lipsync, style


def main() -> int:
    """Run the benchmark that the command line names; 1 if a goal is missed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(metavar="BENCHMARK", required=True)
    embedded.add_arguments(commands.add_parser("embedded", help=embedded.PURPOSE, description=embedded.PURPOSE))
    lipsync.add_arguments(commands.add_parser("lipsync", help=lipsync.PURPOSE, description=lipsync.PURPOSE))
    commands_of_identity = commands.add_parser("identity", help=identity.PURPOSE, description=identity.PURPOSE)
    identity.add_arguments(commands_of_identity)
    animate.add_arguments(commands.add_parser("animate", help=animate.PURPOSE, description=animate.PURPOSE))
    style.add_arguments(commands.add_parser("style", help=style.PURPOSE, description=style.PURPOSE))
    batch.add_arguments(commands.add_parser("batch", help=batch.PURPOSE, description=batch.PURPOSE))
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    raise SystemExit(main())
