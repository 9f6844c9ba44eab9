//! ONNX models in rten, a runtime that shares no code with ours: it checks what `export` writes and
//! runs models of other architectures.

#[cfg(feature = "rten")]
pub use with_rten::RtenModel;
#[cfg(not(feature = "rten"))]
pub use without_rten::RtenModel;

/// Whether this build has rten (the cargo feature `rten`).
pub const BUILT_IN: bool = cfg!(feature = "rten");

#[cfg(feature = "rten")]
mod with_rten {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use anyhow::{Context, anyhow, ensure};
    use n2n::Error;
    use n2n::batch::Batch;
    use n2n::network::Denoise;
    use n2n::unet::{Grid, UNet};
    use rten::{Dimension, Model, RunOptions, ThreadPool, Value};

    /// An ONNX model that takes one tensor of images and gives one.
    pub struct RtenModel {
        path: PathBuf,
        model: Model,
        options: RunOptions,
    }

    impl RtenModel {
        /// Loads the content of an ONNX file; `path` names it in errors. It will run on as many threads
        /// as the rayon pool of the caller has.
        ///
        /// rten bounds neither memory nor time: a hostile model can take all of both.
        pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> anyhow::Result<Self> {
            let name = || path.display().to_string();
            let model = guarded(|| Ok(Model::load(bytes)?))
                .context("expected an ONNX model")
                .with_context(name)?;
            let (inputs, outputs) = (model.input_ids().len(), model.output_ids().len());
            ensure!(
                (inputs, outputs) == (1, 1),
                "{}: expected a model with one input and one output, found {inputs} and {outputs}",
                name()
            );
            let pool = ThreadPool::with_num_threads(rayon::current_num_threads());
            Ok(Self {
                path: path.to_owned(),
                model,
                options: RunOptions::default().with_thread_pool(Some(Arc::new(pool))),
            })
        }

        /// Channels of the images it takes; 3 where the model does not say.
        pub fn channels(&self) -> usize {
            let input = self.model.input_ids().first().copied();
            let shape = input
                .and_then(|id| self.model.node_info(id))
                .and_then(|info| info.shape());
            match shape.as_deref().and_then(|shape| shape.get(1)) {
                Some(Dimension::Fixed(channels)) => *channels,
                _ => 3,
            }
        }

        /// Runs the model on images; the result may have another size and number of channels.
        pub fn run(&self, batch: &Batch) -> anyhow::Result<Batch> {
            let shape = [batch.n, batch.c, batch.h, batch.w];
            let (shape, data) = guarded(|| {
                let input = Value::from_shape(&shape, to_planes(batch))?;
                let output = self
                    .model
                    .run_one(input.into(), Some(self.options.clone()))?;
                Ok(output.into_shape_vec::<f32, 4>()?)
            })
            .with_context(|| format!("input of {shape:?} (n, c, h, w)"))
            .with_context(|| self.path.display().to_string())?;
            Ok(from_planes(shape, &data))
        }
    }

    impl Denoise for RtenModel {
        fn channels(&self) -> usize {
            self.channels()
        }

        /// Unknown; assumed to be that of the paper's network.
        fn grid(&self) -> Grid {
            UNet::default().grid()
        }

        fn denoise(&mut self, noisy: &Batch) -> n2n::Result<Batch> {
            let denoised = self.run(noisy).map_err(|error| Error::Engine {
                reason: format!("{error:#}"),
            })?;
            let shape = |batch: &Batch| [batch.n, batch.c, batch.h, batch.w];
            let (expected, got) = (shape(noisy), shape(&denoised));
            if expected == got {
                return Ok(denoised);
            }
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            Err(Error::value("shape of the model's output", expected, got))
        }

        /// Unknown, so no tiles: how far a foreign model looks is also unknown.
        fn working_bytes(&self, _: usize, _: usize) -> u64 {
            0
        }

        fn device(&self) -> String {
            "rten".into()
        }
    }

    /// A model is data from outside, so a panic of rten becomes an error like any other.
    fn guarded<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let said = (panic.downcast_ref::<String>().map(String::as_str))
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(anyhow!("rten panicked: {}", said.unwrap_or("no reason")))
        })
    }

    /// From the order n, h, w, c to n, c, h, w.
    fn to_planes(batch: &Batch) -> Vec<f32> {
        let mut data = Vec::with_capacity(batch.data.len());
        for i in 0..batch.n {
            for channel in 0..batch.c {
                let plane = batch.image(i).iter().skip(channel).step_by(batch.c);
                data.extend(plane);
            }
        }
        data
    }

    /// From the order n, c, h, w to n, h, w, c.
    fn from_planes([n, c, h, w]: [usize; 4], data: &[f32]) -> Batch {
        let mut batch = Batch::zeros(n, h, w, c);
        for (i, planes) in data.chunks_exact((c * h * w).max(1)).enumerate() {
            for (channel, plane) in planes.chunks_exact(h * w).enumerate() {
                let pixels = batch.image_mut(i).iter_mut().skip(channel).step_by(c);
                for (to, from) in pixels.zip(plane) {
                    *to = *from;
                }
            }
        }
        batch
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn planes_are_separate_channels_and_come_back() {
            let values = (0..12).map(|i| i as f32).collect();
            let batch = Batch::new(2, 1, 2, 3, values);
            let planes = to_planes(&batch);
            assert_eq!(planes, [0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.]);
            assert_eq!(from_planes([2, 3, 1, 2], &planes), batch);
        }

        #[test]
        fn a_panic_is_an_error_that_says_why() {
            let error = guarded::<()>(|| panic!("for {}", "a reason")).unwrap_err();
            assert_eq!(error.to_string(), "rten panicked: for a reason");
        }
    }
}

#[cfg(not(feature = "rten"))]
mod without_rten {
    use std::path::Path;

    use n2n::batch::Batch;
    use n2n::network::Denoise;
    use n2n::unet::Grid;

    /// What a build without rten has in its place: nothing, and an error that says so.
    pub enum RtenModel {}

    impl RtenModel {
        /// Always an error.
        pub fn from_bytes(_: Vec<u8>, path: &Path) -> anyhow::Result<Self> {
            anyhow::bail!(
                "{}: this build of n2n has no rten; build it with the cargo feature `rten`",
                path.display()
            )
        }

        /// Never called: there is no model to call it on.
        pub fn channels(&self) -> usize {
            match *self {}
        }

        /// Never called, as above.
        pub fn run(&self, _: &Batch) -> anyhow::Result<Batch> {
            match *self {}
        }
    }

    impl Denoise for RtenModel {
        fn channels(&self) -> usize {
            match *self {}
        }

        fn grid(&self) -> Grid {
            match *self {}
        }

        fn denoise(&mut self, _: &Batch) -> n2n::Result<Batch> {
            match *self {}
        }

        fn working_bytes(&self, _: usize, _: usize) -> u64 {
            match *self {}
        }

        fn device(&self) -> String {
            match *self {}
        }
    }
}
