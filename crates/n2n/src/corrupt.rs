//! Adds noise to the pages of a file, for trying out denoisers.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::Batch;
use crate::denoise::{Range, Scale, Survey};
use crate::error::{Error, Result};
use crate::image::{Limits, Page, Pages};
use crate::noise::Noise;

/// Pages with noise on their color samples; other samples, non-finite values, and pages that are passed through are
/// unchanged. Nothing is clipped, except that Poisson noise on a value below the range gives the low end of the range.
pub struct Corrupted<'a> {
    clean: &'a mut dyn Pages,
    noise: Noise,
    range: Range,
    survey: Option<Survey>,
    rng: ChaCha8Rng,
    /// The noisy page, and how much of it has been read.
    rows: Vec<f32>,
    row: usize,
    read: usize,
}

impl<'a> Corrupted<'a> {
    /// Adds the noise on the scale that `range` gives the values; `survey` covers all pages if
    /// [`Range::needs_survey`] asks for it. The same seed gives the same noise.
    pub fn new(
        clean: &'a mut dyn Pages,
        noise: Noise,
        (range, survey): (Range, Option<Survey>),
        seed: u64,
    ) -> Self {
        Self {
            clean,
            noise,
            range,
            survey,
            rng: ChaCha8Rng::seed_from_u64(seed),
            rows: Vec::new(),
            row: 0,
            read: 0,
        }
    }
}

impl Pages for Corrupted<'_> {
    fn next_page(&mut self) -> Result<Option<Page>> {
        let Some(page) = self.clean.next_page()? else {
            return Ok(None);
        };
        let values = page.height as u64 * page.row_len() as u64;
        let most = Limits::default().samples;
        if values > most {
            let expected = format!("at most {most}");
            return Err(Error::value(
                "values of a page, which are in memory together",
                expected,
                values,
            ));
        }
        let (samples, channels) = (page.samples(), page.color.channels());
        self.rows.clear();
        self.clean.read_rows(page.height, &mut self.rows)?;
        (self.row, self.read) = (page.row_len(), 0);
        if page.metadata.pass_through {
            return Ok(Some(page));
        }
        let Scale { low, high, .. } = self.range.scale(page.depth, self.survey.as_ref());
        let span = high - low;
        let pixels = self.rows.chunks_exact(samples);
        let color = pixels
            .flat_map(|pixel| &pixel[..channels])
            .map(|value| (value - low) / span)
            .collect();
        let batch = Batch::new(1, page.height, page.width, channels, color);
        let noisy = self.noise.corrupt(&batch, &mut self.rng);
        let pixels = self.rows.chunks_exact_mut(samples);
        for (pixel, noisy) in pixels.zip(noisy.data.chunks_exact(channels)) {
            for (value, noisy) in pixel.iter_mut().zip(noisy) {
                if value.is_finite() {
                    *value = low + noisy * span;
                }
            }
        }
        Ok(Some(page))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        let end = self.read + count * self.row;
        rows.extend_from_slice(&self.rows[self.read..end]);
        self.read = end;
        Ok(())
    }
}
