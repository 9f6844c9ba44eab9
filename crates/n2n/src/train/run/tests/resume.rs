//! Interrupted runs, and runs on the clock.

use super::*;

/// With everything that has a state: an average, a held-out loss, scores, turns.
#[test]
fn a_run_that_is_interrupted_and_resumed_ends_as_one_that_is_not() {
    type Counted = fn(&Event) -> bool;
    let (folder, config) = workplace();
    let config = Config {
        n_epoch: 2,
        n_snapshot: 1,
        holdout: Some(1),
        n_feature: 2,
        data_dir: config.data_dir.clone(),
        val_dirs: config.val_dirs.clone(),
        save_model_path: config.save_model_path.clone(),
        log_iters: 3,
        steps_per_epoch: Some(4),
        batchsize: 2,
        accumulate: 2,
        patchsize: 64,
        n_channel: 1,
        ..Recipe::Fast.config()
    };
    let named = |name: &str| Config {
        log_name: name.into(),
        ..config.clone()
    };
    let whole = named("whole");
    assert_eq!(
        until(&whole, Start::New, usize::MAX, |_| false),
        Outcome::Finished
    );
    let expected = left_by(&whole.folder());
    assert!(expected.len() > 10, "{:?}", expected.keys());

    // After each step; and between the images of an evaluation, of which there are 2 · 3.
    let step = |event: &Event| matches!(event, Event::Stepped(_));
    let scored = |event: &Event| matches!(event, Event::Scored { .. });
    let points: [(Counted, std::ops::RangeInclusive<usize>); 2] = [(step, 1..=7), (scored, 1..=11)];
    for (k, (counted, counts)) in points.into_iter().enumerate() {
        for count in counts {
            let part = named(&format!("part{k}_{count}"));
            assert_eq!(until(&part, Start::New, count, counted), Outcome::Stopped);
            // Then again right away: after one more step, or within the same evaluation.
            assert_eq!(until(&part, Start::Resume, 1, counted), Outcome::Stopped);
            let end = until(&part, Start::Resume, usize::MAX, |_| false);
            assert_eq!(end, Outcome::Finished);
            let left = left_by(&part.folder());
            for (name, content) in &expected {
                let same = left.get(name) == Some(content);
                assert!(same, "{name} of {}", part.log_name);
            }
            assert_eq!(left.len(), expected.len());
        }
    }
    // A run that is over stays as it is.
    let end = until(&whole, Start::Resume, usize::MAX, |_| false);
    assert_eq!(end, Outcome::Finished);
    assert!(left_by(&whole.folder()) == expected);
    drop(folder);
}

/// Which images are held out depends on the size of the patches that was asked for.
#[test]
fn a_run_with_fitted_patches_resumes_from_its_settings() {
    let (folder, config) = workplace();
    let images = folder.path().join("small");
    for (k, side) in (0..20).map(|k| (k, [100, 70][k % 2])) {
        write_image(&images.join(format!("{k}.png")), side, side, k);
    }
    let named = |name: &str| Config {
        n_epoch: 2,
        n_snapshot: 1,
        n_feature: 1,
        n_channel: 1,
        noise: Noise::NONE,
        data_dir: images.clone(),
        val_dirs: None,
        steps_per_epoch: Some(2),
        save_model_path: config.save_model_path.clone(),
        log_name: name.into(),
        ..Recipe::Fast.config()
    };
    let step = |event: &Event| matches!(event, Event::Stepped(_));
    let (whole, part) = (named("whole"), named("part"));
    until(&whole, Start::New, usize::MAX, |_| false);
    assert_eq!(until(&part, Start::New, 1, step), Outcome::Stopped);
    let settings = crate::train::folder::settings_of_run(&part.folder()).unwrap();
    let part = Config::resolve(&[settings]).unwrap();
    let end = until(&part, Start::Resume, usize::MAX, |_| false);
    assert_eq!(end, Outcome::Finished);
    let (whole, part) = (left_by(&whole.folder()), left_by(&part.folder()));
    for name in [
        "epoch_model_002.safetensors",
        "best.safetensors",
        "losses.csv",
    ] {
        assert!(whole[name] == part[name], "{name}");
    }
}

#[test]
fn a_run_that_lost_its_checkpoint_begins_again_only_if_no_trained_weights_are_left() {
    let (_folder, config) = workplace();
    let config = Config {
        n_epoch: 1,
        ..config
    };
    until(&config, Start::New, usize::MAX, |_| false);
    let folder = config.folder();
    let expected = left_by(&folder);
    fs::remove_file(folder.join("latest.safetensors")).unwrap();
    let left = left_by(&folder);
    for newest in ["epoch_model_001.safetensors", "best.safetensors"] {
        match resumed(&config, &mut |_| {}) {
            Err(Error::NoCheckpoint {
                path,
                newest: found,
            }) => {
                assert_eq!(path, folder.join("latest.safetensors"));
                assert_eq!(found, folder.join(newest));
            }
            other => panic!("{other:?}"),
        }
        fs::remove_file(folder.join(newest)).unwrap();
    }
    assert_eq!(left_by(&folder).len(), left.len() - 2);
    // As after an interruption before the first checkpoint.
    until(&config, Start::Resume, usize::MAX, |_| false);
    assert!(left_by(&folder) == expected);
}

/// Resumes a run with a network that records.
fn resumed(config: &Config, observe: &mut dyn FnMut(&Event)) -> Result<Outcome> {
    let never = AtomicBool::new(false);
    let mut network = Recording::new();
    crate::train::run(config, Start::Resume, &mut network, &never, observe)
}

#[test]
fn a_run_does_not_go_on_with_other_images() {
    let (folder, config) = workplace();
    trained(&config);
    write_image(&folder.path().join("images/9.png"), 64, 80, 9);
    let error = resumed(&config, &mut |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("images") && error.contains("was started with"),
        "{error}"
    );
}

#[test]
fn a_run_does_not_go_on_with_other_values() {
    let (folder, config) = workplace();
    let config = Config {
        noise: Noise::NONE,
        val_dirs: None,
        ..config
    };
    let write = |factor: u16| {
        for k in 0..5 {
            let samples: Vec<_> = (0..64 * 80)
                .map(|i: u32| (500 + i * i % 90) as u16 * factor)
                .collect();
            let image = Image::from_u16(64, 80, 1, &samples).unwrap();
            let path = folder.path().join(format!("images/{k}.png"));
            image.write(&path).unwrap();
        }
    };
    write(1);
    let stopped = |event: &Event| matches!(event, Event::Stepped(_));
    until_with(&mut Recording::new(), &config, Start::New, 1, stopped);
    let before = left_by(&config.folder());
    write(10);
    let error = resumed(&config, &mut |_| {}).unwrap_err().to_string();
    for said in [
        "expected 501 to 579, with a median of 5",
        "found 5010 to 5790, with a median of 5",
        "restore the images",
    ] {
        assert!(error.contains(said), "{error}");
    }
    assert!(left_by(&config.folder()) == before);
    write(1);
    resumed(&config, &mut |_| {}).unwrap();
}

#[test]
fn a_run_does_not_go_on_where_its_epochs_have_become_too_short() {
    let (_folder, config) = workplace();
    let steps = |steps_per_epoch: usize| Config {
        steps_per_epoch: Some(steps_per_epoch),
        ..config.clone()
    };
    let step = |event: &Event| matches!(event, Event::Stepped(_));
    until_with(&mut Recording::new(), &steps(5), Start::New, 3, step);
    let before = left_by(&config.folder());
    let error = resumed(&steps(2), &mut |_| {}).unwrap_err().to_string();
    let latest = config.folder().join("latest.safetensors");
    let expected = format!(
        "iterations per epoch: expected at least 3, as many as {} records for epoch 1, found 2; \
         restore steps_per_epoch, batchsize and accumulate in config.toml, or start a new run",
        latest.display()
    );
    assert_eq!(error, expected);
    assert!(left_by(&config.folder()) == before);
    // A run can be resumed exactly where an epoch ends; the epoch then ends.
    until_with(
        &mut Recording::new(),
        &steps(3),
        Start::Resume,
        1,
        |event| matches!(event, Event::EpochBegan { epoch: 2, .. }),
    );
}

/// The network of this test has the same scores in each epoch, so that the first of a kind remains the best.
#[test]
fn scores_of_another_kind_do_not_compete() {
    let (_folder, config) = workplace();
    let config = Config {
        holdout: Some(1),
        n_snapshot: 1,
        ..config
    };
    let without = Config {
        val_dirs: None,
        ..config.clone()
    };
    let snapshot = |event: &Event| matches!(event, Event::Reported { .. });
    let best = || {
        let path = config.folder().join("best.safetensors");
        Weights::read(&path).unwrap().metadata["epoch"].clone()
    };
    let mut network = Recording::new();
    for (settings, start, snapshots, expected) in [
        (&config, Start::New, 2, "1"),
        (&without, Start::Resume, 2, "3"),
        (&config, Start::Resume, 1, "5"),
    ] {
        until_with(&mut network, settings, start, snapshots, snapshot);
        assert_eq!(best(), expected);
    }
}

#[test]
fn a_run_with_a_time_budget_ends_in_time_and_with_its_schedule() {
    let (_folder, config) = workplace();
    let config = Config {
        time_budget: Some(Span(std::time::Duration::from_millis(300))),
        val_dirs: None,
        n_snapshot: 1_000_000,
        ..config
    };
    let mut network = Recording::new();
    let (mut passed, begun) = (vec![], Instant::now());
    run(&config, &mut network, &mut |event| {
        if let Event::Stepped(step) = event {
            passed.push(step.passed);
        }
    })
    .unwrap();
    assert!(begun.elapsed().as_millis() >= 300);
    // The budget may end in a step or between two.
    assert!(passed.is_sorted() && passed.last() <= Some(&1.0));
    assert!(
        passed[..passed.len() - 1]
            .iter()
            .all(|&passed| passed < 1.0)
    );
    // The rate falls at each fifth of the budget, but only when a step begins after it: here, at least once.
    let last = network.steps.last().unwrap().learning_rate;
    assert!(last <= config.lr * config.gamma, "{last}");
    let names = fs::read_dir(config.folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names
            .filter(|name| name.starts_with("epoch_model_"))
            .count(),
        2
    );
}
