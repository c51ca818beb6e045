"""``pipeline weights``: which weights there are, where they come from, and are they the right ones.

Computing features never downloads anything; this does, when asked. A download resumes where it
broke off, is compared with the digest that is known for it, and gets its name only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import SegmentFailure, WeightsError

if TYPE_CHECKING:
    from extractors import Spec, Weights
    from pipeline.sources import SourceOptions

EXIT_DAMAGE = 3
PARTS = ".parts"

_folder = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=None,
    help="Folder of weights; give the same to extract as --weights.  [default: the user's cache]",
)  # fmt: skip
_extractors = click.argument("names", nargs=-1, metavar="[EXTRACTOR]...")


@click.group(short_help="List, fetch, verify and convert network weights.")
def weights() -> None:
    """Look after the weights of the extractors.

    \b
      pipeline weights list                     every file: where it comes from, is it here
      pipeline weights fetch i3d-rgb i3d-flow   download, verify, put in place
      pipeline weights verify                   compare what is here with the known digests
      pipeline weights convert my_i3d.pt        to safetensors, with the source's hash
    """


@weights.command("list", short_help="Say which weights there are and whether they are here.")
@_extractors
@_folder
def list_(names: tuple[str, ...], folder: Path | None) -> None:
    """List the known weights of each EXTRACTOR (all of them by default).

    \b
    Example:
      pipeline weights list i3d-rgb torchvision:resnet50
    """
    for spec in _specs(names):
        click.echo(f"{spec.name}")
        if not spec.weights:
            click.echo(f"  none published: give a path, --set {spec.name}.weights=PATH")
        for known in spec.weights:
            path = _present(known, spec, folder)
            click.echo(f"  {known.name:<14}{path or 'not here'}")
            click.echo(f"{'':16}{known.licence or 'licence unknown'}; {known.trained_on}")
            click.echo(f"{'':16}{known.url or 'no address is known'}")


@weights.command(short_help="Download weights, verify them, put them in place.")
@click.argument("names", nargs=-1, required=True, metavar="EXTRACTOR...")
@click.option("--which", default="", metavar="NAME",
              help="Another than the default weights, by its name in 'weights list'.")  # fmt: skip
@_folder
def fetch(names: tuple[str, ...], which: str, folder: Path | None) -> None:
    """Download the weights of each EXTRACTOR.

    What broke off is resumed by the same command. A file that does not have the known digest is
    not put in place, and one that is here without having it is fetched anew. What torchvision
    left in torch's own download cache is found there and not fetched again.

    \b
    Examples:
      pipeline weights fetch i3d-rgb i3d-flow
      pipeline weights fetch i3d-rgb --which charades
    """
    import extractors
    from extractors import _weights
    from pipeline.sources import SourceOptions

    target = folder or _weights.default_folder()
    for spec in _specs(names):
        known = _weights.chosen(spec.with_settings({"weights": which}))
        if known is None or isinstance(known, Path):
            raise WeightsError(f"{spec.name}: {which!r} is not one of its published weights")
        if (path := _present(known, spec, folder)) and _is_right(path, known):
            click.echo(f"{spec.name}: {path} is here already, {_checked_by(known)}")
            continue
        if bring := extractors.fetcher(spec.name):
            path, checked_by = bring(known, target), "verified by the sha256 that its page states"
        else:
            path, checked_by = fetch_file(known, target, SourceOptions()), _checked_by(known)
        click.echo(f"{spec.name}: {path}, {path.stat().st_size} bytes, {checked_by}")


@weights.command(short_help="Compare the weights that are here with the known digests.")
@_extractors
@_folder
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], folder: Path | None) -> None:
    """Compare every file of EXTRACTOR (of all by default) that is here with its known digest.

    Converted files are also compared with the digest they carry. Exit status 3 when one is wrong.

    \b
    Example:
      pipeline weights verify --folder weights
    """
    from extractors import _checkpoint, _weights

    wrong = False
    for spec in _specs(names):
        for known in spec.weights:
            path = _present(known, spec, folder)
            if path is None:
                continue
            try:
                _weights.verify(path, known)
                _checkpoint.read(path)
            except WeightsError as error:
                wrong = True
                click.echo(f"error: {error}", err=True)
            else:
                click.echo(f"{spec.name}: {path}: {_checked_by(known)}")
    if wrong:
        context.exit(EXIT_DAMAGE)


@weights.command(short_help="Write a checkpoint as safetensors, with its source's hash.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=None,
              help="File to write.  [default: FILE.safetensors, beside it]")  # fmt: skip
def convert(file: Path, out: Path | None) -> None:
    """Write the tensors of FILE (.pt, .pth, .pickle, .ckpt, .npz) as safetensors.

    The twin lies beside its source and is found in its place; features made with either belong
    to the same recipe. Nothing is unpickled but tensors.

    \b
    Example:
      pipeline weights convert weights/rgb_imagenet.pt
    """
    from extractors import _convert

    click.echo(f"{_convert.convert(file, out)}")


def fetch_file(known: Weights, folder: Path, options: SourceOptions) -> Path:
    """Download one file into `folder`: resumed, verified, then moved to its name.

    Parameters
    ----------
    known : Weights
        What to bring, from where, and its digests.
    folder : Path
        Where it goes; unfinished downloads wait in ``.parts`` there.
    options : SourceOptions
        Time limits and tries.

    Raises
    ------
    WeightsError
        When there is no direct address, the server does not give the file, or gives another.
    """
    from extractors import _weights
    from pipeline.sources._download import download
    from pipeline.sources._http import Client
    from pipeline.sources._pace import Manners

    if not known.file or not known.url.endswith(f"/{known.file}"):
        raise WeightsError(
            f"{known.name}: there is no direct download; get {known.file} from "
            f"{known.url or 'its authors'} and put it into {folder}"
        )
    parts = folder / PARTS
    manners = Manners(options.requests_per_second, options.requests_at_a_time)
    client = Client(options, options.accounts or parts, manners)
    try:
        whole, _ = download(client, known.url, parts, lambda size: None)
    except SegmentFailure as failure:
        raise WeightsError(f"{known.file}: {failure}; the same command resumes") from failure
    try:
        _weights.verify(whole, known)
        _weights.settle(whole, folder / known.file)
    finally:
        whole.unlink(missing_ok=True)
    return folder / known.file


def _specs(names: tuple[str, ...]) -> Iterator[Spec]:
    import extractors

    for name in names or extractors.names():
        yield extractors.spec(name)


def _present(known: Weights, spec: Spec, folder: Path | None) -> Path | None:
    from extractors import _weights

    try:
        return _weights.locate(known, spec.name, folder)
    except WeightsError:
        return None


def _is_right(path: Path, known: Weights) -> bool:
    """Tell whether a file is the published one; say so where it is not."""
    from extractors import _weights

    try:
        _weights.verify(path, known)
    except WeightsError as error:
        click.echo(f"{error}: fetching it anew", err=True)
        return False
    return True


def _checked_by(known: Weights) -> str:
    kinds = [
        kind
        for kind, digest in (("sha256", known.sha256), ("git blob SHA-1", known.git_blob_sha1))
        if digest
    ]
    return f"verified by {' and '.join(kinds)}" if kinds else "no digest is published: unverified"


COMMANDS = (weights,)
