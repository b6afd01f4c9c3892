"""What `main.py` and `main_mp.py` do: compose the config, check it, make the run folder, run the seeds, say the result.

Exit codes: 0 all seeds finished; 1 a seed failed; 2 the user can mend it, nothing was started; 130, 143 interrupted.
Only hydra and the standard library are imported at the top, so that --help and shell completion answer at once.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlexp.util import paths
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.processes import cores, limit_threads

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from rlexp.experiment.engines.base import Job
    from rlexp.experiment.events import Event
from rlexp.experiment.recorder import Recorder

_exit_code = 0  # the worst of this process's jobs; Hydra passes no return value through


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated like Ctrl-C."""


def main(parallel: bool) -> int:
    """Run `sys.argv`; returns the exit code."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from rlexp.experiment import compose, former_names

    signal.signal(signal.SIGTERM, _terminate)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us, not a report
    try:
        typed = sys.argv[1:]
        _check_flags(typed)
        words = former_names.translated(compose.take(typed))
        compose.register()
        if not any(word.startswith("resume=") for word in words):
            _check_groups(words)
        if flags := [word for word in words if word in ("-m", "--multirun")]:
            from rlexp.cli import sweep

            sweep.check(words)
        if any(word.startswith("resume=") for word in words) and not any(word.startswith("-") for word in words):
            return resume(words, parallel)  # nothing to compose: the run has its config

        study = any(word.startswith("+study=") for word in words) and not any(word.startswith("-") for word in words)
        arms = [word for word in words if study and not _of_study(word)]  # what Hydra need not know of: they are
        words = [word for word in words if word not in arms]  # the arms' options, maybe of another algorithm
        sys.argv[1:] = flags + [word for word in words if word not in flags]

        @hydra.main(config_path=str(paths.CONF), config_name="config", version_base="1.3")
        def task(config: "DictConfig") -> None:
            global _exit_code
            sys.argv[1:] = typed  # what the run's record says
            try:
                _exit_code = max(_exit_code, start(config, parallel, arms))
            except (UserError, OSError) as error:  # not to be announced by Hydra as a crashed job
                _exit_code = _complain(_said(error))

        task()
    except UserError as error:
        return _complain(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        from rlexp.experiment import hydra_errors

        return _complain(hydra_errors.hydra_error(error))
    except OSError as error:
        return _complain(_said(error))
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    return _exit_code


def _of_study(word: str) -> bool:
    """Whether an option says which study and how it is run, rather than what its arms are."""
    return re.split(r"[.=/]", word.lstrip("+"))[0] in ("study", "runs", "workers", "hydra")


def _check_flags(words: list[str]) -> None:
    """Raise UserError for a flag that Hydra does not have; its own parser would print its whole usage."""
    from hydra._internal.utils import get_args_parser

    def wrong(message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))

    parser = get_args_parser()
    parser.error = wrong  # type: ignore[method-assign]
    for word in words:
        flag = word.split("=")[0]
        if flag.startswith("-") and not any(known.startswith(flag) for known in parser._option_string_actions):
            hint = did_you_mean(nearest(flag, parser._option_string_actions))
            raise UserError(f"{flag}: unknown flag{hint} (options are key=value)")
    parser.parse_known_args(words)


def _check_groups(words: list[str]) -> None:
    """A group is chosen by a word: of true, null, a number or a list Hydra makes a traceback."""
    from rlexp.experiment.compose import choices, groups

    for word in words:
        group, _, value = word.lstrip("+~").partition("=")
        if group not in groups() or not value:
            continue
        for choice in [value] if value.startswith("[") else value.split(","):
            if choice not in choices(group) and re.fullmatch(r"(?i)true|false|null|[-+.\deE]+|\[.*", choice):
                from rlexp.experiment import hydra_errors

                raise UserError(hydra_errors.no_such(group, choice))


def _said(error: Exception) -> str:
    return f"{error.filename or 'runs'}: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def _stopped(stop: KeyboardInterrupt) -> int:
    return 143 if isinstance(stop, Terminated) else 130


def start(config: "DictConfig", parallel: bool, arms: list[str]) -> int:
    """Run one composed config: a run or a study, of which `arms` go to all arms. Returns the exit code."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if config.get("resume") is not None:
        raise UserError(f"resume={config.resume}: takes no flag and no plus; write it as resume=runs/DAY/RUN")
    threads = OmegaConf.select(config, "train.threads")
    limit_threads(threads if isinstance(threads, int) and threads > 0 else 1)
    hydra = HydraConfig.get()
    workers = _workers(config.workers)

    from rlexp.experiment import plan

    if "study" in config:
        own = [word for word in hydra.overrides.task if not _of_study(word)]
        work = plan.study(config, str(hydra.runtime.choices.get("study")), [*own, *arms])
    else:
        work = plan.single(config)
    if hydra.mode is not None and hydra.mode.name == "MULTIRUN":
        with open(Path(hydra.sweep.dir) / "runs.jsonl", "a") as file:
            file.write(json.dumps({"run": str(work.path), "options": list(hydra.overrides.task)}) + "\n")
    return _execute(work, parallel, workers)


def resume(words: list[str], parallel: bool) -> int:
    """Continue the run or study that `words` name, with their other overrides. Returns the exit code."""
    options = dict(word.partition("=")[::2] for word in words)
    path = Path(options.pop("resume"))
    if str(path) == ".":
        raise UserError("resume=: name a run folder, e.g. resume=runs/2026-01-31/12-00-00_ppo_cartpole")
    written = options.pop("workers", "null")
    workers = _workers(None if written == "null" else int(written) if written.isdigit() else written)
    stored = [*path.glob("config.yaml"), *path.glob("*/config.yaml")]  # of a run, or of a study's arms
    threads = re.search(r"^  threads: (\d+)$", stored[0].read_text(), re.MULTILINE) if stored else None
    limit_threads(int(threads[1]) if threads else 1)

    from rlexp.experiment import plan

    return _execute(plan.resume(path, [f"{key}={value}" for key, value in options.items()]), parallel, workers)


def _workers(workers: Any) -> int | None:
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise UserError(f"workers: {workers!r} is not a whole number ≥ 1")
    return workers


def _execute(work: Any, parallel: bool, workers: int | None) -> int:
    from rlexp.cli.progress import Board, say
    from rlexp.experiment.engines import processes, serial

    jobs = work.jobs()
    if not jobs:
        say(str(work.path))
        work.sum_up()
        say("every seed has already finished; resume=... train.budget=... goes on, where no schedule has ended")
        return 0
    work.begin()
    say(f"\033[1m{work.path}\033[0m" if sys.stdout.isatty() else str(work.path))
    keeper = Recorder(work)
    stop: KeyboardInterrupt | None = None
    with Board(jobs, jobs[0].config.algo_class.clock, arms=work.is_study) as board:

        def handle(job: "Job", event: "Event") -> None:
            keeper(job, event)
            board.update(job, event)

        try:
            if parallel:
                threads = jobs[0].config.train.threads
                processes.run(jobs, handle, workers or max(1, cores() // threads))
            else:
                serial.run(jobs, handle)
        except KeyboardInterrupt as caught:
            stop = caught
    answers = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        keeper.close(stop is not None)  # and is not to be interrupted in that
    finally:
        for number, answer in answers:
            signal.signal(number, answer)
    if stop is not None:
        program = "main_mp.py" if parallel else "main.py"
        say(f"interrupted; continue with: python {program} resume={work.path}")
        raise stop
    say(work.report())
    return int(work.failed())
