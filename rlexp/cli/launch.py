"""What `main.py` and `main_mp.py` do: compose the config, check it, make the run folder, run the seeds, say the result.

Exit codes: 0 all seeds finished; 1 a seed failed; 2 the user can mend it, nothing was started; 130, 143 interrupted.
Only hydra and the standard library are imported at the top, so that --help and shell completion answer at once.
"""

import faulthandler
import os
import re
import shlex
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlexp.util import configs, paths
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.files import read_text
from rlexp.util.output import steady
from rlexp.util.plugins import said_with_place, told_of_exits
from rlexp.util.processes import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omegaconf import DictConfig

    from rlexp.engines.base import Engine
    from rlexp.experiment.events import Event
    from rlexp.experiment.job import SeedJob
    from rlexp.experiment.work import Work


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated like Ctrl-C."""


def main(engine: str = "serial") -> int:
    """Run `sys.argv`, on `engine` unless it names another; returns the exit code, whatever becomes of the output."""
    with steady():
        return _main(engine)


def _main(engine: str) -> int:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    signal.signal(signal.SIGTERM, _terminate)
    with suppress(AttributeError, OSError, ValueError):  # a crash of native code says where it was called
        faulthandler.enable(sys.stderr.fileno(), all_threads=False)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us, not a report
    try:
        return _run(sys.argv[1:], engine)
    except UserError as error:
        return _complain(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        from rlexp.experiment import hydra_errors

        return _complain(hydra_errors.hydra_error(error))
    except OSError as error:
        return _complain(_said(error))
    except KeyboardInterrupt as stop:
        return _stopped(stop)


def _run(typed: list[str], engine: str) -> int:
    """Run the command line `typed`: a run that is continued, a sweep, a study, or one new run. Returns the exit
    code."""
    from rlexp.experiment import compose, former_names, overrides

    sweeps = any(word in ("-m", "--multirun") for word in typed)
    given = overrides.in_lists(overrides.at_home(typed))
    _check_flags(given)
    words = former_names.translated(compose.take(given))
    compose.register()
    if not any(word.startswith("engine=") for word in words):
        words.append(f"engine={engine}")
    options = [word for word in words if word not in ("-m", "--multirun")]
    flagged = any(word.startswith("-") for word in words)
    resumes = any(word.startswith("resume=") for word in words)
    asks_for_help = any(word in ("--help", "-h", "--hydra-help") for word in words)
    if not resumes:
        _check_groups(words)
    if sweeps and not asks_for_help:
        from rlexp.cli import sweep

        with told_of_exits():
            with before_training():
                planned = sweep.plan(options)
            return execute(*planned)
    if resumes and not asks_for_help:  # nothing to compose: the run has its config
        with told_of_exits():
            return resume(words)
    arms: list[str] = []
    if any(word.startswith("+study=") for word in words) and not flagged:
        # Hydra need not know of the arms' options: they may be of another algorithm.
        arms = [word for word in words if not _of_study(word)]
    return _compose([word for word in words if word not in arms], typed, arms)


def _compose(words: list[str], typed: list[str], arms: list[str]) -> int:
    """Let Hydra compose `words` and start what they describe. Returns the worst exit code."""
    import hydra

    from rlexp.experiment.compose import mistakes_named

    codes = [0]  # of this process's runs; Hydra passes no return value through

    @hydra.main(config_path=str(paths.CONF), config_name="config", version_base="1.3")
    def task(config: "DictConfig") -> None:
        sys.argv[1:] = typed  # what the run's record says
        try:
            with told_of_exits():
                codes.append(start(config, arms))
        except (UserError, OSError) as error:  # not to be announced by Hydra as a crashed job
            codes.append(_complain(_said(error)))

    sys.argv[1:] = ordered(words)
    with mistakes_named():
        task()
    return max(codes)


def _of_study(word: str) -> bool:
    """Whether an option says which study and how it is run, rather than what its arms are."""
    return re.split(r"[.=/]", word.lstrip("+"))[0] in ("study", "runs", "workers", "engine", "hydra")


def _check_flags(words: list[str]) -> None:
    """Raise UserError for a flag that Hydra does not have (it would print its whole usage), and for options
    that it cannot read."""
    from hydra._internal.utils import get_args_parser

    from rlexp.experiment import overrides

    def wrong(message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))

    parser = get_args_parser()
    parser.error = wrong  # type: ignore[method-assign]
    for word in words:
        flag = word.split("=")[0]
        if flag.startswith("-") and not any(known.startswith(flag) for known in parser._option_string_actions):
            hint = did_you_mean(nearest(flag, parser._option_string_actions))
            raise UserError(f"{flag}: unknown flag{hint} (options are key=value)")
    overrides.require_readable(parser.parse_args(ordered(words)).overrides, words)


def ordered(words: list[str]) -> list[str]:
    """The options first, then flags and what belongs to them: argparse takes options in one place only, and one that
    follows --info for its value."""
    options = [word for word in words if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    return options + [word for word in words if word not in options]


def _check_groups(words: list[str]) -> None:
    """A group is chosen by a word, `logger` also by a list: of true, null, a number or another list Hydra makes a
    traceback."""
    from rlexp.util.configs import choices, groups

    known = groups()
    for word in words:
        group, _, value = word.lstrip("+~").partition("=")
        if group not in known or not value:
            continue
        for choice in _choices(group, value):
            if choice not in choices(group) and re.fullmatch(r"(?i)true|false|null|[-+.\deE]+|\[.*", choice):
                from rlexp.experiment import hydra_errors

                raise UserError(hydra_errors.no_such(group, choice))


def _choices(group: str, value: str) -> list[str]:
    """The words that choose of `group` in `value`; a list that is none of words stays one."""
    if group == "logger" and re.fullmatch(r"\[[^\[\]]+\]", value):
        return [word.strip(" '\"") for word in value[1:-1].split(",")]
    if value.startswith("["):
        return [value]
    return value.split(",")


def _said(error: Exception) -> str:
    return f"{error.filename or 'runs'}: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def _stopped(stop: KeyboardInterrupt) -> int:
    return 143 if isinstance(stop, Terminated) else 130


def start(config: "DictConfig", arms: list[str]) -> int:
    """Run one composed config: a run or a study, of which `arms` go to all arms. Returns the exit code."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if config.get("resume") is not None:
        raise UserError(f"resume={config.resume}: takes no flag and no plus; write it as resume=runs/DAY/RUN")
    threads = OmegaConf.select(config, "train.threads")
    limit_threads(threads if isinstance(threads, int) and threads > 0 else 1)
    hydra = HydraConfig.get()
    if hydra.mode is not None and hydra.mode.name == "MULTIRUN":
        raise UserError("hydra.mode=MULTIRUN: a sweep is written with -m")

    from rlexp.cli.progress import say
    from rlexp.experiment import plan
    from rlexp.experiment.config import make_engine

    engine = make_engine(OmegaConf.to_container(config.engine, resolve=True))
    with before_training():
        if "study" in config:
            own = [word for word in hydra.overrides.task if not _of_study(word)]
            work = plan.study(config, str(hydra.runtime.choices.get("study")), [*own, *arms], say, engine.at_once)
        else:
            work = plan.single(config, say, engine.at_once)
    return execute(work, engine)


@contextmanager
def before_training() -> "Iterator[None]":
    """Within, data may be made; a line says where that is interrupted."""
    from rlexp.cli.progress import say

    try:
        yield
    except KeyboardInterrupt:
        say("interrupted before training began; data sets that were not complete are not kept")
        raise


def resume(words: list[str]) -> int:
    """Continue the run or study that `words` name, with their other overrides. Returns the exit code."""
    named = [word for word in words if word.startswith("resume=")]
    path = Path(named[-1].removeprefix("resume="))
    if str(path) == ".":
        raise UserError("resume=: name a run folder, e.g. resume=runs/2026-01-31/12-00-00_ppo_cartpole")
    stored = [*path.glob("config.yaml"), *path.glob("*/config.yaml")]  # of a run, or of a study's arms
    written = re.search(r"^  threads: (\d+)$", read_text(stored[0]), re.MULTILINE) if stored else None
    threads = int(written[1]) if written else 1
    limit_threads(threads)
    device = re.search(r"^  device: (\w+)$", read_text(stored[0]), re.MULTILINE) if stored else None
    train = {"threads": threads, "device": device[1] if device else "cpu"}

    from rlexp.experiment.resume import engine_of, resume

    others = [word for word in words if word not in named]
    flags = [word for word in others if word.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]}: resume= takes no flags; what {path} goes on with stands in its config.yaml")
    engine, rest = engine_of(others, train)
    return execute(resume(path, rest), engine)


def execute(work: "Work", engine: "Engine") -> int:
    """Run what is to be done, with a live table. Returns the exit code; raises KeyboardInterrupt when interrupted."""
    from rlexp.cli.progress import Board, say
    from rlexp.engines.base import Detached, one_by_one
    from rlexp.experiment.provenance import program
    from rlexp.experiment.recorder import Recorder

    jobs = work.jobs()
    if not jobs:
        say(str(work.path))
        work.sum_up()
        say("every seed has already finished; resume=... train.budget=... goes on, where no schedule has ended")
        return 0
    work.begin(engine.prepare)
    say(work.outlook(jobs, engine.at_once))
    say(f"\033[1m{work.path}\033[0m" if sys.stdout.isatty() else str(work.path))
    for note in work.notes:
        say(note)
    recorder = Recorder(work.folders())
    stop: KeyboardInterrupt | None = None
    broken: BaseException | None = None
    with Board(jobs, work.budgets(), work.clock, arms=work.is_study) as board:

        def handle(job: "SeedJob", event: "Event") -> None:
            recorder(job, event)
            board.update(job, event)

        try:
            engine.run(one_by_one(jobs), handle)
        except Detached as left:
            work.leave()
            say(
                f"{left} goes on without this command; rlexp watch {work.path} looks on, and then rlexp refresh sums up"
            )
            return 0
        except KeyboardInterrupt as caught:
            stop = caught
        except (Exception, SystemExit) as caught:  # of the engine itself: a job's own is a message
            broken = caught
    _undisturbed(lambda: recorder.attempt(lambda: work.close(whole=stop is None and broken is None)))
    again = shlex.join([*program().split(), f"resume={work.path}", *_how()])
    if stop is not None:
        say(f"interrupted; continue with: {again}")
        raise stop
    if broken is not None:
        recorder.attempt(lambda: work.say("".join(traceback.format_exception(broken))))
        say(work.report())
        name = type(engine).__name__
        print(f"error: engine {name} has failed: {said_with_place(broken)}; continue with: {again}", file=sys.stderr)
        return 1
    say(work.report())
    for what, place in work.made().items():
        say(f"{what}: {place}")
    return 1 if work.failed() else 0


def _how() -> list[str]:
    """The words typed that say how a run is executed, which its folder does not: its engine, and what is trusted."""
    words = [word for word in sys.argv[1:] if re.match(r"(engine|workers|trust)[.=]", word)]
    return [f"--config-dir={folder}" for folder in configs.config_dirs] + words


def _undisturbed(action: "Callable[[], None]") -> None:
    """`action()`, which Ctrl-C and SIGTERM do not interrupt."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        action()
    finally:
        for number, answer in before:
            signal.signal(number, answer)
