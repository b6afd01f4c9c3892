"""Sweeps (`-m`): every combination is checked before the first starts, and one table stands at the end."""

import itertools
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


def check(words: list[str]) -> None:
    """Compose and check all combinations of a sweep by Hydra's own sweeper. Raises UserError or Hydra's errors."""
    from rlexp.experiment import overrides
    from rlexp.experiment.compose import compose
    from rlexp.experiment.config import build
    from rlexp.experiment.probe import probe
    from rlexp.util.errors import UserError

    parsed = overrides.parse([word for word in words if not word.startswith("-")])
    if any(o.key_or_group == "resume" for o in parsed):
        raise UserError("resume= continues one run; it cannot be swept")
    if any(o.key_or_group.startswith("hydra/") for o in parsed):
        return  # another sweeper chooses its own values
    seen = set()
    for combination in itertools.product(*overrides.expand(parsed)):
        run = build(compose(combination))
        if (key := json.dumps({k: v for k, v in run.plain.items() if k != "seeds"})) not in seen:
            seen.add(key)
            probe(run)


class Summary(Callback):
    """Stores the table of a sweep's runs after each of them, and prints it at the end."""

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        if config.hydra.mode.name == "MULTIRUN":
            self._table(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        place = Path(config.hydra.sweep.dir)
        print(f"{place / 'summary.md'}\n{self._table(place)}")

    def _table(self, place: Path) -> str:
        from rlexp.experiment.tables import not_finished
        from rlexp.report.records import read_record

        lines = ["| options | run | seeds | return mean | 95 % t-interval | score |", "|---|---|---|---|---|---|"]
        listed = place / "runs.jsonl"
        runs = [json.loads(line) for line in listed.read_text().splitlines()] if listed.exists() else []
        common = set.intersection(*(set(one["options"]) for one in runs)) if runs else set()
        for one in runs:
            run = one["run"]
            options = " ".join(word for word in one["options"] if word not in common).replace("|", "\\|")
            record = read_record(Path(run)) if (Path(run) / "run.json").exists() else {}
            final = record.get("final", {})
            if "return_mean" not in final:
                lines.append(f"| {options} | {run} | {final.get('n', '')} | see its folder | | |")
                continue
            mean, half = final["return_mean"]["mean"], final["return_mean"]["t95"]
            interval = "" if half is None else f"{mean - half:.1f} to {mean + half:.1f}"
            score = f"{final['score']['mean']:.1f}" if "score" in final else ""
            lines.append(
                f"| {options} | {run} | {final['n']}{not_finished(final)} | {mean:.1f} | {interval} | {score} |"
            )
        text = "\n".join(lines) + "\n"
        (place / "summary.md").write_text(text)
        return text
