"""Scores the model against recorded outputs: python -m laudc.predict.compat --golden FILE.csv [--json FILE|-]"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from laudc.errors import CheckFailed, LaudcError
from laudc.report import Column, render_table, write_json

from .golden import read_golden
from .score import Score, score

_SHOWN = 10
_SCHEMA_VERSION = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        result = score(read_golden(options.golden), draws=options.draws)
        if options.json:
            write_json({"schema_version": _SCHEMA_VERSION, **result.to_dict()}, options.json)
        else:
            print(_text(result))
        if result.within_share < options.fail_under:
            raise CheckFailed(
                f"only {result.within_share:.2%} of the rows are within their tolerance",
                f"--fail-under asks for {options.fail_under:.2%}",
                "the worst rows are listed first",
            )
        sys.stdout.flush()
    except LaudcError as error:
        print(f"laudnet-compat: {error}", file=sys.stderr)
        if options.json == "-" and not isinstance(error, CheckFailed):
            facts = {"what": error.what, "why": error.why, "fix": error.fix, "exit_code": error.exit_code}
            write_json({"schema_version": _SCHEMA_VERSION, "kind": "error", "error": facts}, options.json)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe (head) has seen enough; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _share(text: str) -> float:
    """A number between 0 and 1. Raises ValueError for anything else."""
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return share


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m laudc.predict.compat",
        description="Scores the laudnet-compat latency model against recorded outputs of the LAUDNet authors' program.",
        epilog="Exit codes: 0 scored, 2 wrong input or usage, 3 below --fail-under.",
    )
    parser.add_argument("--golden", required=True, metavar="FILE.csv", help="recorded outputs, one operator per row")
    parser.add_argument("--json", metavar="FILE", help="write the score as JSON to FILE, or to standard output for '-'")
    parser.add_argument(
        "--draws",
        action="store_true",
        help="draw random masks as the authors' program does, with the seed of each row, instead of expected values",
    )
    parser.add_argument(
        "--fail-under",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="exit with 3 when a smaller share of rows (0 to 1) is within tolerance",
    )
    return parser


def _text(result: Score) -> str:
    columns = [
        Column("row", left=True),
        Column("operator", left=True),
        Column("predicted", "us"),
        Column("recorded", "us"),
        Column("error", "%"),
        Column("tolerance", "%"),
        Column("within", left=True),
    ]
    rows = [
        [
            row.row.id,
            row.row.call.op,
            f"{row.predicted_s * 1e6:.3f}",
            f"{row.reference_s * 1e6:.3f}",
            f"{row.error * 100:+.4f}",
            f"{row.row.tolerance * 100:.2f}",
            "yes" if row.within else "NO",
        ]
        for row in result.worst(_SHOWN)
    ]
    within = sum(row.within for row in result.rows)
    return (
        f"{within} of {len(result.rows)} rows ({result.within_share:.2%}) are within their tolerance."
        f"\n\nLargest errors:\n{render_table(columns, rows)}"
    )


if __name__ == "__main__":
    sys.exit(main())
