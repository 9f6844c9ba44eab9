//! Ctrl-C and SIGTERM.

use super::*;

/// Ends the process as Ctrl-C does.
#[cfg(unix)]
fn interrupt(child: &mut std::process::Child) {
    let kill = Process::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_half_done() {
    let folder = workplace();
    fs::create_dir(folder.path().join("in")).unwrap();
    for i in 0..3 {
        picture(700, 700)
            .write(&folder.path().join(format!("in/{i}.tif")))
            .unwrap();
    }
    let mut child = Process::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .args([
            "predict",
            "in",
            "--model-path=gauss5_50",
            "--tile=64",
            "--ensemble",
            "--quiet",
            "--json=report.json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = folder.path().join("output");
    wait_for_result(&out, 0);
    interrupt(&mut child);
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        names(&out).iter().all(|name| !name.contains("partial")),
        "{:?}",
        names(&out)
    );
    for line in said.lines() {
        Image::read(&folder.path().join(line)).unwrap();
    }
    let report = fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert!(report.contains("\"interrupted\": true"), "{report}");
    assert!(report.contains("\"images\": 3"), "{report}");
    assert_eq!(
        report.matches("\"seconds\"").count(),
        said.lines().count(),
        "{report}"
    );
}

/// The report has a reader that never comes.
#[cfg(unix)]
#[test]
fn an_interrupt_does_not_wait_for_whoever_reads_the_report() {
    let folder = workplace();
    picture(700, 700)
        .write(&folder.path().join("big.tif"))
        .unwrap();
    let made = Process::new("mkfifo")
        .current_dir(&folder)
        .arg("report")
        .status();
    assert!(made.unwrap().success());
    let mut child = Process::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .args(["predict", "big.tif", "--model-path=gauss5_50", "--tile=64"])
        .args(["--ensemble", "--quiet", "--json=report"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let out = folder.path().join("output");
    wait_for_result(&out, 0);
    interrupt(&mut child);
    assert!(names(&out).is_empty(), "{:?}", names(&out));
}
