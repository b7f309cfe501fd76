"""Program: a batch of stub jobs on a cluster of Ray; prints what came of it as JSON.

Each job notes the address of its machine in NAME.ADDRESS.try, and takes a second.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from portraittalk_core.batch.jobs import BatchSettings
from portraittalk_core.batch.options import BatchOptions
from portraittalk_core.batch.run import run_batch
from portraittalk_core.errors import PortraitTalkError


def remote_class(out):
    """The runner's class, local to a function so that it travels to the workers."""

    class Remote:
        def run(self, job, on_progress=None):
            import time

            from ray.util import get_node_ip_address

            from portraittalk_core.batch.jobs import Outcome

            address = get_node_ip_address()
            (out / f"{job.out}.{address}.try").write_text("")
            part = out / f".{job.out.removesuffix('.mp4')}.0123abcd.part.mp4"
            part.write_text("half")
            time.sleep(1.0)
            part.rename(out / job.out)
            return Outcome("done", 1.0)

    return Remote


def main() -> None:
    """Arguments: manifest, output folder, address, seconds to wait for a CPU."""
    manifest, out, address, wait_s = sys.argv[1:]
    options = BatchOptions(address=address, cpu_wait_s=float(wait_s), wait_s=0)
    try:
        result = run_batch(Path(manifest), BatchSettings(Path(out)), options, make_runner=remote_class(Path(out)))
        sys.stdout.write(json.dumps(asdict(result), default=str))
    except PortraitTalkError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))


main()
