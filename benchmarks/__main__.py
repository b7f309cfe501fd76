"""Command line of the benchmarks: ``python -m benchmarks embedded``."""

from __future__ import annotations

import argparse

from . import (
    ablation,
    animate,
    bad_input,
    batch,
    blinks,
    controltalk,
    dub,
    edits,
    embedded,
    faces,
    film,
    gaze,
    gpu,
    identity,
    implicit,
    implicit_bridge,
    implicit_small,
    implicit_speech,
    lips,
    lips_files,
    lips_fit,
    lipsync,
    mouth,
    ordering,
    papers,
    score_memory,
    style,
    training_cost,
    voice_gate,
)

COMMANDS = {
    "edits": edits,
    "embedded": embedded,
    "film": film,
    "gaze": gaze,
    "lips": lips,
    "lips_files": lips_files,
    "lips_fit": lips_fit,
    "dub": dub,
    "lipsync": lipsync,
    "mouth": mouth,
    "blinks": blinks,
    "identity": identity,
    "faces": faces,
    "animate": animate,
    "ablation": ablation,
    "style": style,
    "training_cost": training_cost,
    "voice_gate": voice_gate,
    "implicit": implicit,
    "gpu": gpu,
    "batch": batch,
    "score-memory": score_memory,
    "ordering": ordering,
    "papers": papers,
    "bad_input": bad_input,
    "controltalk": controltalk,
    "implicit_small": implicit_small,
    "implicit_speech": implicit_speech,
    "implicit_bridge": implicit_bridge,
}


def main() -> int:
    """Run the benchmark that the command line names; 1 if a goal is missed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(metavar="BENCHMARK", required=True)
    for name, benchmark in COMMANDS.items():
        benchmark.add_arguments(commands.add_parser(name, help=benchmark.PURPOSE, description=benchmark.PURPOSE))
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    raise SystemExit(main())
