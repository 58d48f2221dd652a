//! A grid of runs: what it writes, and that nothing of it is lost or done twice.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::common::data::{files, write_files};
use crate::common::executable::{
    Training, assert_no_temporaries, code, command, error_line, in_shell, metrics, stderr, stdout,
};
use crate::common::markup::elements;
#[cfg(unix)]
use crate::common::running::Running;

/// Two networks with two seeds each, on 60 images.
const GRID: [&str; 13] = [
    "--model",
    "mps-all",
    "--hidden",
    "16,16",
    "--bond",
    "1,2",
    "--seeds",
    "2",
    "--batch-size",
    "8",
    "--epochs",
    "3",
    "--json",
];

const HEADER: &str = "network,bond,factors,seed,parameters,first_layer_parameters,multiply_adds,validation_accuracy,\
                      test_accuracy,seconds,step_us,latency_us,recipe,epoch,error";

/// A sweep into a folder, on the CPU.
fn sweep(training: &Training, out: &str, more: &[&str]) -> Command {
    let (data, out) = (training.path("data"), training.path(out));
    command(&[&["sweep", "--data", &data, "--device", "cpu", "--out", &out], more].concat())
}

fn run(training: &Training, out: &str, more: &[&str]) -> Output {
    sweep(training, out, more).output().unwrap()
}

#[track_caller]
fn succeed(output: &Output) {
    assert_eq!(code(output), 0, "{}", stderr(output));
}

/// The fields of `results.csv`, none of which is quoted here.
fn rows(training: &Training, out: &str) -> Vec<Vec<String>> {
    let text = training.read(&format!("{out}/results.csv"));
    assert_eq!(text.lines().next(), Some(HEADER));
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// The same without the three columns of times.
fn without_times(training: &Training, out: &str) -> Vec<Vec<String>> {
    let mut rows = rows(training, out);
    rows.iter_mut().for_each(|row| drop(row.drain(9..12)));
    rows
}

#[test]
fn a_grid_is_trained_and_told() {
    let training = Training::new();
    let output = run(&training, "study", &GRID);
    succeed(&output);
    let rows = rows(&training, "study");
    let named: Vec<String> = rows.iter().map(|row| row[..4].join(" ")).collect();
    assert_eq!(
        named,
        [
            "mps-all 1 4x4 4x4 200",
            "mps-all 1 4x4 4x4 201",
            "mps-all 2 4x4 4x4 200",
            "mps-all 2 4x4 4x4 201"
        ]
    );
    for (row, bond) in rows.iter().zip([1, 1, 2, 2]) {
        // Cores of 4 x 8 and 8 x 4, then 4 x 4 twice, biases of 16; 16 x 3 + 3.
        let (first, second) = (bond * 64 + 16, bond * 32 + 16);
        assert_eq!(row[4..6], [(first + second + 51).to_string(), first.to_string()]);
        let folder =
            training.path(&format!("study/runs/mps-all-bond{bond}-4x4-4x4-seed{}", row[3]));
        assert_no_temporaries(Path::new(&folder));
        // The row tells of the epoch that was chosen.
        let history = metrics(&fs::read_to_string(format!("{folder}/metrics.csv")).unwrap());
        assert_eq!(history.len(), 3);
        let epoch: usize = row[13].parse().unwrap();
        let [validation, test, seconds, step, latency] =
            [7, 8, 9, 10, 11].map(|at: usize| row[at].parse::<f64>().unwrap());
        assert_eq!(history[epoch - 1][4], test);
        assert!((0.0..=1.0).contains(&validation) && latency > 0.0);
        // 55 images in batches of 8, three times; times are rounded.
        let total: f64 = history.iter().map(|epoch| epoch[5]).sum();
        assert!((total - seconds).abs() < 1e-9, "{total} {seconds}");
        // Each of the three is off by up to half a millisecond.
        let steps = 165.0 / 8.0;
        assert!((step * 1e-6 * steps - seconds).abs() < 4e-3, "{step} {seconds}");
    }
    // The report, the figure and the JSON object say the same.
    let report = training.read("study/report.md");
    let line: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["runs"].as_array().unwrap().len(), 4);
    let networks = line["networks"].as_array().unwrap();
    assert_eq!((networks.len(), line["missing"].as_u64()), (2, Some(0)));
    for (network, rows) in networks.iter().zip(rows.chunks(2)) {
        let accuracies = rows.iter().map(|row| row[8].parse::<f64>().unwrap());
        let mean = accuracies.sum::<f64>() / 2.0;
        let told = network["test_accuracy"]["mean"].as_f64().unwrap();
        assert!((told - mean).abs() < 1e-6, "{told} {mean}");
        assert!(report.contains(&format!("| {told:.4} ± ")), "{report}");
    }
    let taken = line["taken"]["bond"].as_str().unwrap();
    assert!(report.contains(&format!("Take mps-all, bond {taken}")), "{report}");
    let figure = training.read("study/front.svg");
    assert!(elements(&figure).len() > 20);
    assert!(figure.contains("mps-all, bond"));

    // A budget leaves the smaller one; nothing is trained again.
    let before = training.read("study/results.csv");
    let budget = rows[0][4].parse::<usize>().unwrap();
    let output = run(&training, "study", &["--budget", &budget.to_string()]);
    succeed(&output);
    assert!(stderr(&output).contains("4 runs, 4 of them over"), "{}", stderr(&output));
    assert!(stdout(&output).contains("Take mps-all, bond 1"), "{}", stdout(&output));
    assert!(stdout(&output).contains(&format!("with at most {budget} parameters")));
    assert_eq!(before, training.read("study/results.csv"));
}

/// More bonds and seeds are added to what there is; other options are refused.
#[test]
fn a_study_grows_but_does_not_change() {
    let training = Training::new();
    succeed(&run(&training, "study", &GRID));
    let first = rows(&training, "study");
    let mut more = GRID;
    (more[5], more[7]) = ("1,2,3", "3");
    let output = run(&training, "study", &more);
    succeed(&output);
    assert!(stderr(&output).contains("9 runs, 4 of them over"), "{}", stderr(&output));
    let grown = rows(&training, "study");
    assert_eq!(grown.len(), 9);
    for row in &first {
        assert!(grown.contains(row), "{row:?} was measured again");
    }
    let mut other = GRID;
    other[11] = "4";
    let output = run(&training, "study", &other);
    assert_eq!(code(&output), 1);
    assert!(
        error_line(&output).contains("other options than this study has"),
        "{}",
        stderr(&output)
    );
    // So are other images, or fewer.
    let output = run(&training, "study", &["--train-images", "50"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let mut files = files();
    *files.get_mut("t10k-images-idx3-ubyte").unwrap().last_mut().unwrap() ^= 1;
    write_files(Path::new(&training.path("other")), &files);
    let (data, out) = (training.path("other"), training.path("study"));
    let output = command(&["sweep", "--data", &data, "--device", "cpu", "--out", &out]).output();
    let output = output.unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(error_line(&output).contains("on other images"), "{}", stderr(&output));
    assert_eq!(grown, rows(&training, "study"));
    // Nothing is gathered where there is no study.
    let output = run(&training, "stduy", &["--collect"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(error_line(&output).contains("stduy: it holds no study"), "{}", stderr(&output));
    assert!(!Path::new(&training.path("stduy")).exists());
}

#[test]
fn a_study_is_a_file_and_a_run_that_fails_a_row() {
    let training = Training::new();
    let stack = "input = [1, 8, 8]\n[[layers]]\nkind = \"mps\"\nin = [8, 8]\nout = [4, 2]\nbond = 1\n\
                 [[layers]]\nkind = \"dense\"\nout = 3\n";
    fs::create_dir(training.path("studies")).unwrap();
    fs::write(training.path("studies/my net.toml"), stack).unwrap();
    let study = "seeds = [7]\nbudget = 5000\n\
                 [[recipes]]\nname = \"good\"\nepochs = 2\nbatch_size = 16\n\
                 [[recipes]]\nname = \"wild\"\nepochs = 2\nbatch_size = 16\nlr = 1e38\n\
                 [[networks]]\nfile = \"my net.toml\"\nbond = [2]\n\
                 [[networks]]\nmodel = \"dense\"\nhidden = [8]\n";
    fs::write(training.path("studies/study.toml"), study).unwrap();
    let file = training.path("studies/study.toml");
    let output = run(&training, "study", &[&file]);
    succeed(&output);
    let table = rows(&training, "study");
    let named: Vec<[&str; 4]> =
        table.iter().map(|row| [0, 1, 12, 3].map(|at: usize| &row[at][..])).collect();
    assert_eq!(
        named,
        [
            ["my net", "2", "good", "7"],
            ["my net", "2", "wild", "7"],
            ["dense", "", "good", "7"],
            ["dense", "", "wild", "7"]
        ]
    );
    assert!(table[1][14].contains("NaN") || table[1][14].contains("inf"), "{:?}", table[1]);
    assert_eq!((&table[1][8][..], &table[0][14][..]), ("", ""));
    assert!(stderr(&output).contains("2 of 4 runs failed"), "{}", stderr(&output));
    assert!(training.read("study/report.md").contains("Failed runs:"));
    // It would fail again, and is not tried.
    let output = run(&training, "study", &[]);
    succeed(&output);
    assert!(stderr(&output).contains("4 runs, 4 of them over"), "{}", stderr(&output));

    // What is wrong is told before anything is trained.
    for (text, expected) in [
        (study.replace("epochs = 2\nb", "epoch = 2\nb"), "epoch"),
        (study.replace("my net.toml", "none.toml"), "none.toml"),
        (study.replace("hidden = [8]", "hidden = [8]\ndropout = 1.5"), "dropout"),
        (study.replace("[[networks]]\nm", "[[nets]]\nm"), "nets"),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(&training, "other", &[&file]);
        assert_ne!(code(&output), 0, "{expected}");
        assert!(error_line(&output).contains(expected), "{}", stderr(&output));
        assert!(!Path::new(&training.path("other")).exists());
    }
    fs::write(&file, study).unwrap();
    let output = run(&training, "other", &[&file, "--bond", "3"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(error_line(&output).contains("--bond: "), "{}", stderr(&output));
}

/// Killed again and again, it ends with the results of one that was not.
#[cfg(unix)]
#[test]
fn a_killed_sweep_goes_on() {
    const KILLS: usize = 20;
    let training = Training::new();
    let mut grid = GRID;
    // Enough to do for all these processes.
    (grid[7], grid[11]) = ("3", "40");
    let mut random = ChaCha8Rng::seed_from_u64(18);
    let checkpoints = || {
        let runs = fs::read_dir(training.path("killed/runs")).into_iter().flatten();
        runs.filter(|run| run.as_ref().unwrap().path().join("last.safetensors").is_file()).count()
    };
    let mut kills = 0;
    let is_over = || {
        let runs = fs::read_dir(training.path("killed/runs")).into_iter().flatten();
        runs.filter(|run| run.as_ref().unwrap().path().join("result.json").is_file()).count() == 6
    };
    while kills < KILLS {
        let before = checkpoints();
        let mut running = Running::quiet(sweep(&training, "killed", &grid));
        // At first while it starts; later it has to get on.
        if kills % 3 == 2 && before < 6 {
            running.wait_for("another run", || checkpoints() > before || is_over());
        }
        std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 60_000)));
        running.kill();
        kills += 1;
    }
    succeed(&run(&training, "killed", &grid));
    succeed(&run(&training, "straight", &grid));
    assert_eq!(without_times(&training, "killed"), without_times(&training, "straight"));
    for run in fs::read_dir(training.path("straight/runs")).unwrap() {
        let (straight, name) = (run.as_ref().unwrap().path(), run.as_ref().unwrap().file_name());
        let killed = Path::new(&training.path("killed/runs")).join(name);
        assert_no_temporaries(&killed);
        let [one, other] =
            [straight, killed].map(|run| fs::read(run.join("last.safetensors")).unwrap());
        assert!(one == other, "{run:?}");
    }
}

/// Asked to stop, it tells how to go on, and does inside the run that it was in.
#[cfg(unix)]
#[test]
fn an_interrupted_sweep_says_how_it_goes_on() {
    let training = Training::new();
    let mut grid = GRID;
    grid[11] = "100000";
    let mut running = Running::start(sweep(&training, "study", &grid));
    let first = training.path("study/runs/mps-all-bond1-4x4-4x4-seed200/curves.svg");
    running.wait_for("epoch", || Path::new(&first).exists());
    let output = running.interrupt("INT");
    assert_eq!(code(&output), 130, "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains(&format!("go on with: tnet-gpu sweep --out {}", training.path("study"))),
        "{text}"
    );
    let plan = run(&training, "study", &["--plan"]);
    succeed(&plan);
    assert!(stdout(&plan).starts_with("tnet-gpu train --resume "), "{}", stdout(&plan));
    assert_eq!(stdout(&plan).lines().count(), 4);
}

/// The commands of a plan, run by a shell, are the runs of the sweep; gathered, they have its results.
#[test]
fn a_plan_is_commands_for_the_same_runs() {
    let training = Training::new();
    let recipe = [
        "--lr",
        "0.0025",
        "--schedule",
        "cosine",
        "--warmup",
        "0.5",
        "--weight-decay",
        "0.1",
        "--label-smoothing",
        "0.1",
        "--average=0.9",
        "--patience",
        "2",
        "--validation",
        "9",
        "--init",
        "glorot",
        "--dropout",
        "0.1",
    ];
    let options = [&GRID[..12], &recipe].concat();
    succeed(&run(&training, "straight", &options));
    let plan = run(&training, "study", &[&options[..], &["--plan"]].concat());
    succeed(&plan);
    let plan = stdout(&plan);
    assert_eq!(plan.lines().count(), 4, "{plan}");
    let home = training.folder.path();
    for line in plan.lines().take(3) {
        let output = in_shell("sh", &["-c", line], home).output().unwrap();
        succeed(&output);
    }
    let gathered = run(&training, "study", &["--collect"]);
    succeed(&gathered);
    assert!(stderr(&gathered).contains("1 of 4 runs are not over"), "{}", stderr(&gathered));
    let all = without_times(&training, "straight");
    assert_eq!(without_times(&training, "study"), all[..3]);
    // What is left is the last of them, and without it nothing.
    let rest = stdout(&run(&training, "study", &["--plan"]));
    assert_eq!(rest.lines().collect::<Vec<_>>(), [plan.lines().last().unwrap()]);
    succeed(&in_shell("sh", &["-c", rest.trim()], home).output().unwrap());
    succeed(&run(&training, "study", &["--collect"]));
    assert_eq!(without_times(&training, "study"), all);
    assert_eq!(stdout(&run(&training, "study", &["--plan"])), "");
}

/// Parts are trained beside each other, two processes by chance the same one, and each run once.
#[test]
fn parts_make_the_whole() {
    let training = Training::new();
    succeed(&run(&training, "straight", &GRID));
    let parts = ["1/3", "2/3", "3/3", "3/3"].map(|part| {
        sweep(&training, "study", &[&GRID[..], &["--shard", part]].concat()).spawn().unwrap()
    });
    for mut part in parts {
        assert!(part.wait().unwrap().success());
    }
    assert!(!Path::new(&training.path("study/results.csv")).exists());
    // Of two processes that took the same part, one may have found its run taken and left it to the other.
    let output = run(&training, "study", &["--collect"]);
    succeed(&output);
    assert_eq!(without_times(&training, "study"), without_times(&training, "straight"));
    for run in fs::read_dir(training.path("study/runs")).unwrap() {
        let log = fs::read_to_string(run.unwrap().path().join("log.txt")).unwrap();
        assert_eq!(log.matches(" epoch metrics=").count(), 3, "{log}");
    }
    // A task of a Slurm job array is a part.
    let mut task = sweep(&training, "array", &GRID);
    for (variable, number) in [("ID", "2"), ("COUNT", "4"), ("MIN", "1"), ("STEP", "1")] {
        task.env(format!("SLURM_ARRAY_TASK_{variable}"), number);
    }
    let output = task.output().unwrap();
    succeed(&output);
    assert!(
        stdout(&output).contains("part 2/4 is done; gather all with: tnet-gpu sweep --collect")
    );
    let trained = fs::read_dir(training.path("array/runs")).unwrap();
    let names: Vec<_> = trained.map(|run| run.unwrap().file_name()).collect();
    assert_eq!(names, ["mps-all-bond1-4x4-4x4-seed201"]);
}

/// Factors are proposed by operations and balance.
#[test]
fn factors_are_proposed() {
    let training = Training::new();
    let options =
        ["--hidden", "16,8", "--factors", "auto", "--bond", "1", "--seeds", "1", "--epochs", "1"];
    succeed(&run(&training, "study", &options));
    let rows = rows(&training, "study");
    let factors: Vec<&str> = rows.iter().map(|row| &row[2][..]).collect();
    // 16 x 1 is out of balance.
    assert_eq!(factors.len(), 3, "{factors:?}");
    assert!(["4x4", "8x2", "2x8"].iter().all(|pair| factors.contains(pair)), "{factors:?}");
    let work: Vec<usize> = rows.iter().map(|row| row[6].parse().unwrap()).collect();
    assert!(work.is_sorted(), "{work:?}");
}
