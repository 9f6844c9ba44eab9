//! What each step is given, and losses that end a run.

use super::*;

#[test]
fn each_step_gets_fresh_noise_and_neighbors_and_its_epochs_schedule() {
    let (_folder, config) = workplace();
    let (network, _) = trained(&config);
    assert_eq!(network.steps.len(), 5 * 2);
    for (i, step) in network.steps.iter().enumerate() {
        let epoch = i / 2 + 1;
        let passed = i as f64 / 10.0;
        let moment = Moment { epoch, passed };
        assert_eq!(step.learning_rate, config.learning_rate(moment));
        assert_eq!(step.factors, config.factors(moment));
        let noisy = &step.noisy;
        assert_eq!((noisy.n, noisy.h, noisy.w, noisy.c), (2, 64, 64, 1));
        assert_eq!((step.neighbors.h, step.neighbors.w), (32, 32));
        for other in &network.steps[..i] {
            assert_ne!(other.noisy, step.noisy);
            assert_ne!(other.neighbors, step.neighbors);
        }
    }
}

/// Every image is a uniform gray, so what is left after subtracting it is the noise.
#[test]
fn the_noise_asked_for_is_added_and_none_when_none_is() {
    let (folder, mut config) = workplace();
    for k in 0..5 {
        let image = Image::from_bytes(64, 64, 1, &[51; 64 * 64]);
        image
            .write(&folder.path().join(format!("images/{k}.png")))
            .unwrap();
    }
    let (network, _) = trained(&config);
    let noise = network.steps.iter().flat_map(|step| &step.noisy.data);
    let variances: Vec<_> = noise.map(|x| (f64::from(*x) - 0.2).powi(2)).collect();
    let deviation = (variances.iter().sum::<f64>() / variances.len() as f64).sqrt();
    // 81,920 values: the standard error of the deviation is 0.25 %.
    assert!((deviation * 255.0 - 25.0).abs() < 0.3, "{deviation}");

    config.noise = Noise::NONE;
    config.steps_per_epoch = Some(2);
    config.holdout = Some(0);
    config.log_name = "real".into();
    let (network, _) = trained(&config);
    let mut values = network.steps.iter().flat_map(|step| &step.noisy.data);
    assert!(values.all(|&x| x == 51.0 / 255.0));
}

#[test]
fn a_run_depends_on_the_seed_and_not_on_threads_or_memory() {
    let (_folder, mut config) = workplace();
    let (expected, _) = trained(&config);
    config.log_name = "again".into();
    config.loader_threads = 5;
    config.cache_mb = 0;
    let (again, _) = trained(&config);
    assert!(again.steps == expected.steps);
    assert_eq!(again.weight, expected.weight);
    config.log_name = "other".into();
    config.seed += 1;
    let (other, _) = trained(&config);
    assert!(other.steps[0].noisy != expected.steps[0].noisy);
    assert!(other.steps[0].neighbors != expected.steps[0].neighbors);
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run() {
    let (folder, config) = workplace();
    let mut network = Recording::new();
    network.fail_at = Some(4);
    let error = run(&config, &mut network, &mut |_| {}).unwrap_err();
    let images = not_finite(error, 2, &config);
    assert!(images.contains(".png, "), "{images}");
    assert_eq!(network.steps.len(), 4);
    let spoilt = folder.path().join("run/epoch_model_002.safetensors");
    assert!(!spoilt.exists());
}

#[test]
fn a_run_that_diverges_ends_before_it_is_saved_and_does_so_again_when_resumed() {
    let (folder, mut config) = workplace();
    config.checkpoint_every = Span(std::time::Duration::ZERO);
    let never = AtomicBool::new(false);
    let mut network = Recording::new();
    network.loss = |step| if step < 3 { 0.25 } else { 0.26e6 };
    let mut resumed = Recording::new();
    resumed.loss = |_| 0.26e6;
    for (network, start) in [(&mut network, Start::New), (&mut resumed, Start::Resume)] {
        let error = crate::train::run(&config, start, network, &never, &mut |_| {}).unwrap_err();
        let reason = unsaved(error);
        assert!(
            matches!(
                reason,
                Error::Diverged {
                    epoch: 2,
                    iteration: 1,
                    loss: 0.26e6,
                    least: 0.25,
                }
            ),
            "{reason}"
        );
        assert!(
            !folder
                .path()
                .join("run/epoch_model_002.safetensors")
                .exists()
        );
    }
}

#[test]
fn images_that_are_black_are_no_sign_that_a_run_diverges() {
    let (_folder, config) = workplace();
    let mut network = Recording::new();
    network.loss = |step| if step < 3 { 0.0 } else { 0.5 };
    run(&config, &mut network, &mut |_| {}).unwrap();
}
