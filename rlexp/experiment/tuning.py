"""A search for hyperparameters: trials, each a run folder, on one engine, asynchronously; Optuna says which are tried.

    <folder>/tune.yaml      what is searched, as it was typed
             journal.log    Optuna's record of all trials: the truth about the search
             0007/          a trial's run folder
             study.yaml     the whole trials as a sweep, for lists and reports
             confirm/       a study of two arms on fresh seeds: the default, and what was found

A trial's seeds are trained one after another, and each one's score is reported: a trial that is worse than the best one
on the same seeds ends before its last. With several rungs all of it is done on a short budget first, and the better
third goes on to a longer one, see rungs.py. What Optuna suggests depends on the trials that have ended; where several
are under way at once, on which of them were faster.
"""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from rlexp.experiment import rungs
from rlexp.experiment import space as spaces
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.events import Event
from rlexp.experiment.hydra_errors import composed
from rlexp.experiment.job import SeedJob
from rlexp.experiment.plan import Arms, new_folder
from rlexp.experiment.probe import probe
from rlexp.experiment.recorder import Recorder
from rlexp.experiment.resume import resume
from rlexp.experiment.work import Work
from rlexp.report.records import read_study
from rlexp.util import checkpoint
from rlexp.util.errors import UserError, said_of
from rlexp.util.files import in_one_line, read_yaml

if TYPE_CHECKING:
    import optuna

STARTUP = 10  # trials that are drawn at random
CONFIRM = "confirm"
RANDOM_SEED = 2024  # of the sampler, to which the trial's number is added


@dataclass(frozen=True)
class Plan:
    """What a tuning was asked for; tune.yaml."""

    name: str  # of the search space
    words: list[str]  # of every trial
    trials: int
    seeds: list[int]  # of each trial, in this order
    fresh: list[int]  # of the confirmation
    prune_at: float  # p-value of Wilcoxon's signed-rank test below which a trial ends early; 0: never
    metric: str = "return_mean"
    rungs: int = 1  # budgets, of which train.budget is the last

    def write(self, folder: Path) -> None:
        checkpoint.write_text(folder / "tune.yaml", OmegaConf.to_yaml(self.__dict__))

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """Raises UserError for what is no tuning's folder."""
        file = folder / "tune.yaml"
        if not file.is_file():
            raise UserError(f"{folder}: no tuning's folder (it has no tune.yaml)")
        node = read_yaml(file)
        try:
            return cls(**node)
        except TypeError as error:
            raise UserError(f"{file}: {in_one_line(error)}") from None


def run_of(plan: Plan, more: list[str]) -> RunConfig:
    """The checked config of a trial with the options `more`. Raises UserError."""
    return build(composed([*plan.words, *more, f"seeds={plan.seeds}"]))


def budgets(plan: Plan, more: list[str]) -> list[int]:
    """The budgets of a trial with the options `more`, on each of which its config has been checked. Raises
    UserError."""
    run = run_of(plan, more)
    found = rungs.budgets(run, plan.rungs)
    for budget in found[:-1]:
        with said_of(f"--rungs: train.budget={budget}"):
            rungs.at_budget(run, budget)
    return found


def study_in(folder: Path, plan: Plan) -> "optuna.Study":
    """Optuna's study that is kept in `folder`; a new one where there is none."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # pruner and sampler may change one day
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if plan.prune_at > 0:
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=plan.prune_at, n_startup_steps=2)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    return optuna.create_study(
        storage=storage, study_name="tune", direction="maximize", pruner=pruner, load_if_exists=True
    )


@dataclass
class Open:
    """A trial under way."""

    trial: "optuna.Trial"
    work: Work
    budgets: list[int]
    rung: int = 0
    waiting: list[SeedJob] = field(default_factory=list)
    busy: bool = False


@dataclass
class Tuner:
    """Gives an engine the jobs of trials, and takes down what they tell."""

    folder: Path
    plan: Plan
    study: "optuna.Study"
    space: dict[str, Any]
    at_once: int  # trials
    say: Callable[[str], None]
    open: dict[Path, Open] = field(default_factory=dict)  # by the absolute path of its run folder
    recorder: Recorder = field(default_factory=lambda: Recorder({}))

    def next_job(self) -> SeedJob | None:
        """The next seed of a trial that is under way, else the first one of a new trial."""
        for one in self.open.values():
            if one.waiting and not one.busy:
                one.busy = True
                return one.waiting.pop(0)
        if len(self.open) < self.at_once and self._begin_one():
            return self.next_job()
        return None

    def handle(self, job: SeedJob, event: Event) -> None:
        """Take down what a seed tells; at its end, report its score, and end the trial or go on."""
        self.recorder(job, event)
        one = self.open[job.run_folder]
        if event.kind == "failed":
            self._fail(one, f"seed {job.seed}: {event.text}")
        elif event.kind == "done":
            one.busy = False
            self._report(one, job.seed, float(event.data["final"][self.plan.metric]))

    def leave(self) -> None:
        """Close the folders of trials that are under way: another process can go on with them."""
        for one in self.open.values():
            one.work.close(whole=False)

    def _begin_one(self) -> bool:
        """Go on with a trial that an earlier process left, or ask for a new one. False where all have been."""
        import optuna

        under_way = {one.trial.number for one in self.open.values()}
        for left in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            if left.number not in under_way:
                self._begin(optuna.Trial(self.study, left._trial_id), left.params)
                return True
        if len(self.study.get_trials(deepcopy=False)) >= self.plan.trials:
            return False
        n = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, multivariate=True, constant_liar=True, seed=RANDOM_SEED + n
        )
        trial = self.study.ask(self.space)
        self._begin(trial, trial.params)
        return True

    def _begin(self, trial: "optuna.Trial", params: dict[str, Any]) -> None:
        """Make or continue the run folder of a trial. One whose options do not go together has failed."""
        path = (self.folder / trial_name(trial)).resolve()
        try:
            if set(params) != set(self.space):  # killed between its number and its options
                raise UserError("has no options; its process was killed")
            ends = budgets(self.plan, spaces.words(params))
            work = self._work(path, spaces.words(params), ends[0])
            reached = work.runs[0][1].train.budget
            one = Open(trial, work, ends, ends.index(reached))
            self._open(one)
        except UserError as error:
            shutil.rmtree(path, ignore_errors=True)
            self._tell(trial, None, str(error))
            return
        known = self._scores(trial.number)
        for seed, facts in one.work.runs[0][0].seeds().items():  # done, and killed before that was reported
            step = self._step(one, int(seed))
            done = facts["status"] == "done" and facts["step"] >= reached
            if done and step not in known and path in self.open:
                self._report(one, int(seed), float(facts["final"][self.plan.metric]))
        if path in self.open and not one.waiting:
            self._end_rung(one)

    def _open(self, one: Open) -> None:
        """Take up the work of a trial."""
        one.work.begin()
        one.waiting = one.work.jobs()
        self.open[one.work.path.resolve()] = one
        self.recorder.folders |= one.work.folders()

    def _work(self, path: Path, words: list[str], budget: int) -> Work:
        if (path / "config.yaml").is_file():
            return resume(path, [])
        shutil.rmtree(path, ignore_errors=True)
        run = rungs.at_budget(run_of(self.plan, words), budget)
        inputs = probe(run).inputs
        path.mkdir(parents=True)
        return Work(path, [(new_folder(path, run, inputs), run)])

    def _step(self, one: Open, seed: int) -> int:
        """By which a score is reported: seeds in their order, on one budget after another."""
        return one.rung * len(self.plan.seeds) + self.plan.seeds.index(seed)

    def _scores(self, number: int) -> dict[int, float]:
        """What trial `number` has reported."""
        return self.study.get_trials(deepcopy=False)[number].intermediate_values

    def _report(self, one: Open, seed: int, score: float) -> None:
        one.trial.report(score, self._step(one, seed))
        if not one.waiting:
            self._end_rung(one)
        elif one.trial.should_prune():
            self._end(one, early=True)

    def _end_rung(self, one: Open) -> None:
        """All seeds have reached a budget: the trial ends, or goes on to the next."""
        if one.rung == self.plan.rungs - 1:
            self._end(one)
        elif not rungs.goes_on(self._mean(one.trial.number, one.rung), self._means(one.rung)):
            self._end(one, early=True)
        else:
            self._close(one)
            one.rung += 1
            one.work = resume(one.work.path, [f"train.budget={one.budgets[one.rung]}"])
            self._open(one)

    def _mean(self, number: int, rung: int) -> float:
        values = rungs.of_rung(self._scores(number), rung, len(self.plan.seeds))
        return sum(values) / len(values)

    def _means(self, rung: int) -> list[float]:
        """Of every trial that has ended a rung with all seeds."""
        enough = (rung + 1) * len(self.plan.seeds)
        trials = self.study.get_trials(deepcopy=False)
        return [self._mean(one.number, rung) for one in trials if len(one.intermediate_values) >= enough]

    def _end(self, one: Open, early: bool = False) -> None:
        """A trial's value is the mean over its seeds on its last budget, also of one that has ended early: so the
        sampler learns."""
        if early:
            one.trial.set_user_attr("ended early", True)
        self._close(one)
        self._tell(one.trial, self._mean(one.trial.number, one.rung), "")

    def _fail(self, one: Open, why: str) -> None:
        self._close(one)
        self._tell(one.trial, None, why)

    def _close(self, one: Open) -> None:
        one.work.close(whole=True)
        del self.open[one.work.path.resolve()]

    def _tell(self, trial: "optuna.Trial", value: float | None, why: str) -> None:
        import optuna

        if value is None:
            trial.set_user_attr("failed", why)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, value)
            as_sweep(self.folder, self.plan, self.study)
        self.say(self._line(trial.number))

    def _line(self, number: int) -> str:
        """How a trial went, and how many are left."""
        every = self.study.get_trials(deepcopy=False)
        facts = every[number]
        best = next((one.value for one in whole(every)), None)
        over = sum(one.state.is_finished() for one in every)
        if facts.value is None:
            said = f"failed: {facts.user_attrs.get('failed', '')}"
        else:
            seeds = (len(facts.intermediate_values) - 1) % len(self.plan.seeds) + 1
            early = ", ended early" if facts.user_attrs.get("ended early") else ""
            said = f"{self.plan.metric.replace('_', ' ')} {facts.value:.4g} over {seeds} seeds{early}"
        top = "" if best is None else f"; best {best:.4g}"
        return f"trial {number:4d}  {over}/{self.plan.trials}  {said}{top}"


def searched(plan: Plan) -> dict[str, Any]:
    """The distributions of the plan's space, without those options that were typed. Raises UserError."""
    node = spaces.read(plan.name)
    typed = {word.lstrip("+").partition("=")[0] for word in plan.words}
    left = {key: facts for key, facts in node.items() if key not in typed}
    if not left:
        raise UserError(f"tune={plan.name}: all that it searches was typed: {', '.join(node)}")
    return spaces.space(left, run_of(plan, []), plan.name)


def trial_name(trial: Any) -> str:
    """Of its run folder."""
    return f"{trial.number:04d}"


def as_sweep(folder: Path, plan: Plan, study: "optuna.Study") -> None:
    """Let the whole trials, once there is one, be a sweep, which lists and reports know."""
    ranked = whole(study.get_trials(deepcopy=False))
    if not ranked:
        return
    node = {
        "name": plan.name,
        "title": f"Trials of {folder.name} on all their seeds",
        "metric": f"eval/{plan.metric}",
        "sweep": list(ranked[0].params),
        "common": plan.words,
        "arms": {trial_name(one): spaces.words(one.params) for one in ranked},
    }
    checkpoint.write_text(folder / "study.yaml", OmegaConf.to_yaml(node))


def whole(trials: "list[optuna.trial.FrozenTrial]") -> "list[optuna.trial.FrozenTrial]":
    """Those that were trained on all their seeds, best first."""
    kept = [one for one in trials if one.value is not None and not one.user_attrs.get("ended early")]
    return sorted(kept, key=lambda one: (-(one.value or 0.0), one.number))


def confirmation(folder: Path, plan: Plan, params: dict[str, Any]) -> Work:
    """The study of what was found beside the default, on fresh seeds: continued where it is of the same options, else
    new. Raises UserError."""
    place = folder / CONFIRM
    arms = {"default": [], "tuned": spaces.words(params)}
    if (place / "study.yaml").is_file() and read_study(place)["arms"] == arms:
        return resume(place, [])
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    runs = Arms()
    for arm, more in arms.items():
        runs.add(arm, build(composed([*plan.words, *more, f"seeds={plan.fresh}"])), f"{arm}: ", arm)
    runs.check()
    node = {"name": CONFIRM, "title": f"{folder.name}, fresh seeds", "metric": f"eval/{plan.metric}", "arms": arms}
    return runs.work(place, node)
