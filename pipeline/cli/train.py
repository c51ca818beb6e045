"""``pipeline train`` and ``pipeline compare``: heads on features, and which features are best."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.heads._compare import Order as Comparing
    from pipeline.heads._load import Wanted
    from pipeline.heads._run import Order, Report

BYTES_OF_A_GB = 10**9

SHARED = (
    click.option(
        "--features", "-f", "out", type=click.Path(path_type=Path, file_okay=False, exists=True),
        default=Path("features"), show_default=True, help="Folder that 'extract --out' wrote.",
    ),
    click.option(
        "--extractor", "-e", "recipes", multiple=True, metavar="NAME",
        help="Extractor or recipe folder.  [default: every recipe in the store]",
    ),
    click.option(
        "--manifest", "-m", type=click.Path(path_type=Path, exists=True), default=None,
        help="Take labels, splits and groups from this list instead of the store.",
    ),
    click.option(
        "--group-column", default="group", show_default=True, metavar="COLUMN",
        help="Column of the manifest that says which segments belong together (same people, same "
        "source): a group is never split between training and test. Where it is empty, and with "
        "'video', segments of one video belong together.",
    ),
    click.option(
        "--common", is_flag=True,
        help="Where recipes hold different segments, use those that all have (the rest is "
        "counted). Without it that is an error.",
    ),
    click.option("--memory", type=click.FloatRange(0), default=4.0, show_default=True, metavar="GB",
                 help="Features up to this size are held in memory."),
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
    click.option("--threads", type=click.IntRange(1), default=None,
                 help="Threads of torch.  [default: torch's own choice]"),
)  # fmt: skip


def _shared(command: Any) -> Any:
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.command(short_help="Train a light head on features.")
@_shared
@click.option(
    "--head", "head", required=True, metavar="NAME",
    help="average (linear on pooled rows), lstm (ConvNet+LSTM), late-fusion (a head per stream, "
    "scores averaged).",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="A setting of the head: pool=mean+std, hidden=256, predict=average, weights=1:1.5 ...",
)  # fmt: skip
@click.option(
    "--folds", default="auto", show_default=True, metavar="RULE",
    help="How to test: 'manifest' (its train and test or val split), 'group' (leave one group "
    "out), a number K (K folds of whole groups), 'auto' (the manifest's split, or 5).",
)  # fmt: skip
@click.option("--checkpoint", "-c", type=click.Path(path_type=Path, file_okay=False),
              default=Path("head"), show_default=True,
              help="Folder of the trained head, its figures and its plots.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True,
              help="Most epochs (lstm).")  # fmt: skip
@click.option("--patience", type=click.IntRange(1), default=15, show_default=True,
              help="Epochs without a better validation loss that end training.")  # fmt: skip
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True,
              help="Segments of a batch.")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3,
              show_default=True)  # fmt: skip
@click.option("--weight-decay", type=click.FloatRange(0), default=1e-3, show_default=True)
@click.option("--validation", type=click.FloatRange(0, 0.5, min_open=True), default=0.2,
              show_default=True, help="Share of the training segments, in whole groups, that "
              "chooses the epoch or the penalty.")  # fmt: skip
@click.option("--balanced", is_flag=True, help="Weigh rare classes up in the loss.")
@click.option("--seed", type=int, default=0, show_default=True,
              help="Same seed, same weights.")  # fmt: skip
@click.option("--again", is_flag=True, help="Replace a finished checkpoint.")
def train(out: Path, head: str, checkpoint: Path, **flags: Any) -> None:
    """Train a light head on extracted features and say how good it is.

    Test segments never share a group with training segments, and validation segments, which
    choose when to stop, come from the training groups. An interrupted training goes on when the
    same command is given again.

    \b
      pipeline train --features features -e i3d-rgb --head lstm
      pipeline train --features features -e i3d-rgb -e i3d-flow --head late-fusion \\
                     --set base=lstm --set weights=1:1.5 --folds group
    """
    import torch

    from pipeline.heads import _load, _plots, _run
    from pipeline.heads.checkpoint import NOTE_FILE

    if flags["threads"]:
        torch.set_num_threads(flags["threads"])
    if (checkpoint / NOTE_FILE).exists() and not flags["again"]:
        raise UsageError(f"{checkpoint} holds a trained head; give --again to replace it")
    wanted = _wanted(out, flags)
    data, coverage = _load.load(wanted)
    click.echo(f"{', '.join(data.streams)}: {coverage}")
    order = _order(head, flags)
    with _Bar(flags["epochs"]) as bar:
        report = _run.run(data, order, checkpoint, bar.update)
    _run.keep(checkpoint, report, order, _recipes(out, data.streams))
    files = _plots.write_report(checkpoint, data, report)
    _print(report)
    click.echo(f"{checkpoint}: head, {', '.join(file.name for file in files)}")


def _wanted(out: Path, flags: dict[str, Any]) -> Wanted:
    from pipeline.heads._load import Wanted
    from pipeline.store import FeatureStore

    recipes = flags["recipes"] or FeatureStore(out).recipes
    if not recipes:
        raise UsageError(f"{out}: no features yet; run pipeline extract first")
    return Wanted(
        out, tuple(recipes), flags["manifest"], flags["group_column"], flags["common"],
        int(flags["memory"] * BYTES_OF_A_GB),
    )  # fmt: skip


def _order(head: str, flags: dict[str, Any]) -> Order:
    from pipeline.heads._run import Order
    from pipeline.heads._train import Plan

    settings = _pairs(flags["settings"])
    names = ("epochs", "patience", "batch", "learning_rate", "weight_decay", "seed", "device")
    plan = Plan(**{name: flags[name] for name in names})
    return Order(head, settings, plan, flags["folds"], flags["validation"], flags["balanced"])


def _recipes(out: Path, streams: tuple[str, ...]) -> list[dict[str, Any]]:
    from pipeline.store import FeatureStore

    store = FeatureStore(out)
    return [{"folder": name, **store[name].recipe} for name in streams]


def _print(report: Report) -> None:
    figures = dict(report.figures)
    interval = figures.pop("top1_interval", None)
    for name, value in figures.items():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        if name == "top1" and interval:
            text += f"   95 % interval over groups {interval[0]:.3f} to {interval[1]:.3f}"
        click.echo(f"  {name:<12}{text}")


class _Bar:
    """A tqdm bar of the epochs of one fold after another."""

    def __init__(self, epochs: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=epochs, unit="epoch", file=sys.stderr, leave=False)
        self._at = ""

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, fold: str, part: str, point: Any) -> None:
        """Show one point of a learning curve."""
        name = " ".join(filter(None, (fold, part)))
        if name != self._at:
            self._at = name
            self._bar.reset()
            self._bar.set_description(name, refresh=False)
        self._bar.set_postfix(
            loss=f"{point.train_loss:.3f}", validation=f"{point.validation_score:.3f}",
            refresh=False,
        )  # fmt: skip
        self._bar.update(1)


@click.command(short_help="Compare heads and features: the table of the field.")
@_shared
@click.option(
    "--videos", "-v", "videos", multiple=True, metavar="SOURCE",
    help="Where the videos are, as for extract: adds the frame size to the trivial baseline.",
)  # fmt: skip
@click.option(
    "--folds", default="auto", show_default=True, metavar="RULE",
    help="As in train: manifest, group (leave one group out), a number K, or auto.",
)  # fmt: skip
@click.option("--inner", type=click.IntRange(2), default=3, show_default=True,
              help="Folds of the training groups that choose hyper-parameters.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True,
              help="Trainings of every fold, seeds 0, 1, ...")  # fmt: skip
@click.option("--heads", default="average,lstm,late-fusion", show_default=True,
              help="Which heads, with commas between.")  # fmt: skip
@click.option(
    "--fusion-weights", "fusion", multiple=True, default=("chosen",), show_default=True,
    metavar="RGB:FLOW",
    help="Weights of late fusion beside equal ones, which are always there: a ratio such as "
    "1:1.5, or 'chosen': on inner folds of the training groups. Several times.",
)  # fmt: skip
@click.option(
    "--lstm", "lstm", multiple=True, metavar="KEY=VALUE,...",
    help="Settings of an LSTM candidate, e.g. hidden=128,project=64; several times: nested "
    "cross-validation chooses.  [default: the paper's 512 units]",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True,
              help="Most epochs of an LSTM.")  # fmt: skip
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True,
              help="Segments of a batch; take fewer where there are few segments, or an epoch is "
              "a handful of steps.")  # fmt: skip
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Also write the table here.")  # fmt: skip
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="Also write a page here.")  # fmt: skip
def compare(out: Path, **flags: Any) -> None:
    """Train every suitable head on every recipe with the same splits, and print the table.

    Hyper-parameters are chosen inside the training groups of every fold (nested
    cross-validation), intervals come from a bootstrap over groups, differences are paired. Chance
    and a baseline that knows frame size and length only are always printed, so a leak shows.

    \b
      pipeline compare --features features --folds group --html table.html
    """
    import torch

    from pipeline.heads import _compare, _table

    for file in filter(None, (flags["csv_file"], flags["html_file"])):
        file.parent.mkdir(parents=True, exist_ok=True)
    if flags["threads"]:
        torch.set_num_threads(flags["threads"])
    found = _compare.compare(
        _comparison(out, flags), lambda row: click.echo(f"... {row}", err=True)
    )
    click.echo(_table.as_text(found))
    if flags["csv_file"]:
        _table.write_csv(flags["csv_file"], found)
    if flags["html_file"]:
        _table.write_html(flags["html_file"], found)


def _comparison(out: Path, flags: dict[str, Any]) -> Comparing:
    from pipeline.heads._compare import Order as Comparing
    from pipeline.heads._field import Effort
    from pipeline.heads._train import Plan

    heads = tuple(filter(None, (name.strip() for name in flags["heads"].split(","))))
    lstm = tuple(_pairs(text.split(",")) for text in flags["lstm"]) or ({},)
    plan = Plan(epochs=flags["epochs"], batch=flags["batch"], device=flags["device"])
    effort = Effort(plan, lstm, heads, flags["fusion"])
    return Comparing(
        _wanted(out, flags), flags["videos"], effort, flags["folds"], flags["inner"],
        tuple(range(flags["seeds"])),
    )  # fmt: skip


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` texts."""
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"a setting is {text!r}, expected KEY=VALUE such as pool=mean+std")
        settings[key] = value
    return settings


COMMANDS = (train, compare)
