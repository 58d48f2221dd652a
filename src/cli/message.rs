//! What the user reads when a command fails: the library's one line, with its fields and parameters
//! named as options and, where an option helps, what to type.

use super::paths::quoted;
use super::threads;
use crate::Error;

/// The line that is printed for an error, without a line break.
pub fn message(error: &Error) -> String {
    let text = match error {
        Error::Argument { name, problem } => format!("{}: {problem}", option(name)),
        // "device vulkan:1: …" becomes the option as it is typed.
        Error::Device { .. } => format!("--{error}"),
        _ => error.to_string(),
    };
    match hint(error) {
        None => text,
        Some(hint) => format!("{text}; {hint}"),
    }
}

/// What to do about an error, where an option or another command helps.
fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::DataNotFound { .. } => "install Debian's package dataset-fashion-mnist, or name a \
             folder that holds the four files with --data DIR"
            .into(),
        Error::Images { .. } => "they are named above; mend or remove them".into(),
        Error::RunData(_) => "name the folder that it is in with --data DIR".into(),
        Error::OtherData { .. } => {
            "name that one with --data DIR, or this one to measure on it".into()
        }
        Error::TooLarge { .. } => "use --device cpu".into(),
        Error::Memory { .. } => "choose a smaller network or batch".into(),
        Error::NotFinite { .. } => "try a smaller --lr".into(),
        Error::Occupied { holds_run: true, .. } => {
            "resume it with --resume, replace it with --exist-ok, or name another with --out".into()
        }
        Error::Occupied { holds_run: false, .. } | Error::NotEmpty { .. } => {
            "name another with --out".into()
        }
        Error::Exists { .. } => "replace it with --exist-ok, or name another with --out".into(),
        Error::Interrupted { run: Some(run), .. } => {
            format!("resume with: tnet-gpu train --resume {}", quoted(run))
        }
        Error::Device { .. } | Error::Compute { .. } if threads::are_short() => {
            "it may be for want of threads: raise the limit, or use --device cpu".into()
        }
        _ => return None,
    })
}

/// The option that sets a field or parameter; an environment variable keeps its name.
fn option(name: &str) -> String {
    if name.contains(char::is_uppercase) {
        return name.to_owned();
    }
    format!("--{}", name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::mps::MpsSpec;

    #[test]
    fn fields_are_named_as_options() {
        let error = MpsSpec::new([28, 28], [0, 16], 1).unwrap_err();
        assert!(message(&error).starts_with("--out-factors: 0,16: "), "{}", message(&error));
        let error = Error::argument("TNET_STRATEGY", "'fastest'");
        assert_eq!(message(&error), "TNET_STRATEGY: 'fastest'");
        let error = Error::Device {
            requested: "vulkan:9".into(),
            problem: "none".into(),
            available: "cpu".into(),
        };
        assert_eq!(message(&error), "--device vulkan:9: none; this machine has: cpu");
    }

    /// The library's text names no option; the line that the user reads does.
    #[test]
    fn what_to_type_is_added_to_the_same_line() {
        let run = PathBuf::from("runs/mps-bond1-1");
        let looked = vec![PathBuf::from("cache")];
        for (error, hint) in [
            (Error::DataNotFound { looked, download: "no network".into() }, "--data DIR"),
            (
                Error::TooLarge { what: "x".into(), bytes: 2, limit: 1, device: "vulkan:0".into() },
                "--device cpu",
            ),
            (
                Error::NotFinite {
                    what: "the loss is NaN".into(),
                    epoch: 1,
                    step: 2,
                    run: run.clone(),
                },
                "--lr",
            ),
            (Error::Occupied { folder: run.clone(), holds_run: true }, "--exist-ok"),
            (Error::Occupied { folder: run.clone(), holds_run: false }, "--out"),
            (Error::NotEmpty { folder: run.clone() }, "--out"),
            (
                Error::Interrupted { signal: 2, run: Some(run) },
                "; resume with: tnet-gpu train --resume runs/mps-bond1-1",
            ),
        ] {
            assert!(!error.to_string().contains("--"), "{error}");
            let line = message(&error);
            assert!(line.starts_with(&error.to_string()), "{line}");
            assert!(line.contains(hint), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
