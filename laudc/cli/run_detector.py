"""laudc run, for detectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.cli.session import Session
from laudc.errors import UserError

if TYPE_CHECKING:
    from laudc.detect import Decoder, Detection
    from laudc.engine.engine import Engine
    from laudc.engine.images import Preprocess


@dataclass(frozen=True)
class Finder:
    """An engine that finds objects, and how its results are shown."""

    engine: Engine
    preprocess: Preprocess
    decoder: Decoder
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
                    "objects": [self._record(d) for d in found],
                }
            )
        return results

    def _record(self, found: Detection) -> dict[str, Any]:
        from laudc.detect.masks import run_lengths

        plain = {
            "class": found.label,
            "name": self.names[found.label],
            "score": found.score,
            "box": list(found.box),
        }
        return plain if found.mask is None else {**plain, "mask": run_lengths(found.mask)}

    def _find(self, file: Path) -> list[Detection]:
        """Objects, their boxes and masks in pixels of the picture itself."""
        from laudc.detect.masks import paste
        from laudc.engine.images import load_image, open_rgb

        outputs = self.engine(load_image(file, self.preprocess)[None])
        picture = open_rgb(file)
        fitted = self.preprocess.fitted(*picture.size)
        across, down = picture.width / fitted[0], picture.height / fitted[1]
        found = []
        for d in self.decoder([output[0] for output in outputs], self.preprocess.size, self.score):
            x1, y1, x2, y2 = (side * scale for side, scale in zip(d.box, (across, down) * 2, strict=True))
            mask = None if d.mask is None else paste(d.mask, (x1, y1, x2, y2), (picture.height, picture.width))
            x1, x2 = min(x1, picture.width), min(x2, picture.width)
            y1, y2 = min(y1, picture.height), min(y2, picture.height)
            if x2 > x1 and y2 > y1:  # else it lies in the padding
                found.append(replace(d, box=(x1, y1, x2, y2), mask=mask))
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
