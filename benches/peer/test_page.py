"""Tests of benches/results/page.py with measurements that they write."""

import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import results

sys.path.append(str(Path(__file__).resolve().parents[1] / "results"))
import page

NETWORK = {"network": "osnet-x0.25", "mode": "infer", "precision": "single", "batch": 32, "ratio": ""}


class Page(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        replaced = mock.patch.object(page, "RESULTS", self.folder)
        replaced.start()
        self.addCleanup(replaced.stop)

    def write(self, what, rows, date="2026-12-01"):
        file = self.folder / "epyc-2-cores" / f"{date}-{what}.csv"
        results.write(file, what, rows, commit="abc", command=f"measure {what}")

    def cells(self, text):
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]

    def test_sections_without_measurements_are_left_out(self):
        text = "a\n\n{{#boxes}}\n\n# Boxes\n\n{{boxes}}\n\n{{/boxes}}\n\nb\n"
        self.assertEqual(page.filled(text, lambda name: page.boxes()), "a\n\nb\n")
        self.assertEqual(page.filled(text, lambda name: "1"), "a\n\n# Boxes\n\n1\n\nb\n")
        for function in (page.gallery, page.loaders, page.inference_by_batch, page.training_by_batch):
            self.assertEqual(function(), "")

    def test_engines_are_listed_by_size_after_the_exact_search(self):
        def row(system, setting, entries, **more):
            row = {"system": system, "setting": setting, "entries": entries, "dimensions": 256}
            measured = {"recall_at_1": 1, "recall_at_10": 0.98765, "map_lost_percent": 0.5}
            return row | measured | {"p50_ms": 1, "p99_ms": 2, "build_seconds": 9, "peak_memory_mb": 99} | more

        self.assertEqual(page.engines(), "")
        self.write(
            "engines",
            [
                row("USearch 2.26.6", "expansion 64", 1_000_000),
                row("Qdrant Edge 0.9.0", "expansion 64", 100_000),
                row("USearch 2.26.6", "expansion 64", 100_000, p50_ms=0.25),
                row("reid 0.2.0", "exact", 100_000, recall_at_10=1),
            ],
        )
        header, _, *lines = self.cells(page.engines())
        self.assertEqual(header[:5], ["embeddings", "system", "setting", "recall at 1", "recall at 10"])
        size, other = "100,000 x 256", "1,000,000 x 256"
        expected = [[size, "reid 0.2.0"], [size, "Qdrant Edge 0.9.0"], [size, "USearch 2.26.6"], [other, "USearch 2.26.6"]]
        self.assertEqual([line[:2] for line in lines], expected)
        self.assertEqual(lines[2][3:], ["1", "0.9877", "0.5", "0.25", "2", "9", "99", "EPYC"])

    def test_runtimes_are_columns_and_the_ratio_is_to_the_fastest_peer(self):
        def row(system, setting, speed, **more):
            row = {"system": system, "setting": setting, "images_per_second": speed, "peak_memory_mb": 99}
            return NETWORK | row | more

        self.write("networks", [row("OpenVINO 2026.1", "plain", 1000)], date="2026-11-30")
        self.write(
            "networks",
            [
                row("reid 0.2.0", "plain", 300),
                row("reid 0.2.0", "folded", 400),
                row("PyTorch 2.15.0", "contiguous", 100),
                row("PyTorch 2.15.0", "channels-last", 200),
                row("OpenVINO 2026.4.1", "plain", 500),
                row("PyTorch 2.15.0", "channels-last", 9, network="resnet50"),
            ],
        )
        header, _, line = self.cells(page.inference_by_batch())
        self.assertEqual(header[2:6], ["reid", "reid, folded", "PyTorch", "OpenVINO"])
        expected = ["OSNet x0.25", "32", "300 (99)", "400 (99)", "200 (99)", "500 (99)", "0.80", "EPYC"]
        self.assertEqual(line, expected)
        self.assertEqual(page.training_by_batch(), "")
        self.assertEqual(page.inference_by_batch_commands(), "Command: `measure networks`")

    def test_boxes_show_the_newest_row_of_each_system(self):
        row = {"network": "osnet-x0.25", "boxes": 1, "p50_ms": 5, "p99_ms": 7, "boxes_per_second": 200}
        row |= {"first_ms": 400, "peak_memory_mb": 98}
        self.write("boxes", [row | {"system": "reid 0.2.0"}, row | {"system": "OpenVINO 1.0"}])
        self.write("boxes", [row | {"system": "OpenVINO 2.0", "p50_ms": 4}], date="2026-12-02")
        *_, first, second = self.cells(page.boxes())
        self.assertEqual(first, ["1", "reid 0.2.0", "5", "7", "200", "400", "98", "EPYC"])
        self.assertEqual(second[:3], ["1", "OpenVINO 2.0", "4"])

    def test_a_gallery_is_one_row_for_each_system(self):
        row = {"system": "FAISS 1.15.1", "storage": "single", "entries": 1000000, "dimensions": 512}
        row |= {"seconds": 0.25, "p99_seconds": 0.5}
        tasks = [
            {"task": "first search", "queries": 1, "peak_memory_mb": 10},
            {"task": "search", "queries": 1, "peak_memory_mb": 20},
            {"task": "save", "queries": 0, "peak_memory_mb": 30},
        ]
        half = {"system": "reid 0.2.0", "storage": "half", "task": "search", "queries": 64}
        self.write("gallery", [*(row | task for task in tasks), row | half | {"peak_memory_mb": 5}])
        _, _, own, peer = self.cells(page.gallery())
        self.assertEqual(own[1:5], ["reid 0.2.0, half precision", "", "", "250"])
        expected = ["1,000,000 x 512", "FAISS 1.15.1", "250", "250 (500)", "", "250", "", "20", "EPYC"]
        self.assertEqual(peer, expected)

    def test_loaders_are_columns_by_size(self):
        def row(setting, speed, ratio, system="PyTorch 2.15.0"):
            row = {"source": "128x64", "input": "256x128", "system": system, "setting": setting}
            return row | {"images_per_second": speed, "ratio": ratio, "peak_memory_mb": 9}

        self.write("loading", [{"argument": 0, "system": "reid", "fastest_ms": 1}], date="2026-11-01")
        self.assertTrue(page.loading().startswith("Loading decodes"))
        own = row("reid", 900, 1.5, system="reid 0.2.0")
        self.write("loaders", [own, row("pillow", 500, 0.83), row("tensors", 600, 1)])
        *_, line = self.cells(page.loaders())
        expected = ["128 x 64", "256 x 128", "900 (9)", "", "500 (9)", "600 (9)", "1.5", "EPYC"]
        self.assertEqual(line, expected)
        self.assertEqual(page.loading(), "")


if __name__ == "__main__":
    unittest.main()
