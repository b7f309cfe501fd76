"""Bad input of every kind for every option of every command, and what must hold for each.

The cases follow from the parsers: every flag that takes a file is given every bad file, every number every bad number,
every text every bad text, and every output the names that would destroy something. For each case the command must

- end with 0, or 2 (something given cannot be used), or 3 (some of many failed), and say so without a traceback,
- leave nothing new where it writes unless it ends with 0 or 3, and never a part of a file,
- leave every input as it was, and run no code of any file,
- end within a time and a size of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import io
import multiprocessing
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .bad_films import odd_films, odd_sounds, odd_weights, words_of_cases
from .bad_input_files import bad_files, make_good
from .bad_portraits import keypoint_files, odd_portraits, words_of_portraits
from .bad_processes import SURROUNDINGS, run_in

PURPOSE = "bad input of every kind in every command: none may end in a fault, a half-written file or a lost input"
LIMIT_S, LIMIT_MB = 30.0, 2500.0  # without the time in which other processes have the processor
HANGS = 4  # times that limit, whoever has the processor
ALLOWED = (0, 2, 3)
SHOWN = 400  # letters of what a case said
TOLD_S = 10.0  # between two lines that say how far it is
OUT = "out"  # the folder of results, emptied before each case

# what each command needs at least, as flag → value; the positional argument has no dashes
GOOD: dict[str, dict[str, str]] = {
    "talk": {"--portrait": "portrait.png", "--speech": "speech.wav", "--out": "out/o.mp4"},
    "landmarks": {"--portrait": "portrait.png", "--speech": "speech.wav", "--out": "out/o.safetensors"},
    "live": {"--portrait": "portrait.png", "--speech": "speech.wav", "--output": "http", "--port": "0"},
    "render": {"--portrait": "portrait.png", "--track": "track.safetensors", "--out": "out/o.mp4"},
    "dub": {"--video": "film.mp4", "--speech": "speech.wav", "--out": "out/o.mp4"},
    "track": {"--video": "film.mp4", "--out": "out/o.safetensors"},
    "style": {"--video": "film.mp4", "--out": "out/o.safetensors"},
    "plot": {"--track": "track.safetensors", "--out": "out/o.png"},
    "score": {"--generated": "film.mp4", "--target": "real.mp4", "--out": "out/scores"},
    "batch": {"manifest": "jobs.csv", "--out": "out/made"},
    "prepare": {"--videos": "videos", "--out": "out/clips"},
    "train": {"what": "style", "--config": "style.toml"},
    "doctor": {},
}
# the words a flag needs beside it, where its command does not have them
_MOUTH = {"what": "mouth", "--config": "", "--videos": "videos", "--out": "out/o.safetensors"}
BESIDE: dict[str, dict[str, str]] = {
    "score --pairs": {"--generated": "", "--target": ""},
    "score --json": {"--out": ""},
    **{f"train {flag}": _MOUTH for flag in ("--out", "--videos", "--base", "--steps", "--seed")},
}
SHARED_STEP = 8  # of the bad values of a flag that an earlier command has too, so many are passed over
# flags whose files the same reader reads as those of another flag
FEW_FILES = ("--style", "--vae", "--clip-vision", "--controlnet", "--motion-module", "--animatenet")
NUMBERS = ("nan", "inf", "-1e309", "1e309", "9" * 400, "-1", "0x10", "1e400/7", "", "\ud800")
TEXTS = ("\udcff", "a" * 60_000, "", "\n", "<script>", "\u202e")
OUTPUTS = (
    "out",
    "out/none/o{suffix}",
    "out/o.exe",
    "out/{long}{suffix}",
    "/dev/null",
    "/proc/o{suffix}",
    "out/loop{suffix}",
)


@dataclass(frozen=True)
class Case:
    """One command line."""

    name: str
    words: tuple[str, ...]
    taken: str = ""  # an input that the output would destroy: exit code 2 is demanded
    surroundings: str = ""  # of a process of its own, see `bad_processes`


@dataclass
class Result:
    """How a case ended."""

    code: int | None
    text: str
    seconds: float
    peak_mb: float
    violations: list[str] = field(default_factory=list)


def cases(folder: Path) -> Iterator[Case]:
    """Every case, from the parsers of all commands; a flag that commands share is tried fully in the first of them."""
    from portraittalk_core.cli.main import build_parser

    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001
    seen: set[str] = set()
    for command, parser in commands.choices.items():
        for action in parser._actions:  # noqa: SLF001
            name = f"{_flag(action)} {action.metavar}"
            yield from _cases_of(command, action, SHARED_STEP if name in seen else 1)
            seen.add(name)
    for command, good in GOOD.items():
        yield from _destroying(command, good, commands.choices[command], folder)
    yield from _settings_of_stages(commands.choices["train"])
    yield from _blends()
    yield from (Case(name, words) for listed in (words_of_cases(), words_of_portraits()) for name, words in listed)
    for surroundings in SURROUNDINGS:
        words = ("landmarks", *(f"{flag}={value}" for flag, value in GOOD["landmarks"].items()))
        yield Case(f"landmarks with {surroundings}", words, surroundings=surroundings)


def _cases_of(command: str, action: argparse.Action, step: int) -> Iterator[Case]:
    from portraittalk_core.cli.validation import OutputAction

    flag = _flag(action)
    if action.nargs == 0 or flag in ("-h", "--corpus"):  # which would begin to synthesise hours of speech
        return
    if isinstance(action, OutputAction):
        suffix = Path(GOOD[command].get(flag, f"x{_suffix(action)}")).suffix
        for k, value in enumerate(OUTPUTS):
            yield _case(command, flag, value.format(suffix=suffix, long="x" * 300), f"output {k}")
    elif action.choices is not None:
        yield _case(command, flag, "nonsense", "choice")
    elif action.type is Path or flag in ("--style", "--lora"):
        for name in _bad_files_for(flag, str(action.metavar))[::step]:
            yield _case(command, flag, name, name)
        for value in ("absent.bin", "x" * 300, "a\udcffb.wav")[::step]:
            yield _case(command, flag, value, ascii(value[:9]))
    else:
        values = TEXTS if action.type in (None, str) and "RATE" not in str(action.metavar) else NUMBERS
        for value in values[::step]:
            yield _case(command, flag, value, ascii(value[:9]))


def _settings_of_stages(parser: argparse.ArgumentParser) -> Iterator[Case]:
    """Every bad settings file in every stage of `train`; that of GOOD has them by its flag."""
    (stages,) = (action.choices for action in parser._actions if action.dest == "what")  # noqa: SLF001
    names = [name for name in bad_files()["texts"] if name.endswith(".toml")]
    for stage in stages:
        if stage != GOOD["train"]["what"]:
            yield from (Case(f"train {stage} {name}", ("train", stage, f"--config={name}")) for name in names)


def _blends() -> Iterator[Case]:
    """Bad files as one of the two styles of a blend, a flag with two values."""
    for name in ("noise.wav", "track.safetensors", "one_tensor.safetensors", "absent.bin", "nonsense", ""):
        words = ("style", "--blend", name, "lively", "--out=out/o.safetensors")
        yield Case(f"style --blend {name or 'nothing'}", words)


def _flag(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else action.dest


def _bad_files_for(flag: str, metavar: str) -> list[str]:
    """Names of the bad files for a flag: those that are bad for everything, then those of the kind it takes."""
    groups = bad_files()
    kinds = {".csv": ["texts"], ".json": ["texts"], ".toml": ["texts"], ".safetensors": ["tracks", "weights"]}
    by_words = {"PICTURE": ["media"], "IN": ["media"], "FILE": ["weights"], "FOLDER": [], "STYLE": ["media", "tracks"]}
    wanted = kinds.get(Path(metavar).suffix, by_words.get(re.split(r"\W", metavar)[0], []))
    names = [name for kind in ("anything", *wanted) for name in groups[kind]]
    if flag in FEW_FILES:
        names = names[::SHARED_STEP]
    return [name for name in names if name.endswith((".csv", ".bin")) or Path(metavar).suffix != ".csv"]


def _suffix(action: argparse.Action) -> str:
    return Path(str(action.metavar)).suffix


def _case(command: str, flag: str, value: str, what: str, taken: str = "") -> Case:
    """The good words of a command with one flag's value replaced."""
    words = {**GOOD[command], **BESIDE.get(f"{command} {flag}", {}), **_of_renderer(flag, command)}
    words[flag] = value
    listed = [command]
    for name, text in words.items():
        if name == flag or text:
            listed += [text] if not name.startswith("--") else [f"{name}={text}"]
    return Case(f"{command} {flag} {what}", tuple(listed), taken)


def _of_renderer(flag: str, command: str) -> Mapping[str, str]:
    """The words with which a renderer's option is heeded."""
    if command not in ("talk", "render", "dub"):
        return {}
    from portraittalk_core.options import options_of
    from portraittalk_core.renderers.registry import DEFAULT, renderer_specs

    of_default = {o.flag for spec in renderer_specs() if spec.name == DEFAULT for o in options_of(spec.options)}
    for spec in renderer_specs():
        if flag not in of_default and any(option.flag == flag for option in options_of(spec.options)):
            needed = {"--checkpoint": "one_tensor.safetensors"} if spec.name == "identitynet" else {}
            return {"--renderer": spec.name, **needed}
    return {}


def _destroying(command: str, good: Mapping[str, str], parser: argparse.ArgumentParser, folder: Path) -> Iterator[Case]:
    """Every input of a command as its output: by name, by another spelling, by a link and by a hard link."""
    from portraittalk_core.cli.validation import OutputAction

    samples = {".mp4": "film.mp4", ".safetensors": "engine.safetensors", ".png": "portrait.png", ".json": "gain.json"}
    outputs = [a for a in parser._actions if isinstance(a, OutputAction) and not a.folder]  # noqa: SLF001
    inputs = [a for a in parser._actions if a.type is Path and not isinstance(a, OutputAction)]  # noqa: SLF001
    inputs += [a for a in parser._actions if a.option_strings[:1] in (["--style"], ["--lora"])]  # noqa: SLF001
    for out in outputs:
        flag = out.option_strings[0]
        suffix = Path(good.get(flag, "")).suffix or _suffix(out)
        if suffix not in samples:
            continue
        for action in inputs:
            read = action.option_strings[0] if action.option_strings else action.dest
            hows = ("same", "dots", "link", "hard")
            for how in hows if read in (*good, "--style", "--engine", "--mesh-model") else hows[:1]:
                name = {"same": samples[suffix], "dots": f"./videos/../{samples[suffix]}"}.get(how, f"{how}{suffix}")
                case = _case(command, flag, name, f"is {read}, {how}", samples[suffix])
                yield Case(case.name, (*case.words, f"{read}={samples[suffix]}") if read.startswith("--") else
                           tuple(samples[suffix] if word == good.get(read) else word for word in case.words),
                           samples[suffix])  # fmt: skip


def prepare_folder(folder: Path) -> None:
    """Make every file."""
    make_good(folder)
    odd = odd_films(), odd_sounds(), odd_weights(), odd_portraits(), keypoint_files()
    for makes in (*bad_files().values(), *odd):
        for name, make in makes.items():
            make(folder / name)
    for suffix, name in ((".mp4", "film.mp4"), (".safetensors", "engine.safetensors"), (".png", "portrait.png"),
                         (".json", "gain.json")):  # fmt: skip
        (folder / f"link{suffix}").symlink_to(name)
        os.link(folder / name, folder / f"hard{suffix}")


class Digests:
    """SHA-256 of files; of those that the system calls unchanged, as it was."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def __call__(self, path: Path) -> str:
        """The digest of a file now."""
        status = path.stat()
        # the time of the last change of status cannot be set back, unlike that of the content
        mark = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._known.get(path, (None,))[0] != mark:
            self._known[path] = mark, hashlib.sha256(path.read_bytes()).hexdigest()
        return self._known[path][1]


def digests(folder: Path, digest: Callable[[Path], str] | None = None) -> dict[str, str]:
    """What lies in a folder without its results: SHA-256 of files, where links lead, kinds of all else."""
    found, digest = {}, digest or Digests()
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) != folder / OUT]
        for name in (*folders, *files):
            path = Path(root, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = f"link to {os.readlink(path)}"
            elif path.is_file():
                found[str(path.relative_to(folder))] = digest(path)
            else:
                found[str(path.relative_to(folder))] = "no file"
    return found


def results(folder: Path) -> list[str]:
    """What lies in the folder of results."""
    return sorted(str(path.relative_to(folder)) for path in (folder / OUT).rglob("*"))


def reset(folder: Path) -> None:
    """Empty the folder of results; a link in it leads to itself."""
    import shutil

    shutil.rmtree(folder / OUT, ignore_errors=True)
    (folder / OUT).mkdir()
    for suffix in (".mp4", ".safetensors", ".png"):
        (folder / OUT / f"loop{suffix}").symlink_to(f"loop{suffix}")


def run_case(case: Case, folder: Path) -> Result:
    """Run a command in this process, in the folder."""
    from portraittalk_core.cli.main import main

    reset(folder)
    before = results(folder)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    said, started, code = io.StringIO(), time.perf_counter() - queued_s(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if case.surroundings:
                code, text = run_in(case.surroundings, case.words, folder)
                said.write(text)
            else:
                code = main(case.words)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is what is looked for
            said.write(f"Traceback: {type(error).__name__}: {error}")
    seconds = time.perf_counter() - queued_s() - started
    result = Result(code, said.getvalue(), seconds, peak_mb())
    result.violations = violations(case, result, before, results(folder))
    return result


def violations(case: Case, result: Result, before: Sequence[str], after: Sequence[str]) -> list[str]:
    """What does not hold of a case that has ended."""
    found = []
    if result.code not in ALLOWED:
        found.append(f"ended with {result.code}")
    if case.taken and result.code != 2:
        found.append(f"took {case.taken}, which it reads, for its output")
    if "Traceback" in result.text or "internal error" in result.text:
        found.append("ended in a fault")
    if result.code == 2 and not ("portraittalk: " in result.text or "error: " in result.text):
        found.append("said nothing")
    new = [name for name in after if name not in before]
    if result.code == 2 and new and case.surroundings != "full standard output":  # the work is done by then
        found.append(f"left {', '.join(new[:3])}")
    if parts := [name for name in new if ".part" in name]:
        found.append(f"left the part {parts[0]}")
    if result.seconds > LIMIT_S and not case.surroundings:  # which imports all anew, and has a limit of its own
        found.append(f"took {result.seconds:.0f} s")
    if result.peak_mb > LIMIT_MB:
        found.append(f"took {result.peak_mb:.0f} MB")
    return found


def queued_s() -> float:
    """How long this process has been ready, but others had the processor; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def peak_mb() -> float:
    """The most memory that this process has held since the peak was reset; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def _serve(folder: str, pipe: object) -> None:
    """Run cases of a pipe in a process of its own, until None comes."""
    os.chdir(folder)
    os.environ.pop("PORTRAITTALK_DEBUG", None)
    while (case := pipe.recv()) is not None:
        pipe.send(run_case(case, Path()))


class Worker:
    """A process that runs cases; one that hangs or dies is replaced.

    Args:
        folder: of its own copy of all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._process = folder, None
        self._digest = Digests()
        self.digests = digests(folder, self._digest)

    def run(self, case: Case) -> Result:
        """Run a case; hanging and dying are violations."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(str(self.folder), theirs), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send(case)
            result = self._pipe.recv() if self._pipe.poll(HANGS * LIMIT_S) else None
        except (EOFError, OSError):
            result = Result(None, "", 0.0, 0.0, ["ended its process"])
        if result is None:
            result = Result(None, "", HANGS * LIMIT_S, 0.0, [f"did not end within {HANGS * LIMIT_S:.0f} s"])
        if result.code is None:
            self.close()
        now = digests(self.folder, self._digest)
        if changed := sorted(
            name for name in now.keys() | self.digests.keys() if now.get(name) != self.digests.get(name)
        ):
            result.violations.append(f"changed {', '.join(changed[:3])}")
            self.digests = now
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names of cases, with * and ?")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes")
    parser.add_argument("--said", action="store_true", help="print how every case ended, and what it said last")
    parser.add_argument("--list", action="store_true", help="only print the names of the cases")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run all cases; 1 if anything is violated."""
    sys.stdout.reconfigure(errors="backslashreplace")  # what commands say may hold bytes that are no letters
    listed = [case for case in cases(Path()) if fnmatch.fnmatch(case.name, args.only)]
    if args.list:
        print(*(case.name for case in listed), sep="\n")
        return 0
    waiting, ended = queue.Queue(), []
    for case in listed:
        waiting.put(case)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is stopped reports too
    with tempfile.TemporaryDirectory() as name:
        workers = [Worker(folder) for folder in _folders(Path(name), args.workers)]
        started = time.perf_counter()
        threads = [threading.Thread(target=_work, args=(w, waiting, ended, args.said), daemon=True) for w in workers]
        for thread in threads:
            thread.start()
        try:
            _watch(threads, ended, len(listed), started)
        except KeyboardInterrupt:
            print("stopped; what has ended until now:")
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            for worker in workers:
                worker.close()
            ended = [(case, result) for case, result in list(ended) if result.code in ALLOWED]  # not those it stopped
        return _report(list(ended), time.perf_counter() - started, len(listed))


def _folders(root: Path, count: int) -> list[Path]:
    """So many folders with every file, which take seconds to make and a moment to copy."""
    folders = [root / str(number) for number in range(count)]
    for folder in folders:
        copied = folder != folders[0] and subprocess.run(["cp", "-a", folders[0], folder], check=False).returncode == 0
        if not copied:
            folder.mkdir(exist_ok=True)
            prepare_folder(folder)
    return folders


def _watch(threads: Sequence[threading.Thread], ended: Sequence, total: int, started: float) -> None:
    """Say every TOLD_S seconds how far it is, until all threads end."""
    told = started
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        now = time.perf_counter()
        if now - told >= TOLD_S and ended:
            told, done = now, list(ended)
            broken = sum(bool(result.violations) for _, result in done)
            left_s = (now - started) / len(done) * (total - len(done))
            print(f"{len(done)} of {total} cases, {broken} violations, about {left_s:.0f} s left", flush=True)


def _work(worker: Worker, waiting: queue.Queue, ended: list[tuple[Case, Result]], said: bool) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            case = waiting.get_nowait()
            result = worker.run(case)
            ended.append((case, result))
            last = (result.text.strip().splitlines() or [""])[-1][:SHOWN]
            if said:
                print(f"{case.name} | {result.code} | {result.seconds:.1f} s | {last}", flush=True)
            if result.violations:
                print(f"{case.name}: {'; '.join(result.violations)} | {last}", flush=True)
    worker.close()


def _report(ended: Sequence[tuple[Case, Result]], seconds: float, total: int) -> int:
    codes = {code: sum(result.code == code for _, result in ended) for code in ALLOWED}
    broken = [case for case, result in ended if result.violations]
    slowest = max(ended, key=lambda pair: pair[1].seconds, default=None)
    largest = max((result.peak_mb for _, result in ended), default=0.0)
    told = ", ".join(f"{count} ended with {code}" for code, count in codes.items())
    print(f"{len(ended)} of {total} cases in {seconds:.0f} s: {told}; {len(broken)} violations")
    if slowest:
        print(f"the slowest took {slowest[1].seconds:.1f} s ({slowest[0].name}); the most memory was {largest:.0f} MB")
    return 1 if broken or len(ended) < total else 0
