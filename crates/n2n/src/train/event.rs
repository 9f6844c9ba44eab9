//! The events of a run, and the lines of the training log. Lines that the reference also prints match it to the letter,
//! because people grep and plot them.

use std::path::PathBuf;

use crate::denoise::{ModelRange, type_name};
use crate::diagnose::Diagnosis;
use crate::error::Error;
use crate::eval::report::SetScore;
use crate::network::Losses;
use crate::repair::Repaired;
use crate::train::config::Span;
use crate::train::spacing::Spacing;
use crate::words::shown;

/// Something that happened during a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Items of the source have been read.
    Scanned {
        /// Items read so far.
        done: usize,
        /// Items in total.
        total: usize,
    },
    /// An image cannot be used and is skipped.
    Skipped {
        /// The image and the reason.
        error: Error,
    },
    /// No image is as large as the patches, so smaller patches are used, and more of them.
    PatchesReduced {
        /// Side of the patches in pixels, before and after.
        patchsizes: [usize; 2],
        /// Patches per batch, before and after.
        batchsizes: [usize; 2],
    },
    /// Images are smaller than the patch and are padded by reflection.
    Padded {
        /// How many.
        images: usize,
        /// Side of the patch in pixels.
        patchsize: usize,
    },
    /// Sensor faults were corrected in the images in memory; other images are corrected when they are read.
    Repaired(Repaired),
    /// Images are held out of training, for validation.
    HeldOut {
        /// How many.
        images: usize,
    },
    /// The range, measured or set: the values of the images that map to the network's 0 and 1.
    RangeSet(ModelRange),
    /// The images have several types, so no range could be measured.
    MixedTypes,
    /// All pixels of all images have the same value: there is neither signal nor noise to learn from.
    Constant,
    /// The noise of the training images was analyzed.
    Diagnosed {
        /// The result.
        diagnosis: Box<Diagnosis>,
        /// The distance between the pixels of a patch.
        spacing: Spacing,
    },
    /// An interrupted run continues.
    Resumed {
        /// The current epoch, counted from 1.
        epoch: usize,
        /// Steps taken in it.
        iteration: usize,
        /// Steps taken in total.
        steps: u64,
        /// The device used so far, if it differs from the current one. Results then differ in their last bits, and the
        /// random noise differs too if one of the two devices draws its own.
        other_device: Option<String>,
    },
    /// The training images are ready.
    Fetched {
        /// How many.
        samples: usize,
    },
    /// The run begins.
    Began {
        /// Patches per batch.
        batchsize: usize,
        /// Number of epochs, unless there is a time budget.
        n_epoch: usize,
        /// Iterations per epoch.
        iterations: usize,
        /// Time budget, if there is one.
        time_budget: Option<Span>,
    },
    /// An epoch begins.
    EpochBegan {
        /// Epoch, counted from 1.
        epoch: usize,
        /// Its learning rate.
        learning_rate: f64,
    },
    /// A step was taken.
    Stepped(Step),
    /// A numbered checkpoint was written.
    Saved {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint that the run is resumed from was written.
    LatestSaved {
        /// The file.
        path: PathBuf,
    },
    /// An image of the validation set was scored.
    Scored {
        /// Images scored, over all repeats.
        done: usize,
        /// Images to score, over all repeats.
        total: usize,
    },
    /// The network was scored on the whole validation set.
    Evaluated(SetScore),
    /// The network was tried on the held-out images.
    HeldOutEvaluated {
        /// The losses, with Λ of the last epoch.
        losses: Losses,
        /// An estimate of the mean squared error of the denoised images (Stein's unbiased risk estimate), on the scale
        /// on which the network's range is 0 to 1, if the noise could be measured.
        sure: Option<f64>,
    },
    /// The network fails on whole images, although it does not on parts of the size that it is trained on.
    FailsOnWhole {
        /// The root mean square of its changes, on whole images and on the same pixels in parts; the network's range is
        /// 0 to 1.
        changes: [f64; 2],
        /// Side of the patches in pixels.
        patchsize: usize,
    },
    /// The network has collapsed, or has not learned anything yet.
    Collapsed(Collapse),
    /// The run's report, an HTML page, was written.
    Reported {
        /// The file.
        path: PathBuf,
    },
}

/// In what way a network is useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collapse {
    /// It returns its input.
    Identity,
    /// It returns the same value for every pixel.
    Constant,
}

/// A training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Iteration within the epoch, counted from 1.
    pub iteration: usize,
    /// The statistics of the step. On a device that reports only now and then, the last report, if there is one.
    pub stats: Option<StepStats>,
    /// Λ of the epoch.
    pub lambda: f64,
    /// The fraction of the run that has passed, 0..=1.
    pub passed: f64,
    /// Whether the step is a line of the log; the statistics are then current.
    pub logged: bool,
}

/// The statistics of a step, or the means over several steps that a device reports together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStats {
    /// The losses before the update.
    pub losses: Losses,
    /// Duration of the step in seconds, without the wait for its batch.
    pub elapsed_s: f64,
    /// The wait for its batch, in seconds.
    pub waited_s: f64,
}

impl Event {
    /// The event as a line of the training log, without the line ending; `None` if it is not logged.
    pub fn line(&self) -> Option<String> {
        Some(match self {
            Self::RangeSet(ModelRange { low, high, depth }) => format!(
                "values {} to {} ({}) map to the network's 0 to 1",
                shown(*low),
                shown(*high),
                type_name(*depth)
            ),
            Self::Fetched { samples } => format!("fetch {samples} samples for training"),
            Self::Began {
                batchsize,
                time_budget: Some(budget),
                ..
            } => format!("Batchsize={batchsize}, time budget={budget}"),
            Self::Began {
                batchsize, n_epoch, ..
            } => format!("Batchsize={batchsize}, number of epoch={n_epoch}"),
            Self::EpochBegan {
                epoch,
                learning_rate,
            } => {
                let rate = python_float(*learning_rate);
                format!("LearningRate of Epoch {epoch} = {rate}")
            }
            Self::Stepped(step) if step.logged => step.line()?,
            Self::Saved { path } => format!("Checkpoint saved to {}", path.display()),
            Self::Evaluated(score) => score.line(),
            Self::HeldOutEvaluated {
                losses:
                    Losses {
                        loss1,
                        loss2,
                        loss_full,
                    },
                sure,
            } => {
                let sure = sure.map(|sure| format!(", SURE={sure:.6}"));
                format!(
                    "[EVAL] held out: Loss1={loss1:.6}, Loss2={loss2:.6}, \
                     Loss_Full={loss_full:.6}{}",
                    sure.unwrap_or_default()
                )
            }
            _ => return None,
        })
    }
}

impl Step {
    fn line(&self) -> Option<String> {
        let StepStats {
            losses:
                Losses {
                    loss1,
                    loss2,
                    loss_full,
                },
            elapsed_s,
            ..
        } = self.stats?;
        Some(format!(
            "{:04} {:05} Loss1={loss1:.6}, Lambda={}, Loss2={loss2:.6}, Loss_Full={loss_full:.6}, \
             Time={elapsed_s:.4}",
            self.epoch,
            self.iteration,
            python_float(self.lambda),
        ))
    }
}

/// A number as Python's `repr` writes it: the fewest digits that give it back, always with a point
/// or an exponent, and the exponent with its sign and two digits at least.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    // The digits, and the magnitudes from which an exponent is used, are the same in Rust.
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Set;

    /// `repr` of each number in Python 3.
    #[test]
    fn numbers_are_written_as_python_does() {
        for (number, expected) in [
            (0.0003, "0.0003"),
            (0.00015, "0.00015"),
            (0.0001, "0.0001"),
            (7.5e-5, "7.5e-05"),
            (1.875e-5, "1.875e-05"),
            (1e-4 * 1e-4, "1e-08"),
            (1e-300, "1e-300"),
            (2.0, "2.0"),
            (0.3 * 2.0, "0.6"),
            (0.02, "0.02"),
            (0.1 + 0.2, "0.30000000000000004"),
            (30.910_791_861_936_413, "30.910791861936413"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e22, "1.5e+22"),
            (0.0, "0.0"),
            (-7.5e-5, "-7.5e-05"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(python_float(number), expected);
        }
    }

    /// Lines of the reference's own log.
    #[test]
    fn the_log_reads_as_the_references() {
        let lines = [
            Event::Fetched { samples: 44328 },
            Event::Began {
                batchsize: 4,
                n_epoch: 100,
                iterations: 11082,
                time_budget: None,
            },
            Event::EpochBegan {
                epoch: 1,
                learning_rate: 3e-4,
            },
            Event::Stepped(Step {
                epoch: 100,
                iteration: 11000,
                stats: Some(StepStats {
                    losses: Losses {
                        loss1: 0.014_327,
                        loss2: 0.019_858,
                        loss_full: 0.034_185_9,
                    },
                    elapsed_s: 0.04751,
                    waited_s: 0.0,
                }),
                lambda: 2.0,
                passed: 1.0,
                logged: true,
            }),
            Event::Saved {
                path: "./results/unet/epoch_model_100.safetensors".into(),
            },
            Event::Evaluated(SetScore {
                set: Set::Bsd300,
                images: 100,
                repeats: 3,
                psnr_db: 30.910_791_861_936_413,
                ssim: 0.876_626_429_580_203_2,
            }),
        ]
        .map(|event| event.line().unwrap());
        assert_eq!(
            lines,
            [
                "fetch 44328 samples for training",
                "Batchsize=4, number of epoch=100",
                "LearningRate of Epoch 1 = 0.0003",
                "0100 11000 Loss1=0.014327, Lambda=2.0, Loss2=0.019858, Loss_Full=0.034186, \
                 Time=0.0475",
                "Checkpoint saved to ./results/unet/epoch_model_100.safetensors",
                "[EVAL] BSD300: psnr:30.910791861936413 ssim:0.8766264295802032",
            ]
        );
    }
}
