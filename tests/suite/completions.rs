//! What shells complete with the scripts of `tnet-gpu completions`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Output;

use tempfile::{TempDir, tempdir};

use crate::common::executable::{code, in_shell, stderr, stdout, tnet};
use crate::common::required;

/// What is typed before a tab, and the words that are offered or, by zsh, filled in.
const LINES: [(&str, &str); 6] = [
    ("tnet-gpu verif", "verify"),
    ("tnet-gpu compress --finet", "--finetune"),
    ("tnet-gpu train --model mps-", "mps-all"),
    ("tnet-gpu train --device vul", "vulkan"),
    ("tnet-gpu train --network my", "my net.toml"),
    ("tnet-gpu completions el", "elvish"),
];

/// A home folder with a file to complete.
fn home() -> TempDir {
    let home = tempdir().unwrap();
    fs::write(home.path().join("my net.toml"), "").unwrap();
    home
}

/// What the shell answers; nothing where it is not installed.
fn shell(program: &str, arguments: &[&str], home: &Path) -> Option<Output> {
    match in_shell(program, arguments, home).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(!required(&format!("TNET_REQUIRE_{}", program.to_uppercase())), "no {program}");
            eprintln!("SKIPPED, {program} WAS NOT TESTED: it is not installed");
            None
        }
        output => Some(output.unwrap()),
    }
}

#[test]
fn every_shell_has_a_script() {
    let [options, values] = [["compress", "finetune"], ["mps-all", "vulkan"]];
    let all = [&options[..], &values].concat();
    // The scripts for the last two complete no values.
    for (shell, words) in [
        ("bash", &all[..]),
        ("zsh", &all),
        ("fish", &all),
        ("powershell", &options),
        ("elvish", &options),
    ] {
        let output = tnet(&["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}: {}", stderr(&output));
        for word in words {
            assert!(stdout(&output).contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(code(&tnet(&["completions", "ksh"])), 2);
}

/// Calls what the script has registered, with what bash itself passes. Only the builtin `compopt` refuses to work there,
/// since it belongs to a line that is being typed.
#[test]
fn bash_completes() {
    let ask = r#"
        source <(tnet-gpu completions bash)
        compopt() { :; }
        [[ $(complete -p tnet-gpu) =~ -F\ ([^ ]+) ]] || exit 1
        complete=${BASH_REMATCH[1]}
        for line; do
            COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            "$complete" tnet-gpu "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            (IFS=,; echo "${COMPREPLY[*]}")
        done
    "#;
    let home = home();
    // A number is taken as it is, and no file is offered for it.
    let others =
        [("tnet-gpu comp", "compare,compress,completions"), ("tnet-gpu train --seed 2", "2")];
    let lines = [&LINES[..], &others].concat();
    let mut arguments = vec!["--norc", "-c", ask, "bash"];
    arguments.extend(lines.iter().map(|(line, _)| line));
    let Some(output) = shell("bash", &arguments, home.path()) else { return };
    let expected: Vec<_> = lines.iter().map(|(_, words)| *words).collect();
    assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), expected, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

/// Types the lines into a zsh on a terminal of its own. A function in place of the program writes down what it is called
/// with after the tab.
#[test]
fn zsh_completes() {
    // The script as one of the functions that compinit finds, and as one that is sourced after it.
    for load in [
        "fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D",
        "autoload -U compinit; compinit -u -D; source <(command tnet-gpu completions zsh)",
    ] {
        let home = home();
        let functions = home.path().join("functions");
        fs::create_dir(&functions).unwrap();
        fs::write(functions.join("_tnet-gpu"), tnet(&["completions", "zsh"]).stdout).unwrap();
        // The prompt is not what is typed to set it.
        let setup = format!(
            "{load}\n[[ $_comps[tnet-gpu] == _tnet-gpu ]] && print registered > calls\n\
             tnet-gpu() {{ print -r -- ${{@[-1]}} >> calls }}\nPS1=$'\\x52EADY> '\n"
        );
        fs::write(home.path().join("setup"), setup).unwrap();
        let ask = r#"
            zmodload zsh/zpty
            zpty -b z zsh -f -i
            # What is typed before a prompt is not completed. Ten minutes end a hang.
            naps=0
            prompt() {
                seen=
                until [[ $seen == *'READY> '* ]] {
                    zpty -rt z part && seen+=$part || sleep 0.01
                    (( ++naps < 60000 )) || exit 1
                }
            }
            zpty -w z 'source ./setup'
            prompt
            for line; do zpty -w z $line$'\t'; prompt; done
            zpty -d z
        "#;
        let mut arguments = vec!["-f", "-c", ask, "zsh"];
        arguments.extend(LINES.iter().map(|(line, _)| line));
        let Some(output) = shell("zsh", &arguments, home.path()) else { return };
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("", ""), "{load}");
        let calls = fs::read_to_string(home.path().join("calls")).unwrap();
        let expected = ["registered"].into_iter().chain(LINES.map(|(_, word)| word));
        assert_eq!(calls.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{load}");
    }
}
