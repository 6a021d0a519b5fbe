"""Tests of rounds.py and of the summaries of its scripts, without programs of reid and without peers."""

import contextlib
import io
import json
import sys
import types
import unittest
from unittest import mock

import boxes
import gallery
import loading
import networks
import rounds


def printing(report):
    """A command that prints a report as a line of JSON."""
    return [sys.executable, "-c", f"print({json.dumps(report)!r})"]


class Quiet(unittest.TestCase):
    """Hides the progress on standard error."""

    def setUp(self):
        hidden = contextlib.redirect_stderr(io.StringIO())
        hidden.__enter__()
        self.addCleanup(hidden.__exit__, None, None, None)


class Rounds(Quiet):
    def test_every_round_begins_with_another_command(self):
        order = []
        commands = {"a": ["a"], "b": ["b"], "c": ["c"]}

        def measure(name, _):
            order.append(name)
            return None if name == "c" else len(order)

        found = rounds.take(commands, 3, measure)
        self.assertEqual("".join(order), "abc" + "ba" + "ab")
        self.assertEqual(found, {"a": [1, 5, 6], "b": [2, 4, 7]})

    def test_a_command_reports_lines_of_json_or_fails(self):
        self.assertEqual(rounds.run(printing({"x": 1})), [{"x": 1}])
        self.assertIsNone(rounds.run([sys.executable, "-c", "raise SystemExit(3)"]))

    def test_the_start_of_a_process_is_an_argument(self):
        program = "import json, sys; print(json.dumps({'at': float(sys.argv[1])}))"
        [found] = rounds.run([sys.executable, "-c", program, rounds.NOW])
        self.assertGreater(found["at"], 1.7e9)

    def test_lists_of_cores_are_parsed(self):
        self.assertEqual(rounds.cores("0-2,5"), {0, 1, 2, 5})

    def test_systems_are_named_without_backend_and_build(self):
        self.assertEqual(rounds.system({"system": "pytorch", "version": "2.15.0+cpu"}), "PyTorch 2.15.0")
        self.assertEqual(rounds.system({"system": "reid, flex", "version": "0.2.0"}), "reid 0.2.0")


class Summaries(Quiet):
    def test_networks(self):
        def report(system, speed, least):
            times = {"min": least}
            report = {"system": system, "version": "1.0", "images_per_second": speed, "milliseconds": times}
            return report | {"peak_memory_mb": speed}

        reports = {
            "PyTorch, contiguous": [report("pytorch", 5, 100), report("pytorch", 5, 100)],
            "PyTorch, compiled": [report("pytorch", 10, 50), report("pytorch", 40, 25)],
            "reid": [report("reid, flex", 20, 40), report("reid, flex", 20, 20)],
        }
        *_, row = networks.summarise(("fnc", "single", "infer", 8), reports)
        self.assertEqual((row["system"], row["setting"], row["height"]), ("reid 1.0", "plain", 288))
        # In the first round twice as fast as the compiled network, in the second half as fast.
        self.assertEqual((row["images_per_second"], row["ratio"]), ("20.00", "1.25"))
        self.assertEqual((row["best_images_per_second"], row["peak_memory_mb"]), ("400.00", "20"))

    def test_commands_of_networks(self):
        settings = {"threads": 2, "repeats": 10, "device": "cpu", "kernels": False, "authors": None}
        settings = types.SimpleNamespace(peer=["channels-last", "frozen", "onnxruntime"], **settings)
        programs, files = {None: "program"}, {"resnet50": "a.onnx", "rga": "b.onnx"}

        def names(*what):
            return list(networks.commands_of(settings, programs, files, *what))

        both = ["reid", "reid, folded"]
        inference = names("resnet50", "single", "infer", 1)
        self.assertEqual(inference, ["PyTorch, channels-last", "PyTorch, frozen", "ONNX Runtime", *both])
        self.assertEqual(names("resnet50", "single", "train", 8), ["PyTorch, channels-last", "reid"])
        self.assertEqual(names("rga", "single", "infer", 8), ["ONNX Runtime", *both])
        found = [networks.repeats(settings, "infer", batch) for batch in (1, 8, 16, 64)]
        self.assertEqual(found, [80, 10, 5, 3])
        self.assertEqual(networks.repeats(settings, "train", 8), 5)

    def test_boxes(self):
        reports = [{"system": "OpenVINO", "version": "1.0", "peak_memory_mb": m} for m in (5.5, 7.2)]
        for report, time in zip(reports, (2, 4)):
            report |= {"p50_ms": time, "p99_ms": 9, "boxes_per_second": 1, "first_ms": None}
        row = boxes.summarise(1, reports)
        self.assertEqual((row["p50_ms"], row["first_ms"], row["peak_memory_mb"]), ("3", "", "7"))

    def test_galleries(self):
        line = {"system": "FAISS", "version": "1.0", "storage": "single", "entries": 9, "dimensions": 2}
        line |= {"queries": 1, "p99_seconds": 3, "peak_memory_mb": 4}
        first, second = ([line | {"task": "search", "seconds": s}] for s in (1, 2))
        [row] = gallery.summarise([first, second])
        self.assertEqual((row["task"], row["seconds"], row["system"]), ("search", "1.5", "FAISS 1.0"))

    def test_loaders(self):
        def report(speed, **more):
            report = {"system": "reid", "images_per_second": speed, "batch": 64, "batches": 2}
            return report | {"milliseconds": {"min": 100}, "peak_memory_mb": 10} | more

        reports = {"reid": [report(300)], "pillow": [report(200, system="pytorch", all_processes_mb=50)]}
        own, peer = loading.summarise((128, 64), (256, 128), reports)
        self.assertEqual((own["ratio"], own["best_images_per_second"]), ("1.50", "1280.0"))
        self.assertEqual((peer["peak_memory_mb"], peer["input"]), ("50", "256x128"))

    def test_built_programs_are_found_in_cargos_messages(self):
        lines = [
            {"reason": "compiler-artifact", "target": {"name": "serde"}, "executable": None},
            {"reason": "compiler-artifact", "target": {"name": "boxes"}, "executable": "/target/boxes-1"},
            {"reason": "build-finished", "success": True},
        ]
        output = "\n".join(map(json.dumps, lines))
        with mock.patch("subprocess.run", return_value=types.SimpleNamespace(stdout=output)) as run:
            self.assertEqual(rounds.built("bench", "boxes"), "/target/boxes-1")
        self.assertIn("--no-run", run.call_args.args[0])


if __name__ == "__main__":
    unittest.main()
