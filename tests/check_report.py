"""Compares the report of an evaluation with what scikit-learn makes of its predictions: tests/sklearn.sh."""

import csv
import json
import pathlib
import sys
import warnings
import xml.etree.ElementTree

import numpy
import sklearn
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, log_loss

# Counts and their ratios are f64 on both sides.
TOLERANCE = 1e-9
# The program adds losses that are f32; a loss of about 1 has 6e-8 in its last bit.
LOSS_TOLERANCE = 1e-5

warnings.simplefilter("error")
folder = pathlib.Path(sys.argv[1])
printed = json.loads((folder / "eval.json").read_text())
folder = folder / "report"
report = json.loads((folder / "report.json").read_text())


def rows(name):
    with open(folder / name, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def near(what, got, expected, tolerance=TOLERANCE):
    global off
    if tolerance == TOLERANCE:
        off = max(off, abs(got - expected))
    assert abs(got - expected) <= tolerance, f"{what}: {got}, scikit-learn: {expected}"


off = 0.0
header, *lines = rows("predictions.csv")
names = [one["name"] for one in report["classes"]]
classes = range(len(names))
assert header == ["image", "class", "name", "predicted", "predicted_name", "probability", *(f"p{c}" for c in classes)]
assert [int(line[0]) for line in lines] == list(range(10000)), len(lines)
true = numpy.array([int(line[1]) for line in lines])
predicted = numpy.array([int(line[3]) for line in lines])
# They are f32, whose shortest text is not that of the same number in f64.
probabilities = numpy.array([line[6:] for line in lines], numpy.float32).astype(numpy.float64)
confidence = numpy.array([line[5] for line in lines], numpy.float32).astype(numpy.float64)
assert all(names[int(line[1])] == line[2] and names[int(line[3])] == line[4] for line in lines)
assert (probabilities.argmax(1) == predicted).all() and (probabilities.max(1) == confidence).all()

assert (printed["accuracy"], printed["loss"]) == (report["accuracy"], report["loss"]), printed
near("accuracy", report["accuracy"], accuracy_score(true, predicted))
# scikit-learn asks for sums of 1 to 1e-8, which f32 does not have.
sums = probabilities.sum(1, keepdims=True)
assert abs(sums - 1).max() < 1e-6
loss = log_loss(true, probabilities / sums)
near("loss", report["loss"], loss, LOSS_TOLERANCE)
assert report["confusion"] == confusion_matrix(true, predicted, labels=classes).tolist()
assert rows("confusion.csv")[0][1:] == names
assert [[int(count) for count in row[1:]] for row in rows("confusion.csv")[1:]] == report["confusion"]

expected = classification_report(
    true, predicted, labels=classes, target_names=names, output_dict=True, zero_division=0
)
keys = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
table = rows("classes.csv")
assert table[0] == ["class", "name", *keys]
pairs = [(name, report["classes"][c], table[1 + c]) for c, name in enumerate(names)]
pairs += [("macro avg", report["averages"]["macro"], table[-2]), ("weighted avg", report["averages"]["weighted"], table[-1])]
for name, found, line in pairs:
    for at, (ours, theirs) in enumerate(keys.items()):
        near(f"{name}: {ours}", found[ours], expected[name][theirs])
        near(f"{name}: {ours} in classes.csv", float(line[2 + at]), expected[name][theirs])
assert table[-3][:4] == ["", "accuracy", "", ""], table[-3]
near("accuracy in classes.csv", float(table[-3][4]), expected["accuracy"])

# scikit-learn has no calibration error: equation 3 of Guo et al. 2017.
bins = numpy.clip(numpy.ceil(confidence * 15).astype(int) - 1, 0, 14)
gaps = [abs((predicted == true)[bins == b].sum() - confidence[bins == b].sum()) for b in range(15)]
near("calibration error", report["ece"], sum(gaps) / len(lines))
assert [one["count"] for one in report["bins"]] == numpy.bincount(bins, minlength=15).tolist()

wrong = numpy.flatnonzero(predicted != true)
wrong = wrong[numpy.argsort(-confidence[wrong], kind="stable")]
assert [one["image"] for one in report["mistakes"]] == wrong.tolist()
assert [one["predicted"] for one in report["mistakes"]] == predicted[wrong].tolist()

for name in ["confusion.svg", "classes.svg", "reliability.svg", "report.html"]:
    xml.etree.ElementTree.parse(folder / name)
print(
    f"scikit-learn {sklearn.__version__}: accuracy {report['accuracy']:.4f} and {len(pairs)} lines of scores within "
    f"{off:.1e}, loss within {abs(loss - report['loss']):.1e}"
)
