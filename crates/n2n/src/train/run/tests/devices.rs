//! Devices that draw noise themselves or report losses late, and devices that fail.

use super::*;

/// Two epochs of seven steps, with a row of losses after every third and at the end.
fn drawn() -> (tempfile::TempDir, Config) {
    let (folder, config) = workplace();
    let config = Config {
        n_epoch: 2,
        steps_per_epoch: Some(7),
        log_iters: 3,
        ema: 0.9,
        ..config
    };
    (folder, config)
}

#[test]
fn a_device_that_draws_is_asked_for_losses_only_when_they_are_written() {
    let (_folder, config) = drawn();
    let mut network = Drawer::new(&config);
    let mut told = vec![];
    run(&config, &mut network, &mut |event| {
        if let Event::Stepped(step) = event {
            told.push((step.stats.map(|told| told.losses), step.logged));
        }
    })
    .unwrap();
    let ends = [3, 6, 7, 10, 13, 14];
    assert_eq!((network.told.as_slice(), network.noisy), (&ends[..], 0));
    let seeds: std::collections::HashSet<_> = network.steps.iter().map(|step| step.1).collect();
    assert_eq!(seeds.len(), 14);

    let rows = rows(&config.folder());
    assert_eq!(
        rows.iter().map(|row| row.step as usize).collect::<Vec<_>>(),
        ends
    );
    let mut begin = 0;
    for (row, end) in rows.iter().zip(ends) {
        let steps = &network.steps[begin..end];
        let mean = |part: fn(&Losses) -> f64| {
            steps.iter().map(|step| part(&step.0)).sum::<f64>() / steps.len() as f64
        };
        assert_eq!(row.loss1, mean(|losses| losses.loss1));
        assert_eq!(row.loss2, mean(|losses| losses.loss2));
        assert_eq!(row.loss_full, mean(|losses| losses.loss_full));
        // Until the next row, these are the last that are known.
        assert_eq!(told[end - 1].0.unwrap().loss1, row.loss1);
        begin = end;
    }
    assert_eq!((told[0].0, told[1].0), (None, None));
    assert_eq!(told[2].0, told[3].0);
    let logged: Vec<_> = (1..=14).filter(|step| told[step - 1].1).collect();
    assert_eq!(logged, [3, 6, 10, 13]);
}

#[test]
fn a_device_that_draws_resumes_as_if_it_had_not_been_interrupted() {
    let (_folder, config) = drawn();
    let config = Config {
        n_snapshot: 1,
        ..config
    };
    let end = |log_name: &str, stops: &[usize]| {
        let config = Config {
            log_name: log_name.into(),
            ..config.clone()
        };
        let mut start = Start::New;
        for &steps in stops.iter().chain([&usize::MAX]) {
            let mut network = Drawer::new(&config);
            let step = |event: &Event| matches!(event, Event::Stepped(_));
            let outcome = until_with(&mut network, &config, start, steps, step);
            assert_eq!(outcome == Outcome::Finished, steps == usize::MAX);
            start = Start::Resume;
        }
        let mut left = left_by(&config.folder());
        // Sums over other parts differ in their last bit.
        left.remove(LOSSES);
        (left, rows(&config.folder()))
    };
    let (expected, expected_rows) = end("whole", &[]);
    for stops in [&[1][..], &[3], &[5, 1], &[7, 4]] {
        let (left, rows) = end(&format!("part{}", stops[0]), stops);
        for (name, content) in &expected {
            assert!(left.get(name) == Some(content), "{name} of {stops:?}");
        }
        for (row, expected) in rows.iter().zip(&expected_rows) {
            assert_eq!((row.step, row.lambda), (expected.step, expected.lambda));
            let error = (row.loss_full - expected.loss_full).abs();
            assert!(error < 1e-14 * expected.loss_full, "{row:?} {expected:?}");
        }
        assert_eq!(rows.len(), expected_rows.len());
    }
}

#[test]
fn of_steps_told_together_the_one_that_is_not_finite_is_named() {
    let (_folder, config) = drawn();
    let mut network = Drawer::new(&config);
    network.fail_at = Some(7 + 5);
    let error = run(&config, &mut network, &mut |_| {}).unwrap_err();
    let images = not_finite(error, 5, &config);
    let source = Arc::new(open_folder(&config).unwrap());
    let (dataset, _) = read_images(source, &config, &mut |_| {}).unwrap();
    let loader = Loader::new(dataset, &config).unwrap();
    assert_eq!(images, loader.names(2, 4).join(", "));
    // It was found at the next row.
    assert_eq!(network.steps.len(), 7 + 6);
}

#[test]
fn a_device_that_draws_is_given_noise_that_is_frozen() {
    let (_folder, config) = drawn();
    let config = Config {
        frozen_noise: true,
        ..config
    };
    let mut network = Drawer::new(&config);
    run(&config, &mut network, &mut |_| {}).unwrap();
    assert_eq!((network.noisy, network.steps.len()), (14, 0));
}

#[test]
fn a_run_whose_device_fails_names_its_checkpoint() {
    let (_folder, config) = drawn();
    let mut failed = vec![];
    let mut fail = |log_name: &str, network: &mut dyn Train| {
        let config = Config {
            log_name: log_name.into(),
            n_snapshot: 1,
            ..config.clone()
        };
        let error = run(&config, network, &mut |_| {}).unwrap_err();
        failed.push(unsaved(error).to_string());
    };
    let mut told_at_once = Recording::new();
    told_at_once.lost_at = Some(9);
    fail("at_once", &mut told_at_once);
    let mut lost = Drawer::new(&config);
    lost.lost_at = Some(9);
    fail("drawing", &mut lost);
    let mut full = Drawer::new(&config);
    full.full_at = Some(9);
    fail("full", &mut full);
    let unplugged = "a test: it was unplugged";
    let full = "a test has too little memory for a step";
    assert_eq!(failed, [unplugged, unplugged, full]);
}
