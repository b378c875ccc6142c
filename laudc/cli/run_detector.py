"""laudc run, for detectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.cli.session import Session
from laudc.errors import UserError

if TYPE_CHECKING:
    from laudc.detect import Detection
    from laudc.engine.engine import Engine
    from laudc.engine.images import Preprocess


@dataclass(frozen=True)
class Finder:
    """An engine that finds objects, and how its results are shown."""

    engine: Engine
    preprocess: Preprocess
    names: list[str]
    score: float

    def run(self, session: Session, files: list[Path], draw: str | None) -> list[dict[str, Any]]:
        """Runs all files; writes a picture of each to the folder `draw`. Returns plain data for JSON."""
        folder = None if draw is None else _folder(draw)
        results = []
        for index, file in enumerate(files):
            session.progress("running", index / len(files))
            found = self._find(file)
            drawn = None if folder is None else self._draw(file, index, found, folder)
            session.say(self._line(file, found, drawn))
            results.append(
                {
                    "image": str(file),
                    "drawn": None if drawn is None else str(drawn),
                    "objects": [
                        {"class": d.label, "name": self.names[d.label], "score": d.score, "box": list(d.box)}
                        for d in found
                    ],
                }
            )
        return results

    def _find(self, file: Path) -> list[Detection]:
        """Objects, their boxes in pixels of the picture itself."""
        from laudc.detect import Detection, detect
        from laudc.engine.images import load_image, open_rgb

        logits, deltas = self.engine(load_image(file, self.preprocess)[None])
        picture = open_rgb(file)
        fitted = self.preprocess.fitted(*picture.size)
        across, down = picture.width / fitted[0], picture.height / fitted[1]
        found = []
        for d in detect(logits[0], deltas[0], self.preprocess.size, self.score):
            x1, x2 = (min(side * across, picture.width) for side in d.box[::2])
            y1, y2 = (min(side * down, picture.height) for side in d.box[1::2])
            if x2 > x1 and y2 > y1:  # else it lies in the padding
                found.append(Detection((x1, y1, x2, y2), d.label, d.score))
        return found

    def _draw(self, file: Path, index: int, found: list[Detection], folder: Path) -> Path:
        from laudc.detect.drawing import draw, save
        from laudc.engine.images import open_rgb

        path = folder / f"{index:04d}-{file.stem}.png"
        save(draw(open_rgb(file), found, self.names), path)
        return path

    def _line(self, file: Path, found: list[Detection], drawn: Path | None) -> str:
        objects = ", ".join(f"{self.names[d.label]} {d.score:.2f}" for d in found[:8]) or "nothing"
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        return f"{file}: {objects}{more}" + (f" -> {drawn}" if drawn else "")


def _folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}", error.strerror or str(error), "give another one") from error
    return folder
