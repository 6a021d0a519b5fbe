"""Tests of the studies, the runner and the page, with programs and results that they write."""

import contextlib
import csv
import io
import json
import stat
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path
from unittest import mock

import figures
import page
import recipes
import run
import vehicles
from studies import STUDIES, Row, Study

STUDY = {study.key: study for study in STUDIES}


def study(**changes):
    base = Row("baseline", {"epochs": 2}, paper=60.0)
    rows = (base, Row("new", {"epochs": 3}, paper=65.0), Row("published", None, "embed_folder", seeded=False))
    return Study("toy", "Toy", "Text.", **{"rows": rows, "data": ("streets",), "seeds": 3, "figure": True, **changes})


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def replace(self, module, name, value):
        replaced = mock.patch.object(module, name, value)
        replaced.start()
        self.addCleanup(replaced.stop)


class Recipes(unittest.TestCase):
    def test_changes_follow_their_path(self):
        base = {"a": {"b": 1}, "c": None}
        self.assertEqual(recipes.changed(base, {"a.b": 2, "a.d": [3]}), {"a": {"b": 2, "d": [3]}, "c": None})
        self.assertEqual(base, {"a": {"b": 1}, "c": None})
        for path in ("x.b", "c.b"):
            with self.assertRaisesRegex(KeyError, path):
                recipes.changed(base, {path: 1})

    def test_hidden_layers_of_rga_have_at_least_four_units(self):
        # 128 x 128 pixels: OSNet's stages have these channels and positions.
        for channels, positions in ((64, 1024), (96, 256), (128, 64), (128, 64)):
            for nodes in (positions, channels):
                self.assertGreaterEqual((1 + nodes // 4) // 4, 4)

    def test_gates_near_1_differ_in_nothing_else(self):
        near = {"initial_gate": 0.95}
        self.assertEqual(recipes.near_1(recipes.SE), {"squeeze-excitation": {"reduction": 16, **near}})
        rows = {row.name: json.dumps(row.recipe) for key in ("attention", "fnc") for row in STUDY[key].rows}
        for name, of, gates in (
            ("SE, near 1", "SE", 4),
            ("CBAM, near 1", "CBAM", 8),
            ("RGA-SC, near 1", "RGA-SC", 8),
            ("+SAB, near 1", "+SAB", 1),
            ("FNC, separate, SAB near 1", "FNC, separate", 1),
        ):
            text = ', "initial_gate": 0.95'
            self.assertEqual(rows[name].count(text), gates)
            self.assertEqual(rows[name].replace(text, ""), rows[of])

    def test_rows_differ_and_names_are_unique(self):
        for each in STUDIES:
            names = [(row.backbone, row.name) for row in each.rows]
            self.assertEqual(len(set(names)), len(names), each.key)
            settings = [row.settings() for row in each.rows]
            self.assertEqual(len(set(settings)), len(settings), each.key)
            self.assertTrue(all(row.program in run.PROGRAMS for row in each.rows))
            self.assertTrue(set(each.data) <= set(run.DATA))

    def test_baselines(self):
        streets = STUDY["streets"]
        names = {row.name: (streets.baseline(row) or row).name for row in streets.rows}
        self.assertEqual(names["ASPP, RGA-SC"], "ASPP")
        self.assertEqual(names["ASPP"], "plain")
        self.assertIsNone(streets.baseline(streets.rows[0]))


class Vehicles(Folder):
    def test_each_camera_is_searched_in_the_other(self):
        for name in ("train/car_1_cam1", "train/car_1_cam2", "test/bus_2_cam1", "test/bus_2_cam2"):
            path = self.folder / "images" / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = []
        for path in vehicles.write(self.folder, self.folder / "lists"):
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self.assertTrue(all(Path(row["path"]).exists() for row in rows))
            found.append([(row["identity"], row["split"], row["camera"]) for row in rows])
        train = [("car_1", "train", "1"), ("car_1", "train", "2")]
        self.assertEqual(found[0], [*train, ("bus_2", "query", "1"), ("bus_2", "gallery", "2")])
        self.assertEqual(found[1], [*train, ("bus_2", "gallery", "1"), ("bus_2", "query", "2")])

    def test_a_folder_without_images_is_an_error(self):
        (self.folder / "train").mkdir()
        with self.assertRaisesRegex(SystemExit, "found none"):
            vehicles.write(self.folder, self.folder / "lists")


PROGRAM = """
import json, os, sys
arguments = sys.argv[1:]
recipe = json.load(open(arguments[arguments.index("--recipe") + 1]))
out = arguments[arguments.index("--out") + 1]
if recipe["seed"] == 2 and not os.path.exists({marker!r}):
    open({marker!r}, "w").close()
    sys.exit("no memory")
os.makedirs(out, exist_ok=True)
score = 0.5 + recipe["seed"] / 100 + recipe["epochs"] / 1000
with open(os.path.join(out, "report.json"), "w") as file:
    json.dump({{"mean_intersection_over_union": score, "threads": os.environ["RAYON_NUM_THREADS"]}}, file)
"""


class Runner(Folder):
    def setUp(self):
        super().setUp()
        rows = tuple(
            Row(name, {"epochs": epochs}, "segment_streets") for name, epochs in (("baseline", 2), ("new", 3))
        )
        self.study = study(rows=rows, score=("miou", "mIoU"), further=())
        shared = Study("other", "Other", "Text.", rows[:1], ("streets",), 3, ("miou", "mIoU"))
        self.replace(run, "STUDIES", (self.study, shared))
        program = self.folder / "segment_streets"
        code = textwrap.dedent(PROGRAM.format(marker=str(self.folder / "marker")))
        program.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def start(self, *arguments):
        folders = [f"--{name}={self.folder / name}" for name in ("work", "results")]
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = run.main([f"--binaries={self.folder}", *folders, "--seeds=1-2", *arguments])
        return code, output.getvalue(), errors.getvalue()

    def results(self, key):
        return run.read(self.folder / "results" / f"{key}.csv")

    def test_seeds_come_first_and_finished_runs_are_skipped(self):
        code, output, errors = self.start()
        self.assertEqual(code, 1)
        self.assertIn("failed: toy, streets: OSNet x0.25, baseline, seed 2", errors)
        self.assertIn("no memory", errors)
        self.assertIn("1 of 4: toy, streets: OSNet x0.25, baseline, seed 1: mIoU 51.200 %", output)
        found = [(row["row"], row["seed"], row["miou"]) for row in self.results("toy")]
        self.assertEqual(found, [("baseline", "1", "51.200"), ("new", "1", "51.300"), ("new", "2", "52.300")])

        _, listed, _ = self.start("--list")
        self.assertEqual(listed, "toy, streets: OSNet x0.25, baseline, seed 2\n")
        self.assertEqual(self.start()[0], 0)
        self.assertEqual(len(self.results("toy")), 4)
        self.assertEqual(self.start(), (0, "", ""))
        self.assertEqual(len(self.results("toy")), 4)
        self.assertEqual(list((self.folder / "work").iterdir()), [])

    def test_studies_share_the_results_of_equal_rows(self):
        self.start("--only", "toy", "--seeds=1")
        self.assertEqual(self.results("other"), [])
        code, output, _ = self.start("--seeds=1")
        self.assertEqual((code, output), (0, ""))
        [row] = self.results("other")
        self.assertEqual((row["study"], row["row"], row["miou"]), ("other", "baseline", "51.200"))

    def test_other_settings_are_other_runs(self):
        self.start("--seeds=1")
        rows = (Row("baseline", {"epochs": 4}, "segment_streets"),)
        self.replace(run, "STUDIES", (study(rows=rows, score=("miou", "mIoU")),))
        self.start("--seeds=1")
        found = [row["miou"] for row in self.results("toy") if row["row"] == "baseline"]
        self.assertEqual(found, ["51.200", "51.400"])

    def test_rows_without_their_weights_are_skipped(self):
        rows = (Row("baseline", {"epochs": 2}, "segment_streets", weights="osnet"),)
        self.replace(run, "STUDIES", (study(rows=rows),))
        code, output, errors = self.start()
        self.assertEqual((code, output), (0, ""))
        self.assertEqual(errors, "skips runs without --weights osnet=…\n")

    def test_events_of_a_run_that_was_resumed(self):
        folder = self.folder / "events"
        folder.mkdir()
        lines = [{"event": "started", "parameters": 7}, {"event": "classified", "epoch": 1, "error": 0.5}]
        lines += [{"event": "started", "parameters": 7}, {"event": "classified", "epoch": 1, "error": 0.4}]
        lines += [{"event": "classified", "epoch": 2, "error": 0.3}]
        text = "\n".join(map(json.dumps, lines)).replace("\n", '\n{"eve\n', 1)
        (folder / "train_baseline.out").write_text(text, encoding="utf-8")
        runner = mock.Mock(**{"lists.return_value": ["list"], "weights.return_value": []})
        job = run.Job(self.study, self.study.rows[0], "cifar10", 1)
        scores = run.train_baseline(runner, job, folder)
        self.assertEqual(scores, {"parameters": 7, "error": "30.000", "curve": "40.000 30.000"})

    def test_both_directions_are_averaged(self):
        reports = [{"mean_average_precision": value, "cmc": [value / 2]} for value in (0.5, 0.7)]
        scores = run.retrieval(reports)
        self.assertEqual((scores["map"], scores["rank_1"]), ("60.000", "30.000"))
        self.assertEqual((scores["map_from_2"], scores["rank_1_from_2"]), ("70.000", "35.000"))
        self.assertEqual(run.retrieval(reports[:1]), {"map": "50.000", "rank_1": "25.000"})


class Page(Folder):
    def setUp(self):
        super().setUp()
        self.study = study()
        self.replace(page, "RESULTS", self.folder)
        self.replace(page, "STUDIES", (self.study,))

    def write(self, name, seed, score, settings=None):
        row = next(row for row in self.study.rows if row.name == name)
        key = ("toy", "streets", row.backbone, name, seed, settings or row.settings())
        scores = {"map": score, "rank_1": score + 1, "commit": "abc"}
        run.append(self.folder / "toy.csv", dict(zip(run.KEY, key, strict=True)) | scores)

    def lines(self):
        text = page.table(page.Results(self.study), "streets")
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()][2:]

    def test_intervals_are_paired_over_the_seeds_of_both_rows(self):
        for seed, (one, other) in enumerate([(50, 52), (60, 63), (55, 59)], 1):
            self.write("baseline", seed, one)
            self.write("new", seed, other)
        self.write("new", 4, 90)
        self.write("new", 5, 90, settings="old")
        # The differences 2, 3 and 4 have the mean 3 and the deviation 1: 4.303 / √3 = 2.48.
        self.assertEqual(self.lines()[1][:3], ["new", "66.0 ± 16.6", "+3.0 (+0.5 to +5.5)"])
        self.assertEqual(self.lines()[0][1:3], ["55.0 ± 5.0", ""])
        self.assertEqual(self.lines()[1][4:], ["4", "65.0", "+5.0"])

    def test_partial_results(self):
        self.assertIn("## Studies without results", page.page()["RESULTS.md"])
        self.write("baseline", 1, 50)
        self.write("new", 1, 51)
        self.write("published", 1, 40)
        self.assertEqual([line[2] for line in self.lines()], ["", "+1.0", "-10.0"])
        self.assertEqual([line[4] for line in self.lines()], ["1", "1", "none"])
        # Weights without a seed are compared with each seed.
        self.write("baseline", 2, 52)
        self.assertEqual(self.lines()[2][2], "-11.0 (-23.7 to +1.7)")
        made = page.page()
        self.assertIn("pictures/results-toy-streets.svg", made)
        self.assertIn("python3 experiments/run.py --only toy", made["RESULTS.md"])

    def test_the_check_finds_what_differs(self):
        self.replace(page, "DOCS", self.folder / "docs")
        (self.folder / "docs" / "pictures").mkdir(parents=True)
        self.write("baseline", 1, 50)
        made = page.page()
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.assertTrue(page.check(made))
            for name, text in made.items():
                (self.folder / "docs" / name).write_text(text, encoding="utf-8")
            self.assertFalse(page.check(made))
            (self.folder / "docs" / "pictures" / "results-old.svg").touch()
            self.assertTrue(page.check(made))
        self.assertIn("results-old.svg", output.getvalue())


class Figures(unittest.TestCase):
    def test_axes_include_all_values(self):
        marks, x = figures.scale([-3.2, 0.0, 7.9])
        self.assertEqual((marks[0], marks[-1]), (-4, 8))
        self.assertLess(x(-3.2), x(7.9))
        self.assertGreaterEqual(x(-3.2), figures.LEFT)

    def test_curves_and_differences_are_drawn(self):
        self.assertEqual(figures.curves("t", [("a & b", [3.0, 2.0]), ("c", [4.0])], "error").count("<polyline"), 2)
        text = figures.differences("t", [("a", 1.0, (0.5, 1.5), 2.0), ("b", -1.0, None, None)], "points")
        self.assertIn("&lt;", figures.text(0, 0, "<"))
        self.assertEqual(text.count("<circle"), 3)


if __name__ == "__main__":
    unittest.main()
