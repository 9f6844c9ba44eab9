//! Standard input and pipes.

use super::*;

#[test]
fn standard_input_becomes_standard_output() {
    let folder = workplace();
    let noisy = fs::read(folder.path().join("a.png")).unwrap();
    let output = command(&folder, &["predict", "-", "--strength=0", "--format=tiff"])
        .write_stdin(noisy)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let mut reader = Reader::from_bytes(Path::new("-"), output, Limits::default()).unwrap();
    let page = reader.next_page().unwrap().unwrap();
    let mut rows = vec![];
    reader.read_rows(page.height, &mut rows).unwrap();
    assert_eq!(rows, picture(20, 30).data);
    // A limit beyond the largest `u64`.
    let most = ["predict", "-", "--strength=0", "--max-memory=100000000TB"];
    let image = fs::read(folder.path().join("a.png")).unwrap();
    (command(&folder, &most).write_stdin(image).assert()).success();
    for (args, hint) in [
        (&["predict", "-", "a.png"][..], "cannot be combined"),
        (&["predict", "-", "--residual"], "cannot be combined"),
    ] {
        n2n(&folder, args).code(1).stdout("").stderr(contains(hint));
    }
    command(&folder, &["predict", "-"])
        .write_stdin("words")
        .assert()
        .code(1)
        .stderr(contains("error: -: not a readable image"));
}

/// Runs that would wait forever end in an error of the harness.
#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_a_stream_or_refused_at_once() {
    let folder = workplace();
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    };
    let path = pipe("pipe");
    let bytes = fs::read(folder.path().join("a.png")).unwrap();
    let writer = std::thread::spawn(move || fs::write(path, bytes).unwrap());
    command(&folder, &["predict", "pipe", "a.png", "--strength=0"])
        .timeout(Duration::from_mins(1))
        .assert()
        .success()
        .stdout("./output/pipe_denoise.png\n./output/a_denoise.png\n");
    writer.join().unwrap();
    let made = Image::read(&folder.path().join("output/pipe_denoise.png")).unwrap();
    assert_eq!(made, Image::read(&folder.path().join("a.png")).unwrap());

    // Nobody writes to this one.
    pipe("images.png");
    for args in [
        &["corrupt", "images.png", "-o", "noisy.png"][..],
        &["infer", "--input_file=images.png", "--model_file=gauss25"],
    ] {
        command(&folder, args)
            .timeout(Duration::from_mins(1))
            .assert()
            .code(1)
            .stderr(contains("images.png").and(contains("found a pipe or a device")));
    }
}
