"""Makes samples/speech.wav with Debian's flite (apt-get install flite); see README.md beside it."""

import subprocess
import sys
from pathlib import Path

TEXT = "Hello! This portrait has learned to speak. Two rules: open wide for vowels, and close both lips for B, P and M."
VOICE = "slt"  # CMU Arctic SLT, a female US English speaker
OUT = Path(__file__).with_name("speech.wav")


def main() -> None:
    """Speak the text into the file beside this script."""
    command = ["flite", "-voice", VOICE, "--setf", "duration_stretch=1.08", "-t", TEXT, "-o", str(OUT)]
    subprocess.run(command, check=True)
    sys.stdout.write(f"{OUT}\n")


if __name__ == "__main__":
    main()
