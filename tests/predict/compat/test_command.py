"""python -m laudc.predict.compat"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from laudc.predict.compat.__main__ import main

GOLDEN = Path(__file__).parents[2] / "data" / "predictor" / "golden_public.csv"
HEAD = "id,device,batch,op,args,latency_s,accept_rel_tol"
GOOD = 'a,nano,1,fc,"{""cin"": 64, ""cout"": 10}",1e-5,0.01'


def test_json_to_standard_output_is_pure():
    done = subprocess.run(
        [sys.executable, "-m", "laudc.predict.compat", "--golden", str(GOLDEN), "--json", "-"],
        check=True,
        capture_output=True,
        text=True,
    )
    data = json.loads(done.stdout)
    assert (data["rows"], data["within_tolerance"], data["within_tolerance_share"]) == (84, 84, 1.0)
    assert len(data["per_row"]) == 84 and len(data["worst"]) == 10 and data["schema_version"] == 1
    assert abs(data["per_row"][0]["rel_error"]) < 1e-12 and done.stderr == ""


def test_text_for_people(capsys):
    assert main(["--golden", str(GOLDEN)]) == 0
    text = capsys.readouterr().out
    assert "84 of 84 rows (100.00%) are within their tolerance." in text and "Largest errors" in text


def test_draws_of_the_authors_fit_what_they_recorded(tmp_path):
    assert main(["--golden", str(GOLDEN), "--draws", "--json", str(tmp_path / "score.json")]) == 0
    assert json.loads((tmp_path / "score.json").read_text())["max_abs_rel_error"] < 1e-12


def test_rows_outside_come_first_and_can_fail(tmp_path, capsys):
    path = tmp_path / "some.csv"
    path.write_text(f"{HEAD}\n{GOOD}\n" + 'b,v100,128,add,"{""c"": 256, ""h"": 56, ""w"": 56}",0.00178326,0.01\n')
    assert main(["--golden", str(path), "--json", str(tmp_path / "score.json")]) == 0
    data = json.loads((tmp_path / "score.json").read_text())
    assert data["within_tolerance_share"] == 0.5 and data["worst"][0]["id"] == "a"
    assert main(["--golden", str(path), "--fail-under", "0.9"]) == 3
    assert "50.00%" in capsys.readouterr().err


def test_a_random_row_may_match_its_expected_value(tmp_path):
    path = tmp_path / "some.csv"
    record = next(line for line in GOLDEN.read_text().splitlines() if line.startswith("p10-nano"))
    columns = GOLDEN.read_text().splitlines()[0]
    # The recorded value is 0.5 % off the expected one: with this tolerance only the latter fits.
    path.write_text(f"{columns}\n{record.replace('0.0319', '0.0001')}\n")
    assert main(["--golden", str(path), "--fail-under", "1", "--json", str(tmp_path / "a.json")]) == 0


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "lacks the columns id, device"),
        ("id,op\n", "lacks the columns device"),
        (HEAD, "has no rows"),
        (f"{HEAD}\n{GOOD.replace('nano', 'nana')}", "row a: There is no device 'nana'"),
        (f"{HEAD}\n{GOOD.replace('fc', 'fcc')}", "there is no such operator"),
        (f"{HEAD}\n{GOOD.replace('64', '-64')}", "argument 'cin' is -64"),
        (f"{HEAD}\n{GOOD.replace('cin', 'in')}", "row a"),
        (f"{HEAD}\n{GOOD.replace(',1,fc', ',0,fc')}", "batch 0 is not possible"),
        (f"{HEAD}\n{GOOD.replace(',1,fc', ',1e300,fc')}", "is not possible"),
        (f"{HEAD}\na,nano,1,fc,{'[' * 100_000},1e-5,0.01", "args is not JSON"),
        (f"{HEAD}\n{GOOD.replace(',1,fc', ',1.5,fc')}", "batch is '1.5'"),
        (f"{HEAD}\n{GOOD.replace('1e-5', 'fast')}", "latency_s is 'fast'"),
        (f"{HEAD}\n{GOOD.replace('1e-5', '0')}", "latency_s is 0"),
        (f"{HEAD},stochastic,latency_closed_form_s\n{GOOD},1,0", "latency_closed_form_s is 0"),
        (f"{HEAD}\n{GOOD.replace('0.01', 'nan')}", "accept_rel_tol is 'nan'"),
        (f"{HEAD}\na,nano,1,fc,[1],1e-5,0.01", "args is not a JSON object"),
        (f"{HEAD}\na,nano,1,fc,{{,1e-5,0.01", "args is not JSON"),
        (f"{HEAD}\na,nano", "row a"),
        (f'{HEAD}\n"a,nano', "not CSV text"),
        (b"\xff\xfe\x00", "not CSV text"),
    ],
)
def test_bad_files_are_2_and_one_paragraph(tmp_path, capsys, content, said):
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["--golden", str(path), "--json", str(tmp_path / "score.json")]) == 2
    text = capsys.readouterr().err
    assert said.lower() in text.lower() and len(text.splitlines()) == 1
    assert not (tmp_path / "score.json").exists()


def test_a_missing_file_and_wrong_usage(tmp_path, capsys):
    assert main(["--golden", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


@pytest.mark.parametrize("share", ["nan", "1.5", "-1", "most"])
def test_impossible_shares_are_refused(share, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--golden", str(GOLDEN), "--fail-under", share])
    assert caught.value.code == 2 and "--fail-under" in capsys.readouterr().err


def test_json_on_standard_output_is_json_also_after_an_error(tmp_path, capsys):
    assert main(["--golden", str(tmp_path / "none.csv"), "--json", "-"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_a_reader_that_has_seen_enough():
    command = f"{sys.executable} -m laudc.predict.compat --golden {GOLDEN} | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
