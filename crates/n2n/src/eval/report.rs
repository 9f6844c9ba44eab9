//! The results of an evaluation, and their export: the images as a CSV table, everything as JSON.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::set::Set;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// The scores of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The noise that was added, as the reference spells it.
    pub noise: String,
    /// Whether the mean over the flips and rotations of each image was scored.
    pub ensemble: bool,
    /// The seed of the random stream.
    pub seed: u32,
    /// The device that the network ran on.
    pub device: String,
    /// The processor level of the network's kernels, if it has one; set by the creator of the network.
    pub cpu_level: Option<String>,
    /// Wall time of the whole evaluation: reading, noise, network and metrics.
    pub elapsed_s: f64,
    /// The mean scores of each set, in the order of evaluation.
    pub sets: Vec<SetScore>,
    /// The scores of each image in each repeat, in the order of evaluation.
    pub images: Vec<ImageScore>,
}

/// The mean scores of a set, over all its images and repeats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetScore {
    /// The set.
    pub set: Set,
    /// Number of images in it.
    pub images: usize,
    /// Number of passes over it.
    pub repeats: usize,
    /// Mean of the images' PSNR in dB; infinite if an image was restored perfectly.
    pub psnr_db: f64,
    /// Mean of the images' structural similarity.
    pub ssim: f64,
}

/// The scores of one image in one repeat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageScore {
    /// Its set.
    pub set: Set,
    /// The pass over the set, from 1.
    pub repeat: usize,
    /// The name of its file.
    pub name: String,
    /// PSNR in dB; infinite if the image was restored perfectly.
    pub psnr_db: f64,
    /// Structural similarity.
    pub ssim: f64,
}

impl SetScore {
    /// The line that is printed and logged, in the reference's format: every digit of the scores.
    pub fn line(&self) -> String {
        format!(
            "[EVAL] {}: psnr:{:?} ssim:{:?}",
            self.set, self.psnr_db, self.ssim
        )
    }
}

impl Report {
    /// Images per second, over the whole evaluation.
    pub fn images_per_s(&self) -> f64 {
        self.images.len() as f64 / self.elapsed_s
    }

    /// Writes a line for each image and repeat, after a header: `set`, `repeat`, `name`, `psnr_db`, `ssim`. The file
    /// is written whole or not at all.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| self.csv(file).map_err(Error::io(path)))
    }

    /// Writes the whole report; an infinite PSNR becomes `null`, because JSON has no infinity. The file is written
    /// whole or not at all.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write_atomically(path, |file| self.json(file).map_err(Error::io(path)))
    }

    fn csv(&self, to: impl Write) -> io::Result<()> {
        let mut table = csv::Writer::from_writer(to);
        for image in &self.images {
            table.serialize(image)?;
        }
        table.flush()
    }

    fn json(&self, mut to: impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut to, self)?;
        writeln!(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let image = |repeat, name: &str, psnr_db, ssim| ImageScore {
            set: Set::Bsd300,
            repeat,
            name: name.into(),
            psnr_db,
            ssim,
        };
        Report {
            noise: "gauss25".into(),
            ensemble: false,
            seed: 101,
            device: "cpu scalar".into(),
            cpu_level: Some("scalar".into()),
            elapsed_s: 0.5,
            sets: vec![SetScore {
                set: Set::Bsd300,
                images: 1,
                repeats: 2,
                psnr_db: 30.910_791_861_936_413,
                ssim: 0.876_626_429_580_203_2,
            }],
            images: vec![
                image(
                    1,
                    "a, b.png",
                    30.910_791_861_936_413,
                    0.876_626_429_580_203_2,
                ),
                image(2, "a, b.png", f64::INFINITY, 1.0),
            ],
        }
    }

    #[test]
    fn csv_has_a_line_for_each_image_and_keeps_every_digit() {
        let mut table = Vec::new();
        report().csv(&mut table).unwrap();
        assert_eq!(
            String::from_utf8(table).unwrap(),
            "set,repeat,name,psnr_db,ssim\n\
             BSD300,1,\"a, b.png\",30.910791861936413,0.8766264295802032\n\
             BSD300,2,\"a, b.png\",inf,1.0\n"
        );
    }

    #[test]
    fn json_holds_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("scores.json");
        report().write_json(&path).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let want = serde_json::json!({
            "noise": "gauss25",
            "ensemble": false,
            "seed": 101,
            "device": "cpu scalar",
            "cpu_level": "scalar",
            "elapsed_s": 0.5,
            "sets": [{
                "set": "BSD300",
                "images": 1,
                "repeats": 2,
                "psnr_db": 30.910_791_861_936_413,
                "ssim": 0.876_626_429_580_203_2,
            }],
            "images": [
                {
                    "set": "BSD300",
                    "repeat": 1,
                    "name": "a, b.png",
                    "psnr_db": 30.910_791_861_936_413,
                    "ssim": 0.876_626_429_580_203_2,
                },
                {"set": "BSD300", "repeat": 2, "name": "a, b.png", "psnr_db": null, "ssim": 1.0},
            ],
        });
        assert_eq!(read, want);
    }

    #[test]
    fn a_set_has_its_line() {
        let mut score = report().sets.remove(0);
        assert_eq!(
            score.line(),
            "[EVAL] BSD300: psnr:30.910791861936413 ssim:0.8766264295802032"
        );
        (score.psnr_db, score.ssim) = (31.0, 1.0);
        assert_eq!(score.line(), "[EVAL] BSD300: psnr:31.0 ssim:1.0");
    }

    #[test]
    fn the_rate_counts_every_repeat() {
        assert_eq!(report().images_per_s(), 4.0);
    }
}
