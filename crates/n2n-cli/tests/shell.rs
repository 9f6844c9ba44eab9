//! What the program makes for a shell and for `man`.

use std::fs;

use assert_cmd::Command;
use predicates::str::contains;

fn n2n(args: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_n2n")).args(args).assert()
}

#[test]
fn completions_know_the_commands_and_their_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        n2n(&["completions", shell])
            .success()
            .stdout(contains("predict"))
            .stdout(contains("save-dir"));
    }
    n2n(&["completions", "cmd"]).code(2);
}

/// bash itself, where there is one, is asked for what it would complete.
#[cfg(unix)]
#[test]
fn bash_completes_a_flag() {
    let script = n2n(&["completions", "bash"]).success();
    let script = String::from_utf8(script.get_output().stdout.clone()).unwrap();
    let ask = "COMP_WORDS=(n2n train --time-b); COMP_CWORD=2; _n2n n2n --time-b train; \
               echo ${COMPREPLY[@]}";
    let bash = std::process::Command::new("bash")
        .args(["-c", &format!("{script}\n{ask}")])
        .output();
    if let Ok(output) = bash {
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "--time-budget", "{output:?}");
    }
}

#[test]
fn each_command_has_a_manual_page_with_its_flags() {
    n2n(&["man"])
        .success()
        .stdout(contains(".TH n2n 1"))
        .stdout(contains("predict"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    n2n(&["man", "--save-dir", path]).success();
    for (command, flag) in [
        ("predict", "strength"),
        ("train", "data\\-dir"),
        ("val", "threads"),
    ] {
        let page = fs::read_to_string(folder.path().join(format!("n2n-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH n2n-{command} 1")), "{page}");
        assert!(page.contains(flag), "{command}: {flag}");
    }
    assert!(folder.path().join("n2n.1").exists());
}
