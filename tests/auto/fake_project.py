"""Commands as a fake project plays them, on a made workspace; its clock stands still between them."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
from factories import Made, write_run

from kaggle_kit.auto import AutoOptions, run_auto
from kaggle_kit.auto.journal import Journal
from kaggle_kit.blending.blend import blend
from kaggle_kit.errors import WeightsError
from kaggle_kit.launch.plan import Plan, Rates, Work
from kaggle_kit.models.backbones import LocalBackbone
from kaggle_kit.runs import OOF_VIEWS, TEST

SMALL, LARGE = LocalBackbone("small", 224, 1000), LocalBackbone("large", 224, 2000)
TUNED = ("finetune", "mix", "larger", "soft", "again", "snapshots", "specialists", "ordinal")
HEADS = {"probe": 10.0, "teacher": 10.0, "lda": 3.0, "svm": 6.0, "look": 12.0}
ACCURACY = {**dict.fromkeys(HEADS, 0.8), **dict.fromkeys(TUNED, 0.9)}


@dataclass
class FakeProject:
    """Runs of known quality that take a known time.

    Attributes:
        seconds: of training a run of an idea, all folds.
        accuracy: of the runs of an idea.
        kills: run -> how often its training is interrupted by Ctrl-C.
        broken: model -> its error.
        chosen: accuracy of a run with views that were chosen; None: as it was.
        rate: measured images a second in training.
    """

    made: Made
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TUNED, 100.0) | HEADS)
    accuracy: dict[str, float] = field(default_factory=lambda: dict(ACCURACY))
    kills: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    chosen: float | None = None
    rate: float = 40.0
    clock: float = 0.0
    calls: list[str] = field(default_factory=list)

    @property
    def workspace(self):
        return self.made.workspace

    def train(self, *entries, run, strategy, fold, time_limit, **where):
        self.calls.append(f"train {run} {fold}")
        self.last = entries
        model = entries[0].removeprefix("model=")
        if model in self.broken:
            raise WeightsError(self.broken[model])
        if self.kills.get(run, 0):
            self.kills[run] -= 1
            raise KeyboardInterrupt
        idea = run.split("-")[1]
        if fold == "full":
            self.clock += self.seconds[idea] / self.made.spec.n_folds
            return SimpleNamespace(cut_short=False, stopped=None, failed={}, oof_score=np.nan)
        share = (1.0 if fold == "all" else 1 / self.made.spec.n_folds) * (0.5 if run.endswith("-1ep") else 1.0)
        if self.seconds[idea] * share > time_limit:
            self.clock += time_limit
            return SimpleNamespace(cut_short=False, stopped="the time limit is reached", failed={}, oof_score=np.nan)
        self.clock += self.seconds[idea] * share
        spec = replace(self.made.spec, accuracy=self.accuracy[idea])
        if fold != "all":
            spec = replace(spec, unfinished={run: range(1, spec.n_folds)})
        cycles = [f"{run}-cycle{number}" for number in (1, 2)] if "snapshots=2" in entries else []
        for name in (run, *cycles):
            write_run(replace(self.made, spec=spec), name, seed=sum(map(ord, name)))
            for file in (TEST, OOF_VIEWS):  # they come with the prediction
                for path in self.workspace.run_dir(name).glob(f"fold*/{file}"):
                    path.rename(path.with_suffix(".made"))
        return SimpleNamespace(cut_short=False, stopped=None, failed={}, oof_score=self.accuracy[idea])

    def folds(self, *, name, pairs_of):
        self.calls.append(f"folds {name} {pairs_of}")

    def predict(self, *, run, tta, time_limit):
        self.calls.append(f"predict {run} {tta}")
        if tta == "auto" and self.chosen is not None:
            write_run(replace(self.made, spec=replace(self.made.spec, accuracy=self.chosen)), run, seed=7)
        self.clock += 2.0
        for path in self.workspace.run_dir(run).glob("fold*/*.made"):
            path.rename(path.with_suffix(".parquet"))
        return [SimpleNamespace(left_out=())]

    def plan(self, *entries, seconds, tta):
        self.clock += seconds
        work = Work(folds=3, epochs=10, n_train=240, n_valid=120, n_test=120)
        return Plan("m", "cpu", "fp32", (224, 224), 32, Rates(self.rate, 100.0), work, 1.0)

    def blend(self, *, runs, method):
        self.calls.append(f"blend {','.join(runs)}")
        self.clock += 1.0
        return blend(self.made.setup, runs=list(runs), method=method)

    def auto(self, limit=10_000.0, goal="fast", **options):
        said: list[str] = []
        result = run_auto(self, AutoOptions(limit, goal, **options), say=said.append, now=lambda: self.clock)
        return result, said


def entries(project, kind):
    return [entry for entry in Journal(project.workspace.root / "auto" / "auto.jsonl").read() if entry["kind"] == kind]
