//! The command line as a whole: which options are refused, before anything is done.

use std::path::Path;

use crate::common::executable::{Training, code, stderr};

#[test]
fn wrong_usage_exits_with_2() {
    let training = Training::new();
    for (arguments, named) in [
        (["--bond", "0"], "--bond"),
        (["--epochs", "0"], "--epochs"),
        (["--batch-size", "0"], "--batch-size"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--out-factors", "32"], "--out-factors"),
        (["--in-factors", "7,7"], "--in-factors"),
        (["--model", "cnn"], "--model"),
        (["--device", "cuda"], "--device"),
        (["--train-images", "0"], "--train-images"),
        (["--train-images", "61"], "--train-images"),
        (["--validation", "60"], "--validation"),
    ] {
        let output = training.run(&arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
        assert!(!Path::new(&training.path("run")).exists(), "{arguments:?} left a run folder");
    }
}
