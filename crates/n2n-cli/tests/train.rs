//! `n2n train` from the outside: what it prints, writes and refuses.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use n2n::image::{Depth, Image};
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `images/` (five of 80×80) and `validation/BSD300/test/` (two of 40×36).
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for k in 0..5 {
        let path = folder.path().join(format!("images/{k}.png"));
        write_image(&path, 80, 80, k);
    }
    for k in 0..2 {
        let path = folder
            .path()
            .join(format!("validation/BSD300/test/{k}.png"));
        write_image(&path, 40, 36, k);
    }
    folder
}

fn write_image(path: &Path, height: usize, width: usize, k: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let value = |i: usize| ((i * i / 31 + 40 * k) % 256) as f32 / 255.0;
    let image = Image {
        height,
        width,
        channels: 3,
        data: (0..height * width * 3).map(value).collect(),
        depth: Depth::U8,
    };
    image.write(path).unwrap();
}

/// The command for a tiny network and two epochs of two steps; `flags` take the place of those of
/// the same name.
fn train(folder: &TempDir, flags: &[&str]) -> Command {
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let defaults = [
        "--data-dir=images",
        "--log-name=run",
        "--n-feature=2",
        "--patchsize=64",
        "--batchsize=2",
        "--n-epoch=2",
        "--log-iters=2",
    ];
    let kept = defaults
        .iter()
        .filter(|default| !flags.iter().any(|flag| name(flag) == name(default)));
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(folder)
        .arg("train")
        .args(kept)
        .args(flags);
    command
}

fn read(folder: &TempDir, path: &str) -> String {
    fs::read_to_string(folder.path().join(path)).unwrap()
}

/// The line with `#` for losses of six decimals and times of four.
fn without_measurements(line: &str) -> String {
    let is_measured = |name: &str, value: &str| {
        let decimals = match name {
            "Loss1" | "Loss2" | "Loss_Full" => 6,
            "Time" => 4,
            _ => return false,
        };
        let parts = value.split_once('.');
        value.parse::<f64>().is_ok() && parts.is_some_and(|parts| parts.1.len() == decimals)
    };
    let words = line.split(' ').map(|word| {
        let bare = word.trim_end_matches(',');
        match bare.split_once('=') {
            Some((name, value)) if is_measured(name, value) => {
                format!("{name}=#{}", &word[bare.len()..])
            }
            _ => word.to_string(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_run_prints_and_writes_what_the_reference_does() {
    let folder = workplace();
    let output = train(&folder, &[]).assert().success().get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();

    let table = read(&folder, "results/run/validation/A_log_BSD300.csv");
    let scores = table.lines().map(|line| {
        let [epoch, psnr_db, ssim] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{table}");
        };
        assert!((0.0..50.0).contains(&psnr_db.parse::<f64>().unwrap()));
        assert!((-1.0..=1.0).contains(&ssim.parse::<f64>().unwrap()));
        (epoch, format!("[EVAL] BSD300: psnr:{psnr_db} ssim:{ssim}"))
    });
    let (epochs, scores): (Vec<_>, Vec<_>) = scores.unzip();
    assert_eq!(epochs, ["1", "2"]);

    let expected = [
        "fetch 5 samples for training",
        "Batchsize=2, number of epoch=2",
        "Checkpoint saved to ./results/run/epoch_model_000.safetensors",
        "LearningRate of Epoch 1 = 7.5e-05",
        "0001 00002 Loss1=#, Lambda=1.0, Loss2=#, Loss_Full=#, Time=#",
        "Checkpoint saved to ./results/run/epoch_model_001.safetensors",
        &scores[0],
        "LearningRate of Epoch 2 = 7.5e-05",
        "0002 00002 Loss1=#, Lambda=2.0, Loss2=#, Loss_Full=#, Time=#",
        "Checkpoint saved to ./results/run/epoch_model_002.safetensors",
        &scores[1],
    ];
    let lines: Vec<_> = stdout.lines().map(without_measurements).collect();
    assert_eq!(lines, expected);
    assert_eq!(read(&folder, "results/run/train.log"), stdout);

    for index in ["000", "001"] {
        for kind in ["clean", "noisy", "denoised"] {
            let name = format!("results/run/validation/BSD300_{index}-002_{kind}.png");
            let picture = Image::read(&folder.path().join(&name)).unwrap();
            assert_eq!((picture.height, picture.width), (40, 36), "{name}");
        }
    }

    let checkpoint = folder
        .path()
        .join("results/run/epoch_model_002.safetensors");
    let weights = Weights::read(&checkpoint).unwrap();
    assert_eq!(weights.architecture().unwrap().n_feature, 2);
    assert_eq!(weights.metadata["noise"], "gauss25");
    assert_eq!(weights.metadata["epoch"], "2");
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let folder = workplace();
    let weights = |name: &str, seed: &str| {
        let flags = [
            "--val-dirs=none",
            &format!("--log-name={name}"),
            &format!("--seed={seed}"),
        ];
        train(&folder, &flags).assert().success();
        let path = format!("results/{name}/epoch_model_002.safetensors");
        Weights::read(&folder.path().join(path)).unwrap().tensors
    };
    let first = weights("first", "7");
    assert!(first == weights("again", "7"));
    assert!(first != weights("other", "8"));
}

#[test]
fn a_run_is_not_overwritten_unless_asked() {
    let folder = workplace();
    train(&folder, &[]).assert().success();
    train(&folder, &[])
        .assert()
        .code(1)
        .stdout("")
        .stderr(contains("already holds a run"))
        .stderr(contains(
            "hint: choose another --log-name, or pass --resume ./results/run or --overwrite",
        ));
    train(&folder, &["--overwrite", "--n-epoch=1"])
        .assert()
        .success();
    let results = folder.path().join("results/run");
    assert!(results.join("epoch_model_001.safetensors").exists());
    assert!(!results.join("epoch_model_002.safetensors").exists());
    let table = read(&folder, "results/run/validation/A_log_BSD300.csv");
    assert_eq!(table.lines().count(), 1);
}

#[test]
fn the_references_spelling_of_the_command_works() {
    let folder = workplace();
    Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(&folder)
        .args([
            "train",
            "--data_dir=images/",
            "--val_dirs=./validation",
            "--noisetype=gauss25",
            "--save_model_path=./models",
            "--log_name=unet",
            "--increase_ratio=2",
            "--gpu_devices=0",
            "--parallel",
            "--n_feature=2",
            "--n_channel=3",
            "--n_epoch=1",
            "--n_snapshot=1",
            "--patchsize=64",
            "--Lambda1=1.0",
            "--Lambda2=1.0",
        ])
        .assert()
        .success()
        .stderr(contains("--gpu-devices and --parallel have no effect"));
    assert!(
        folder
            .path()
            .join("models/unet/epoch_model_001.safetensors")
            .exists()
    );
}

#[test]
fn of_a_flag_given_twice_the_last_counts() {
    let folder = workplace();
    let output = train(&folder, &[])
        .args(["--n_epoch", "1"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("number of epoch=1\n"), "{stdout}");
}

#[test]
fn without_a_validation_set_training_goes_on_and_says_so() {
    let folder = workplace();
    fs::remove_dir_all(folder.path().join("validation")).unwrap();
    train(&folder, &[])
        .assert()
        .success()
        .stdout(contains("[EVAL]").not())
        .stderr(contains("no validation set in"));
    // One that was asked for is another matter.
    train(&folder, &["--val-dirs=validaton", "--log-name=other"])
        .assert()
        .code(1)
        .stderr(contains("validaton/BSD300/test").and(contains("no such folder")));
    assert!(!folder.path().join("results/other").exists());
}

#[test]
fn the_settings_of_a_run_make_the_same_run_again() {
    let folder = workplace();
    let flags = ["--recipe=fast", "--noisetype=poisson30", "--val-dirs=none"];
    train(&folder, &flags).assert().success();
    let settings = "--config=results/run/config.toml";
    Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(&folder)
        .args(["train", settings, "--log-name=again"])
        .assert()
        .success();
    let weights = |run: &str| {
        let path = format!("results/{run}/epoch_model_002.safetensors");
        fs::read(folder.path().join(path)).unwrap()
    };
    assert!(weights("run") == weights("again"));
    // A mistake in a file is reported like one in a flag.
    fs::write(folder.path().join("mine.toml"), "learning_rate = 1\n").unwrap();
    train(&folder, &["--config=mine.toml", "--log-name=other"])
        .assert()
        .code(1)
        .stderr(contains("learning_rate"));
}

#[test]
fn a_run_leaves_a_page_and_curves_and_checkpoints_that_programs_read() {
    let folder = workplace();
    train(&folder, &["--keep=1"]).assert().success();
    let run = folder.path().join("results/run");
    let page = read(&folder, "results/run/report.html");
    assert!(page.contains("<svg") && page.contains("data:image/png;base64,"));
    assert!(page.contains("noisetype = &quot;gauss25&quot;"), "{page}");
    // Nothing is fetched from anywhere.
    assert!(!page.contains("http") && !page.contains(" src=\"/"));
    let events = fs::read(run.join("events.out.tfevents.n2n")).unwrap();
    assert!(
        events
            .windows(17)
            .any(|bytes| bytes == b"validation/psnr_d")
    );
    let losses = read(&folder, "results/run/losses.csv");
    let steps: Vec<_> = losses
        .lines()
        .skip(1)
        .map(|row| row.split(',').next())
        .collect();
    assert_eq!(steps, [Some("2"), Some("4")]);

    assert!(!run.join("epoch_model_001.safetensors").exists());
    let last = Weights::read(&run.join("epoch_model_002.safetensors")).unwrap();
    for name in ["latest", "best"] {
        let path = run.join(format!("{name}.safetensors"));
        let weights = Weights::read(&path).unwrap();
        assert_eq!(weights.architecture().unwrap().n_feature, 2);
        assert!(name == "best" || weights.tensors == last.tensors);
    }
}

/// A run without end, as a process, once it has begun its third epoch.
fn long_run(folder: &TempDir, settings: &[&str]) -> std::process::Child {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("n2n"));
    command
        .current_dir(folder)
        .args(["train", "--data-dir=images", "--log-name=run"])
        .args(["--n-feature=2", "--patchsize=64", "--batchsize=2"])
        .args(["--val-dirs=none", "--n-epoch=100000"])
        .args(settings)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let run = command.spawn().unwrap();
    let log = folder.path().join("results/run/train.log");
    let begun = std::time::Instant::now();
    let has_stepped = || fs::read_to_string(&log).is_ok_and(|log| log.contains("of Epoch 3"));
    while !has_stepped() {
        assert!(begun.elapsed().as_secs() < 60, "the run does not begin");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run
}

/// The checkpoint is written after each step.
#[cfg(unix)]
const EVERY_STEP: [&str; 2] = ["--checkpoint-every=0s", "--n-snapshot=7"];

#[cfg(unix)]
#[test]
fn a_second_process_is_refused_and_ctrl_c_saves() {
    let folder = workplace();
    let run = long_run(&folder, &EVERY_STEP);
    for flags in [
        &["--overwrite", "--data-dir=images", "--log-name=run"][..],
        &["--resume=results/run"],
    ] {
        Command::cargo_bin("n2n")
            .unwrap()
            .current_dir(&folder)
            .arg("train")
            .args(flags)
            .assert()
            .code(1)
            .stderr(contains("another process is training in"));
    }

    let pid = run.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(kill.unwrap().success());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("n2n train --resume ./results/run"),
        "{stderr}"
    );
    let log = read(&folder, "results/run/train.log");
    assert!(
        log.lines()
            .last()
            .unwrap()
            .starts_with("LearningRate of Epoch"),
        "{log}"
    );
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_goes_on() {
    let folder = workplace();
    let mut run = long_run(&folder, &EVERY_STEP);
    run.kill().unwrap();
    run.wait().unwrap();
    let epochs = |log: &str| log.matches("LearningRate").count();
    let before = epochs(&read(&folder, "results/run/train.log"));
    // Its settings stay its own.
    train(&folder, &["--resume=results/run", "--n-epoch=3"])
        .assert()
        .code(1)
        .stderr(contains("cannot be changed when resuming a run"));
    let text =
        read(&folder, "results/run/config.toml").replace("100000", &(before + 2).to_string());
    fs::write(folder.path().join("results/run/config.toml"), text).unwrap();
    Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(&folder)
        .args(["train", "--resume=results/run"])
        .assert()
        .success()
        .stderr(contains("resuming at epoch"));
    let log = read(&folder, "results/run/train.log");
    let began: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with("LearningRate"))
        .collect();
    let expected = (1..=before + 2).map(|epoch| format!("LearningRate of Epoch {epoch} ="));
    assert_eq!(began.len(), before + 2);
    for (line, start) in began.iter().zip(expected) {
        assert!(line.starts_with(&start), "{line}");
    }
}

#[test]
fn a_run_that_lost_its_checkpoint_or_its_images_says_how_to_go_on() {
    let folder = workplace();
    let settings = ["--val-dirs=none", "--n-epoch=1", "--n-snapshot=1"];
    train(&folder, &settings).assert().success();
    let refused = || {
        let mut command = Command::cargo_bin("n2n").unwrap();
        command.current_dir(&folder);
        let assert = command.args(["train", "--resume=results/run"]).assert();
        String::from_utf8(assert.code(1).get_output().stderr.clone()).unwrap()
    };
    for k in 0..5 {
        let path = folder.path().join(format!("images/{k}.png"));
        let mut image = Image::read(&path).unwrap();
        image.data.iter_mut().for_each(|value| *value *= 0.5);
        image.write(&path).unwrap();
    }
    let said = refused();
    assert!(
        said.contains("restore the images, or start a new run"),
        "{said}"
    );

    let before = read(&folder, "results/run/train.log");
    let latest = folder.path().join("results/run/latest.safetensors");
    let mut damaged = fs::read(&latest).unwrap();
    *damaged.last_mut().unwrap() ^= 0x20;
    fs::write(&latest, damaged).unwrap();
    let said = refused();
    for words in [
        "latest.safetensors: the file is damaged",
        "--init-from FILE",
    ] {
        assert!(said.contains(words), "{said}");
    }
    fs::remove_file(latest).unwrap();
    let said = refused();
    for words in [
        "results/run/latest.safetensors: the checkpoint to resume from is missing",
        "hint: restore it, or start a new run from the other one: n2n train --config \
         results/run/config.toml --lr 3e-4 --log-name NEW --init-from \
         results/run/epoch_model_001.safetensors",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(read(&folder, "results/run/train.log"), before);
}

/// A limit on the length of files stands in for a full disk: a picture of the evaluation meets it.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_checkpoint_before_and_says_so() {
    let folder = workplace();
    train(&folder, &["--n-epoch=1", "--val-dirs=none"])
        .assert()
        .success();
    let latest = folder.path().join("results/run/latest.safetensors");
    // The shell counts in blocks of 512 bytes. A checkpoint fits, and little more.
    let blocks = fs::metadata(latest).unwrap().len() / 512 + 16;
    let large = folder.path().join("validation/BSD300/test/0.png");
    write_image(&large, 800, 800, 0);
    let script = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec {} train --data-dir=images --log-name=full \
         --n-feature=2 --patchsize=64 --batchsize=2 --n-epoch=1 --checkpoint-every=0s",
        assert_cmd::cargo::cargo_bin("n2n").display()
    );
    let mut shell = std::process::Command::new("sh");
    let output = shell.current_dir(&folder).args(["-c", &script]).output();
    let output = output.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for said in [
        "validation/BSD300_000-001_",
        "the checkpoint of epoch 1, iteration 2 was kept: ./results/full/latest.safetensors",
        "hint: free disk space, then n2n train --resume ./results/full",
    ] {
        assert!(stderr.contains(said), "{stderr}");
    }
    // With room again.
    Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(&folder)
        .args(["train", "--resume=results/full"])
        .assert()
        .success();
    let table = read(&folder, "results/full/validation/A_log_BSD300.csv");
    assert_eq!(table.lines().count(), 1);
}

#[test]
fn gray_images_train_a_gray_network() {
    let folder = workplace();
    train(&folder, &["--n-channel=1", "--val-dirs=none"])
        .assert()
        .success();
    let checkpoint = folder
        .path()
        .join("results/run/epoch_model_002.safetensors");
    let weights = Weights::read(&checkpoint).unwrap();
    assert_eq!(weights.architecture().unwrap().n_channel, 1);
}

#[test]
fn a_run_may_start_from_a_model() {
    let folder = workplace();
    train(&folder, &["--val-dirs=none"]).assert().success();
    let model = "results/run/epoch_model_002.safetensors";
    let flags = ["--val-dirs=none", "--log-name=tuned", "--ema=0.5"];
    let from = format!("--init-from={model}");
    train(&folder, &[&flags[..], &[&from]].concat())
        .assert()
        .success();
    let tensors = |path: &str| Weights::read(&folder.path().join(path)).unwrap().tensors;
    assert_eq!(
        tensors("results/tuned/epoch_model_000.safetensors"),
        tensors(model)
    );
    assert_ne!(
        tensors("results/tuned/epoch_model_002.safetensors"),
        tensors(model)
    );
    // A run that was ended before its first checkpoint starts from there again.
    let resume = || {
        let mut command = Command::cargo_bin("n2n").unwrap();
        command
            .current_dir(&folder)
            .args(["train", "--resume=results/tuned"]);
        command.assert().success();
    };
    let tuned = folder.path().join("results/tuned");
    for checkpoint in n2n::files::find(&tuned, &["safetensors"]).unwrap() {
        fs::remove_file(checkpoint).unwrap();
    }
    resume();
    assert_eq!(
        tensors("results/tuned/epoch_model_000.safetensors"),
        tensors(model)
    );
    // Once it runs, the model is no longer needed.
    fs::remove_file(folder.path().join(model)).unwrap();
    resume();

    for (model, message) in [
        (
            "gauss5_50",
            "expected n_feature 2, n_channel 3, found n_feature 48, n_channel 3\nhint: pass --n-feature 48\n",
        ),
        ("results", "found a folder"),
        ("missing.pth", "missing.pth"),
    ] {
        train(
            &folder,
            &[&format!("--init-from={model}"), "--log-name=other"],
        )
        .assert()
        .code(1)
        .stderr(contains("error: --init-from").and(contains(message)));
    }
    assert!(!folder.path().join("results/other").exists());
}

#[test]
fn unusable_images_are_named_and_left_out() {
    let folder = workplace();
    fs::write(folder.path().join("images/broken.jpg"), "not an image").unwrap();
    train(&folder, &[])
        .assert()
        .success()
        .stdout(contains("fetch 5 samples"))
        .stderr(contains("broken.jpg").count(1));
}

#[test]
fn what_no_run_can_be_made_of_is_refused_and_nothing_is_written() {
    let folder = workplace();
    fs::create_dir(folder.path().join("empty")).unwrap();
    for (flag, message) in [
        (
            "--holdout=5",
            "images to train on, from images: expected at least one that is not held out, found none",
        ),
        ("--data-dir=empty", "empty"),
        ("--data-dir=missing", "missing"),
        ("--n-channel=2", "n_channel"),
        ("--log-name=..", "log_name"),
    ] {
        train(&folder, &[flag])
            .assert()
            .code(1)
            .stdout("")
            .stderr(contains("error: ").and(contains(message)));
    }
    assert!(!folder.path().join("results").exists());
}

/// Writes 16-bit images whose values fill 8 bits, above an offset; returns what they would be without noise.
fn stack(folder: &TempDir) -> Vec<f32> {
    let (side, offset) = (96, 100.0);
    let clean = |i: usize| {
        let (y, x) = ((i / side) as f32, (i % side) as f32);
        offset + 40.0 + 30.0 * (y / 9.0).sin() * (x / 7.0).cos()
    };
    let mut state = 7_u32;
    for k in 0..4 {
        // The sum of four uniform values, of deviation 10.
        let mut noise = || {
            let uniform = (0..4).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            uniform.sum::<f32>() * 10.0 * 3_f32.sqrt()
        };
        let data = (0..side * side).map(|i| (clean(i) + noise()).round() / 65535.0);
        let image = Image {
            height: side,
            width: side,
            channels: 1,
            data: data.collect(),
            depth: Depth::U16,
        };
        image
            .write(&folder.path().join(format!("scans/{k}.tif")))
            .unwrap();
    }
    (0..side * side).map(clean).collect()
}

/// Three images in which each pixel's noise is the mean of two draws, one of them shared with its neighbor in the row.
fn write_correlated(folder: &TempDir) {
    let side = 128;
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    fs::create_dir(folder.path().join("scans")).unwrap();
    for k in 0..3 {
        let white: Vec<f32> = (0..=side * side)
            .map(|_| (0..4).map(|_| 60.0 * uniform()).sum())
            .collect();
        let data = white
            .windows(2)
            .map(|pair| f32::midpoint(pair[0], pair[1]).round() / 255.0);
        let image = Image {
            height: side,
            width: side,
            channels: 1,
            data: data.collect(),
            depth: Depth::U8,
        };
        image
            .write(&folder.path().join(format!("scans/{k}.png")))
            .unwrap();
    }
}

#[test]
fn training_warns_of_noise_that_neighbors_share_and_can_do_without_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    write_correlated(&folder);
    let run = |name: &'static str, distance: &[&'static str]| {
        let mut flags = vec![
            "--data-dir=scans",
            "--noisetype=none",
            "--n-channel=1",
            "--n-epoch=1",
            "--steps-per-epoch=2",
            name,
        ];
        flags.extend(distance);
        train(&folder, &flags).assert().success()
    };
    run("--log-name=plain", &[]).stderr(
        contains("warning: The noise is correlated along rows")
            .and(contains("--neighbor-distance auto")),
    );
    assert!(read(&folder, "results/plain/config.toml").contains("neighbor_distance = \"1\""));
    run("--log-name=spaced", &["--neighbor-distance=auto"]).stderr(
        contains("pixels 2 apart along rows and 1 apart along columns")
            .and(contains("warning: The noise").not()),
    );
    assert!(read(&folder, "results/spaced/config.toml").contains("neighbor_distance = \"2x1\""));
}

/// The commands of the README, with a small network, and no flag for the range.
#[test]
fn images_as_a_microscope_gives_them_are_denoised_in_their_own_counts() {
    let folder = tempfile::tempdir().unwrap();
    let clean = stack(&folder);
    let n2n = |args: &[&str]| {
        let mut command = Command::cargo_bin("n2n").unwrap();
        command.current_dir(&folder).args(args).assert().success()
    };
    n2n(&[
        "train",
        "--data-dir=scans",
        "--noisetype=none",
        "--recipe=fast",
        "--n-channel=1",
        "--n-feature=8",
        "--patchsize=64",
        "--n-epoch=2",
        "--log-name=mine",
    ])
    .stdout(contains("(uint16) map to the network's 0 to 1"));
    let model = "--model-path=results/mine/best.safetensors";
    n2n(&["predict", model, "scans/0.tif", "--depth=32f"]).stderr(contains("warning").not());
    let read = |path: &str| Image::read(&folder.path().join(path)).unwrap().data;
    let error = |values: &[f32]| {
        let errors = values.iter().zip(&clean).map(|(a, b)| f64::from(a - b));
        let (sum, squares) = errors.fold((0.0, 0.0), |(a, b), e| (a + e, b + e * e));
        (
            sum / clean.len() as f64,
            (squares / clean.len() as f64).sqrt(),
        )
    };
    let noisy: Vec<_> = read("scans/0.tif").iter().map(|x| x * 65535.0).collect();
    let ((_, before), (bias, after)) = (error(&noisy), error(&read("output/0_denoise.tif")));
    assert!(after < before / 2.0, "from {before} to {after}");
    assert!(bias.abs() < 0.5, "{bias}");

    // The export has the range too, in either form; `predict` reads it from the file.
    let best = "--model-path=results/mine/best.safetensors";
    n2n(&["export", best, "--save-dir=exported"]);
    for name in ["model.onnx", "model.safetensors"] {
        let weights = Weights::read(&folder.path().join("exported").join(name)).unwrap();
        assert_eq!(weights.metadata["range_type"], "uint16");
        assert!(weights.metadata["range"].contains(','));
    }
    n2n(&[
        "predict",
        "--model-path=exported/model.onnx",
        "scans/0.tif",
        "--depth=32f",
        "--save-dir=again",
    ]);
    assert_eq!(read("again/0_denoise.tif"), read("output/0_denoise.tif"));

    // An image of another type is another matter.
    let bytes = Image::from_bytes(40, 40, 1, &[100; 1600]);
    bytes.write(&folder.path().join("bytes.png")).unwrap();
    n2n(&["predict", best, "bytes.png"]).stderr(
        contains("warning: bytes.png")
            .and(contains("(uint8)"))
            .and(contains("--range MIN,MAX")),
    );
}

#[test]
fn a_run_whose_image_vanishes_says_how_to_go_on() {
    let folder = workplace();
    let run = long_run(&folder, &["--cache-mb=0", "--n-snapshot=1000000"]);
    let image = folder.path().join("images/2.png");
    let content = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in [
        "2.png",
        "was kept",
        "restore the file, then n2n train --resume",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    fs::write(&image, content).unwrap();
    // The run has already passed two epochs, so it ends as soon as it is resumed.
    let text = read(&folder, "results/run/config.toml").replace("n_epoch = 100000", "n_epoch = 2");
    fs::write(folder.path().join("results/run/config.toml"), text).unwrap();
    Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(&folder)
        .args(["train", "--resume=results/run"])
        .assert()
        .success()
        .stderr(contains("resuming at epoch"));
}

#[test]
fn images_of_one_value_are_warned_about() {
    let folder = workplace();
    for entry in fs::read_dir(folder.path().join("images")).unwrap() {
        let flat = Image::from_bytes(64, 80, 3, &[9; 64 * 80 * 3]);
        flat.write(&entry.unwrap().path()).unwrap();
    }
    let flags = ["--noisetype=none", "--n-epoch=1", "--steps-per-epoch=2"];
    train(&folder, &flags)
        .assert()
        .success()
        .stderr(contains("have the same value").count(1));
}
