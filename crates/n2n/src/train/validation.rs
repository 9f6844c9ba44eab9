//! The scores of a snapshot: the paper's evaluation on BSD300, with pictures of its first images.

use std::path::PathBuf;

use crate::error::Result;
use crate::eval::{self, Set};
use crate::network::Network;
use crate::report::SetScore;
use crate::train::config::Config;
use crate::train::event::Event;
use crate::train::folder::RunFolder;

/// The set that runs are scored on, as the reference's are.
const SET: Set = Set::Bsd300;

/// Images of the set whose pictures are kept.
const PICTURES: usize = 5;

/// The evaluation that ends each snapshot's epoch.
#[derive(Debug)]
pub struct Validation {
    settings: eval::Config,
}

impl Validation {
    /// The folder of the images that runs are scored on.
    pub fn folder(config: &Config) -> PathBuf {
        SET.folder(&config.val_dirs)
    }

    /// The evaluation with the run's noise; `None`, reported, when the set's folder is not there. A
    /// folder that cannot be scored is an error now and not after the first epoch.
    pub fn find(config: &Config, observe: &mut dyn FnMut(&Event)) -> Result<Option<Self>> {
        let folder = Self::folder(config);
        if !folder.is_dir() {
            observe(&Event::Unvalidated { folder });
            return Ok(None);
        }
        let settings = eval::Config {
            val_dirs: config.val_dirs.clone(),
            sets: vec![SET],
            repeats: None,
            noise: config.noise,
        };
        eval::check(&settings)?;
        Ok(Some(Self { settings }))
    }

    /// Scores the network after `epoch`; pictures and scores go to the run's folder.
    pub fn score(
        &self,
        network: &mut dyn Network,
        epoch: usize,
        folder: &RunFolder,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<SetScore> {
        let mut report = eval::evaluate(network, &self.settings, |scored| {
            observe(&Event::Scored {
                done: scored.done,
                total: scored.total,
            });
            if scored.score.repeat == 1 && scored.index < PICTURES {
                let paths = folder.pictures(SET.name(), scored.index, epoch);
                let images = [scored.clean, scored.noisy, scored.denoised];
                for (image, path) in images.into_iter().zip(paths) {
                    image.write(&path)?;
                }
            }
            Ok(())
        })?;
        let score = report.sets.swap_remove(0);
        folder.record_scores(&score, epoch)?;
        Ok(score)
    }
}
