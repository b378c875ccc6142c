"""laudc run"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.session import Session, shared_options
from laudc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@click.command("run", short_help="Classify images with an engine.")
@click.argument("engine")
@click.argument("images", nargs=-1, required=True)
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="Classes to show.")
@click.option("--labels", metavar="FILE", help="Names of the classes, one a line.")
@click.option("--threads", type=int, help="Threads of the runtime [default: one per core].")
@shared_options
@click.pass_obj
def command(
    session: Session, engine: str, images: tuple[str, ...], top: int, labels: str | None, threads: int | None
) -> None:
    """Runs ENGINE on IMAGES (files or folders) and shows the likeliest classes of each.

    \b
    Example:
      laudc run model.laudc photo.jpg --top 3
    """
    from laudc.engine import load_engine
    from laudc.engine.images import find_images, load_image
    from laudc.profile.inputs import preprocess_of

    with load_engine(engine, threads=threads) as loaded:
        preprocess = preprocess_of(loaded.manifest)
        files = find_images(images)
        names: list[str] | None = None
        results = []
        for index, file in enumerate(files):
            session.progress("running", index / len(files))
            logits = loaded(load_image(file, preprocess)[None])[0][0]
            names = names or _class_names(labels, len(logits))
            classes = _likeliest(logits, names, top)
            results.append({"image": str(file), "classes": classes})
            session.say(_line(file, classes))
    session.write({"kind": "run", "engine": engine, "results": results})


def _class_names(labels: str | None, classes: int) -> list[str]:
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
