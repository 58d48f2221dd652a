//! `eval --report`: its files are all there, agree with each other and with what `eval` prints, and stay readable and
//! harmless whatever the classes are called.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use tnet_gpu::data::ImageSet;
use tnet_gpu::net::Prediction;
use tnet_gpu::report::classification::Classification;
use tnet_gpu::report::curves::Curve;
use tnet_gpu::report::eval::{EvalReport, FILES};
use tnet_gpu::report::table::ParameterRow;

use crate::common::executable::{
    Training, assert_no_temporaries, code, error_line, stderr, stdout, tnet,
};
use crate::common::markup::{Element, elements};
use crate::common::numbers;

/// Names that are markup, fields of CSV, or written from right to left.
const NAMES: [&str; 3] = ["<script>alert(\"&'\")</script>", "a,\"b\" & c", "שלום, 猫"];

/// A run whose classes have these names; it is short, so that there are mistakes.
fn run(names: &[&str; 3]) -> Training {
    let training = Training::new();
    fs::write(training.path("data/labels.txt"), names.join("\n")).unwrap();
    let output = training.run(&["--out-factors", "4,4", "--lr", "0.0001"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    training
}

/// The fields of a CSV file by the rules of RFC 4180.
fn csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let field = rows.last_mut().unwrap().last_mut().unwrap();
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => rows.last_mut().unwrap().push(String::new()),
            '\n' if !quoted => rows.push(vec![String::new()]),
            other => field.push(other),
        }
    }
    assert!(!quoted, "{text}");
    // After the last line break.
    assert_eq!(rows.pop(), Some(vec![String::new()]));
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
    rows
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// All text of a document, also what appears under the pointer.
fn said(elements: &[Element]) -> String {
    let tips = elements.iter().filter_map(|element| element.attributes.get("title"));
    let texts = elements.iter().map(|element| &element.text);
    texts.chain(tips).map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// Nothing is loaded and nothing runs.
#[track_caller]
fn assert_harmless(elements: &[Element]) {
    for Element { name, attributes, text } in elements {
        assert!(
            !["script", "link", "iframe", "object", "a", "base", "foreignObject"]
                .contains(&name.as_str()),
            "{name}"
        );
        for (attribute, value) in attributes {
            assert!(!attribute.starts_with("on"), "{attribute}");
            if ["src", "href", "style", "srcset"].contains(&attribute.as_str()) {
                assert!(name == "img" && value.starts_with("data:image/png;base64,"), "{value}");
            }
        }
        if name == "style" {
            assert!(
                !["url(", "@import", "//", "expression"].iter().any(|found| text.contains(found))
            );
        }
    }
}

/// The reader of these tests finds what a browser or a strict parser would not take for what was meant.
#[test]
fn what_is_not_well_formed_is_found() {
    assert_eq!(elements("<a b=\"&lt;>\"><c/>x &amp; y</a>\n")[0].text, "x & y");
    for malformed in [
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a>&</a>",
        "<a>&nbsp;</a>",
        "<a b=c/>",
        "<a b=\"<\"/>",
        "<a>\u{0}</a>",
        "<a b=\"1\" b=\"2\"/>",
        "<a/>text",
        "<a",
        "<a b=\"1\"c=\"2\"/>",
    ] {
        let read = std::panic::catch_unwind(|| elements(malformed));
        assert!(read.is_err(), "{malformed}");
    }
}

#[test]
fn the_files_agree_with_each_other_and_with_what_is_printed() {
    let training = run(&NAMES);
    let folder = training.path("reports/new");
    let plain = json(&stdout(&training.eval("run", &["--json"])));
    let output = training.eval("run", &["--report", &folder]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let (accuracy, loss) = (plain["accuracy"].as_f64().unwrap(), plain["loss"].as_f64().unwrap());
    let lines: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(
        lines[1..],
        [
            format!("test accuracy: {accuracy:.4}"),
            format!("test loss: {loss:.4}"),
            format!("report: {folder}/report.html"),
        ]
    );
    let mut found: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort_unstable();
    let mut expected = FILES.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let read = |name: &str| training.read(&format!("reports/new/{name}"));
    let report = json(&read("report.json"));
    // To the bit: asking for a report changes no number.
    assert_eq!((&report["accuracy"], &report["loss"]), (&plain["accuracy"], &plain["loss"]));
    assert_eq!((&report["model"], &report["data"]), (&plain["file"], &plain["data"]));
    assert_eq!((report["epoch"].as_u64(), report["images"].as_u64()), (Some(2), Some(12)));

    let rows = csv(&read("predictions.csv"));
    assert_eq!(
        rows[0][..6],
        ["image", "class", "name", "predicted", "predicted_name", "probability"]
    );
    assert_eq!(rows[0][6..], ["p0", "p1", "p2"]);
    let mut confusion = [[0; 3]; 3];
    let (mut losses, mut right) = (0.0, 0);
    for (image, row) in rows[1..].iter().enumerate() {
        let number = |at: usize| row[at].parse::<usize>().unwrap();
        let (class, predicted) = (number(1), number(3));
        assert_eq!((number(0), class), (image, image % 3));
        assert_eq!((row[2].as_str(), row[4].as_str()), (NAMES[class], NAMES[predicted]));
        let probabilities: Vec<f64> = row[6..].iter().map(|p| p.parse().unwrap()).collect();
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(probabilities.iter().all(|&other| other <= probabilities[predicted]));
        assert_eq!(row[5], row[6 + predicted]);
        confusion[class][predicted] += 1;
        losses -= probabilities[class].ln();
        right += usize::from(class == predicted);
    }
    assert_eq!(rows.len(), 13);
    assert_eq!(accuracy, right as f64 / 12.0);
    assert!((loss - losses / 12.0).abs() < 1e-6, "{loss} {losses}");
    assert_eq!(report["confusion"], serde_json::json!(confusion));
    let rows = csv(&read("confusion.csv"));
    assert_eq!(rows[0][1..], NAMES);
    for (class, row) in confusion.iter().enumerate() {
        assert_eq!(rows[class + 1][0], NAMES[class]);
        assert_eq!(rows[class + 1][1..], row.map(|count: usize| count.to_string()));
    }

    let rows = csv(&read("classes.csv"));
    for (class, name) in NAMES.iter().enumerate() {
        let [row, of_json] = [&rows[class + 1], &rows[class + 1]];
        assert_eq!((row[0].as_str(), row[1].as_str()), (&*class.to_string(), *name));
        let of_class = &report["classes"][class];
        for (at, score) in ["precision", "recall", "f1", "support"].iter().enumerate() {
            assert_eq!(of_json[at + 2].parse::<f64>().unwrap(), of_class[score].as_f64().unwrap());
        }
    }
    let names: Vec<&str> = rows[4..].iter().map(|row| row[1].as_str()).collect();
    assert_eq!(names, ["accuracy", "macro average", "weighted average"]);
    assert_eq!(rows[4][4].parse::<f64>().unwrap(), accuracy);
    let mistakes = report["mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len(), 12 - right);
    assert!(!mistakes.is_empty(), "the test needs mistakes");

    let page = elements(&read("report.html"));
    let text = said(&page);
    for expected in [format!("{accuracy:.4}"), format!("{loss:.4}"), "epoch".into(), "mps1".into()]
    {
        assert!(text.contains(&expected), "{expected}");
    }
    assert!(NAMES.iter().all(|name| text.contains(name)), "{text}");
    assert_eq!(page.iter().filter(|element| element.name == "img").count(), mistakes.len());
    assert_harmless(&page);
}

#[test]
fn a_report_replaces_an_earlier_one_and_nothing_else() {
    let training = run(&NAMES);
    let folder = training.path("report");
    fs::create_dir(&folder).unwrap();
    for (name, content) in
        [("report.json", "old"), ("notes.txt", "mine"), ("report.html.77.tmp", "")]
    {
        fs::write(training.path(&format!("report/{name}")), content).unwrap();
    }
    let output = training.eval("run", &["--json", "--report", &folder]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let line = json(&stdout(&output));
    assert_eq!(line["report"], folder.as_str());
    assert_eq!(line["accuracy"], json(&training.read("report/report.json"))["accuracy"]);
    assert_eq!(training.read("report/notes.txt"), "mine");
    assert_no_temporaries(Path::new(&folder));
    assert!(!stdout(&training.eval("run", &["--json"])).contains("\"report\""));
}

#[test]
fn a_folder_that_cannot_be_written_is_known_before_anything_is_computed() {
    let training = run(&NAMES);
    fs::write(training.path("file"), "mine").unwrap();
    fs::create_dir_all(training.path("taken/report.html")).unwrap();
    for (folder, named) in
        [("file", "file"), ("file/report", "file/report"), ("taken", "taken/report.html")]
    {
        let output = training.eval("run", &["--report", &training.path(folder)]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains(&training.path(named)), "{line}");
        assert!(!stderr(&output).contains("device: "), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    assert_eq!(training.read("file"), "mine");
    assert_eq!(fs::read_dir(training.path("taken")).unwrap().count(), 1);

    // No folder is left where there is nothing to report.
    let folder = training.path("none");
    let nowhere = training.path("nowhere");
    let run = training.path("run");
    let output = tnet(&["eval", &run, "--device", "cpu", "--data", &nowhere, "--report", &folder]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(!Path::new(&folder).exists());
}

#[test]
fn a_report_does_without_the_curves_of_a_run() {
    let training = run(&NAMES);
    let folder = training.path("report");
    let has_curves = || training.read("report/report.html").contains("Accuracy by epoch");
    let report = |model: &str| {
        let output = training.eval(model, &["--report", &folder]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stderr(&output)
    };
    report("run/last.safetensors");
    assert!(has_curves());
    fs::copy(training.path("run/last.safetensors"), training.path("alone.safetensors")).unwrap();
    assert!(!report("alone.safetensors").contains("curves"));
    assert!(!has_curves());
    fs::write(training.path("run/metrics.csv"), "epoch,loss\n").unwrap();
    let remark = report("run");
    assert!(remark.contains("metrics.csv: line 1") && remark.contains("no curves"), "{remark}");
    assert!(!has_curves());
}

/// A report on made-up answers, of as many classes and of images of this shape.
fn made_up(names: &[String], shape: [usize; 3]) -> HashMap<&'static str, Vec<u8>> {
    let (count, classes) = (300, names.len());
    let drawn = numbers(count * classes, 7);
    let labels: Vec<u8> = (0..count).map(|image| (image * 7 % classes) as u8).collect();
    let probabilities: Vec<Vec<f32>> = drawn
        .chunks(classes)
        .zip(&labels)
        .map(|(drawn, &label)| {
            let mut powers: Vec<f32> = drawn.iter().map(|number| (4.0 * number).exp()).collect();
            powers[usize::from(label)] *= 20.0;
            let sum: f32 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        })
        .collect();
    let predictions: Vec<Prediction> =
        probabilities.iter().map(|of_image| Prediction::of(of_image)).collect();
    let size: usize = shape.iter().product();
    let pixels = (0..count * size).map(|at| (at * 31 % 256) as u8).collect();
    let set = ImageSet { count, shape, pixels, labels };
    let classification = Classification::new(&set.labels, &predictions, classes).unwrap();
    assert!(classification.mistakes.len() > 5, "the test needs mistakes");
    let curve = |name: &str| Curve { name: name.into(), accuracy: vec![0.5, 0.7, 0.65] };
    let row = ParameterRow {
        layer: "dense1".into(),
        summary: "784 -> 10".into(),
        parameters: 7850,
        dense_parameters: 7850,
    };
    let files: Vec<PathBuf> =
        (0..count).map(|image| format!("data\nfolder/<{image}>,.png").into()).collect();
    let report = EvalReport {
        model: Path::new("runs/<b>&\"1\".safetensors"),
        epoch: Some(2),
        data: Path::new("data\nfolder"),
        own_data: Some(false),
        set: &set,
        files: &files,
        names,
        accuracy: classification.accuracy,
        loss: 0.5,
        predictions: &predictions,
        probabilities: &probabilities,
        classification,
        curves: Some([curve("train"), curve("test")]),
        parameters: vec![row],
    };
    FILES.into_iter().zip(report.files().unwrap()).collect()
}

#[test]
fn any_names_and_numbers_of_classes_give_well_formed_figures() {
    let odd = [
        "<&\">",
        "a,b",
        "\"q\"",
        "two\nlines",
        "تجربة",
        "猫🐈",
        "\u{202e}turned",
        "x\u{ffff}\u{0}",
    ];
    for (classes, shape) in
        [(2, [1, 28, 28]), (9, [3, 32, 32]), (31, [1, 8, 8]), (256, [3, 4, 300])]
    {
        let names: Vec<String> = (0..classes)
            .map(|class| match odd.get(class) {
                Some(name) => (*name).to_owned(),
                None => format!("{class} {}", "a long name ".repeat(class % 12)),
            })
            .collect();
        let files = made_up(&names, shape);
        let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
        for name in ["confusion.svg", "classes.svg", "reliability.svg", "report.html"] {
            let parsed = elements(&text(name));
            assert_harmless(&parsed);
            let root = if name == "report.html" { "html" } else { "svg" };
            assert_eq!(parsed[0].name, root);
            assert_eq!(parsed[0].attributes.contains_key("xmlns"), root == "svg");
            let is_dark = |element: &Element| element.text.contains("prefers-color-scheme:dark");
            assert!(parsed.iter().any(|element| element.name == "style" && is_dark(element)));
            for number in parsed.iter().flat_map(|element| element.attributes.values()) {
                assert!(!number.contains("NaN") && !number.contains("inf"), "{name}: {number}");
            }
        }
        let page = text("report.html");
        assert!(!page.contains('\u{202e}') && !page.contains("http:") && !page.contains("https:"));
        let said = said(&elements(&page));
        assert!(said.contains("runs/<b>&\"1\".safetensors") && said.contains("data\\nfolder"));
        assert!(odd.iter().take(classes.min(3)).all(|name| said.contains(name)), "{classes}");
        // What a figure has of a class that has a line break in its name is on one line.
        assert_eq!(said.contains("two\\nlines"), classes > 3);
        let rows = csv(&text("predictions.csv"));
        assert_eq!((rows.len(), rows[0].len()), (301, 6 + classes + 1));
        assert!(rows[1..].iter().all(|row| row[2] == names[row[1].parse::<usize>().unwrap()]));
        let rows = csv(&text("confusion.csv"));
        assert_eq!(rows[0][1..], names);

        // Counts stand in the cells of few classes, and nothing is named twice as many times as there is room.
        let matrix = elements(&text("confusion.svg"));
        let texts = matrix.iter().filter(|element| element.name == "text").count();
        let cells = matrix.iter().filter(|element| element.attributes.contains_key("fill-opacity"));
        let cells = cells.count();
        match classes {
            ..=30 => assert_eq!(texts, 2 + 2 * classes + cells + 2),
            31 => assert_eq!(texts, 2 + 2 * 16 + 2),
            _ => assert_eq!(texts, 2 + 2 * 43 + 2),
        }
        assert!(text("confusion.svg").len() < 200_000);
    }
}
