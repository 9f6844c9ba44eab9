//! Runs without a folder.

use super::*;

/// Gray images of noise, in memory.
fn noisy_images(count: usize) -> Vec<Image> {
    let image = |k: usize| {
        let samples: Vec<u8> = (0..70 * 80)
            .map(|i| ((i * 7919 + k * 31) % 251) as u8)
            .collect();
        Image::from_u8(70, 80, 1, &samples).unwrap()
    };
    (0..count).map(image).collect()
}

fn in_memory() -> Config {
    Config {
        noise: Noise::NONE,
        n_channel: 1,
        n_feature: 2,
        patchsize: 64,
        batchsize: 2,
        n_epoch: 2,
        steps_per_epoch: Some(3),
        holdout: Some(1),
        ema: 0.9,
        ..Config::default()
    }
}

#[test]
fn images_in_memory_make_the_model_that_a_folder_of_them_makes() {
    let folder = tempfile::tempdir().unwrap();
    let images = noisy_images(4);
    for (k, image) in images.iter().enumerate() {
        image
            .write(&folder.path().join(format!("data/{k}.png")))
            .unwrap();
    }
    let config = Config {
        data_dir: folder.path().join("data"),
        save_model_path: folder.path().into(),
        log_name: "run".into(),
        ..in_memory()
    };
    let unet = config.unet().unwrap();
    let mut network = CpuNetwork::initial(unet, config.seed);
    run(&config, &mut network, &mut |_| {}).unwrap();
    let saved = Weights::read(&folder.path().join("run/epoch_model_002.safetensors")).unwrap();

    let model = crate::train(&images, &in_memory()).unwrap();
    assert!(model.weights().tensors == saved.tensors);
    assert_eq!(model.metadata()["noise"], "none");
    let clean = model.denoise(&images[0]).unwrap();
    assert_eq!(
        (clean.height, clean.width, clean.depth),
        (70, 80, Depth::U8)
    );
}

#[test]
fn a_run_in_memory_tells_what_happens_and_can_be_ended() {
    let images = || Arc::new(crate::train::Memory::from_iter(noisy_images(4)));
    let mut steps = 0;
    let model = crate::train_with(images(), &in_memory(), &mut |event| {
        steps += usize::from(matches!(event, Event::Stepped(_)));
        if steps == 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert_eq!((steps, model.metadata()["epoch"].as_str()), (4, "2"));
    // Before the first step there is nothing to return.
    let stopped = crate::train_with(images(), &in_memory(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Stopped)));
}

#[test]
fn an_image_in_memory_that_cannot_be_used_is_an_error() {
    let mut images = noisy_images(4);
    images[2] = Image::from_f32(1, 2, 1, vec![0.0, f32::NAN]).unwrap();
    let error = crate::train(&images, &in_memory()).unwrap_err();
    let want = "image 2: page 1 contains values that are not finite";
    assert_eq!(error.to_string(), want);
}
