"""Tests of results.py: `python3 -m unittest discover benches/peer`."""

import csv
import tempfile
import unittest
from pathlib import Path

import results

DIVAN = """\
Timer precision: 20 ns
attention              fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ rga_spatial         1.36 ms       │ 2.1 ms        │ 1.5 ms        │ 1.6 ms        │ 5       │ 5
├─ relations                         │               │               │               │         │
│  ├─ factorised                     │               │               │               │         │
│  │  ├─ 128          910.5 µs       │ 1 ms          │ 950 µs        │ 960 µs        │ 3       │ 3
│  │  ╰─ 8192         202.6 ms       │ 210 ms        │ 203 ms        │ 205 ms        │ 3       │ 3
│  │                  948 item/s     │ 914 item/s    │ 945 item/s    │ 936 item/s    │         │
│  ╰─ skipped         (ignored)      │               │               │               │         │
╰─ squeeze_excitation  1.2 s         │ 1.3 s         │ 1.2 s         │ 1.2 s         │ 5       │ 5
"""


def read(file):
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


class Results(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_nested_records_become_columns(self):
        record = {"mode": "infer", "milliseconds": {"median": 2.5, "min": 2}, "shape": (8, 3)}
        expected = {"mode": "infer", "milliseconds_median": 2.5, "milliseconds_min": 2, "shape": "8 3"}
        self.assertEqual(results.flatten(record), expected)

    def test_a_folder_gets_a_file_named_by_date_and_benchmark(self):
        file = results.write(self.folder / "machine", "ranking", [{"seconds": 1.5}], commit="abc")
        self.assertRegex(file.name, r"^\d{4}-\d{2}-\d{2}-ranking\.csv$")
        [row] = read(file)
        self.assertEqual((row["seconds"], row["commit"]), ("1.5", "abc"))

    def test_rows_are_added_to_a_file_and_columns_merged(self):
        file = self.folder / "a.csv"
        results.write(file, "a", [{"x": 1}], commit="", command="one, two")
        results.write(file, "a", [{"x": 2, "y": 3}], commit="", command="")
        self.assertEqual(file.read_text().splitlines()[0], "x,y,commit,command")
        rows = read(file)
        self.assertEqual([(row["x"], row["y"]) for row in rows], [("1", ""), ("2", "3")])
        self.assertEqual(rows[0]["command"], "one, two")

    def test_divan_tables_are_parsed(self):
        rows = results.parse(DIVAN.splitlines())
        found = [(row["benchmark"], row["argument"], row["fastest_ms"]) for row in rows]
        expected = [
            ("rga_spatial", "", "1.36"),
            ("relations.factorised", "128", "0.9105"),
            ("relations.factorised", "8192", "202.6"),
            ("squeeze_excitation", "", "1200"),
        ]
        self.assertEqual(found, expected)
        self.assertEqual(rows[0]["samples"], "5")

    def test_lines_of_json_are_records(self):
        lines = ["Compiling reid", '{"system": "reid", "seconds": 2}']
        self.assertEqual(results.parse(lines), [{"system": "reid", "seconds": 2}])


if __name__ == "__main__":
    unittest.main()
