"""laudc run"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.session import Session, shared_options
from laudc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@click.command("run", short_help="Classify images with an engine, or find objects in them.")
@click.argument("engine")
@click.argument("images", nargs=-1, required=True)
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="Classes to show.")
@click.option("--labels", metavar="FILE", help="Names of the classes, one a line.")
@click.option("--score", default=0.3, show_default=True, type=click.FloatRange(0, 1), help="Least score of an object.")
@click.option("--draw", metavar="FOLDER", help="Where to write pictures with the objects drawn (detectors).")
@click.option("--threads", type=int, help="Threads of the runtime [default: one per core].")
@shared_options
@click.pass_obj
def command(
    session: Session,
    engine: str,
    images: tuple[str, ...],
    top: int,
    labels: str | None,
    score: float,
    draw: str | None,
    threads: int | None,
) -> None:
    """Runs ENGINE on IMAGES (files or folders) and shows the likeliest classes of each, or the objects found.

    \b
    Example:
      laudc run model.laudc photo.jpg --top 3
      laudc run detector.laudc photos/ --score 0.4 --draw found/
    """
    from laudc.cli.run_detector import Finder
    from laudc.detect import class_count, decoder_of
    from laudc.engine import load_engine
    from laudc.engine.images import find_images, load_image
    from laudc.profile.inputs import preprocess_of

    if math.isnan(score):  # which no range keeps out
        raise UserError("no object can be chosen by the score nan", "it is a number from 0 to 1", "use --score 0.3")
    with load_engine(engine, threads=threads) as loaded:
        preprocess = preprocess_of(loaded.manifest)
        files = find_images(images)
        outputs = [output.name for output in loaded.manifest.outputs]
        decoder = decoder_of(outputs, loaded.manifest.config)
        if decoder is not None:
            count = class_count(loaded.manifest.outputs, loaded.manifest.config)
            finder = Finder(loaded, preprocess, decoder, class_names(labels, count), score)
            session.write({"kind": "run", "engine": engine, "results": finder.run(session, files, draw)})
            return
        _check_classifier(outputs, engine, draw)
        names: list[str] | None = None
        results = []
        for index, file in enumerate(files):
            session.progress("running", index / len(files))
            logits = loaded(load_image(file, preprocess)[None])[0][0]
            names = names or class_names(labels, len(logits))
            classes = _likeliest(logits, names, top)
            results.append({"image": str(file), "classes": classes})
            session.say(_line(file, classes))
    session.write({"kind": "run", "engine": engine, "results": results})


def _check_classifier(outputs: list[str], engine: str, draw: str | None) -> None:
    if len(outputs) != 1:
        raise UserError(
            f"{engine} does not say what is in an image",
            f"it ends with feature maps ({', '.join(outputs)})",
            "use its outputs from Python (laudc.load_engine), or export the checkpoint with its head",
        )
    if draw is not None:
        raise UserError(f"{engine} finds no objects to draw", "it is a classifier", "leave out --draw")


def class_names(labels: str | None, classes: int) -> list[str]:
    """Names from the file `labels`, or made ones. Raises UserError when they do not fit."""
    if labels is None:
        return [f"class {index}" for index in range(classes)]
    try:
        names = Path(labels).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the labels {labels}", str(error), "give a text file, one name a line"
        ) from error
    if len(names) != classes:
        raise UserError(
            f"the labels {labels} do not fit the engine",
            f"there are {len(names)} names and {classes} classes",
            "give one name a line, in the order of the classes",
        )
    return names


def _likeliest(logits: NDArray[np.float32], names: list[str], top: int) -> list[dict[str, Any]]:
    import numpy as np

    shifted = np.exp(logits.astype(np.float64) - logits.max())
    shares = shifted / shifted.sum()
    order = np.argsort(-shares, kind="stable")[:top]
    return [{"class": int(i), "name": names[i], "probability": float(shares[i])} for i in order]


def _line(file: Path, classes: list[dict[str, Any]]) -> str:
    return f"{file}: " + ", ".join(f"{entry['name']} {entry['probability']:.1%}" for entry in classes)
