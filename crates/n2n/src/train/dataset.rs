//! The training images: found and decoded once at the start, kept in memory as far as a limit goes.
//!
//! Decoding everything first costs about two milliseconds an image and a core, and settles at the
//! start what could otherwise stop a run on its second day: which files are images, how many there
//! are, which are smaller than a patch.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rayon::prelude::*;

use crate::error::Result;
use crate::files;
use crate::image::{self, EXTENSIONS, Image, Packed};
use crate::train::Event;

/// Images decoded between two reports of progress.
const STRIDE: usize = 64;

/// Readable images in the order of their paths, all with the same channels.
#[derive(Debug)]
pub struct Dataset {
    images: Vec<Entry>,
    channels: usize,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    height: usize,
    width: usize,
    /// The decoded image, when the limit left room for it.
    kept: Option<Packed>,
}

impl Dataset {
    /// Finds the images below `folder` and decodes each, converting it to `channels` channels (1 or
    /// 3); files that cannot be decoded are reported and left out. Images are kept in memory up to
    /// `cache_bytes` in all.
    ///
    /// A folder without a single file of the right name is an error.
    pub fn open(
        folder: &Path,
        excluded: &[&Path],
        channels: usize,
        cache_bytes: usize,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<Self> {
        let paths = files::find_outside(folder, &EXTENSIONS, excluded)?;
        if paths.is_empty() {
            return Err(image::none_in(folder));
        }
        let total = paths.len();
        let room = AtomicUsize::new(cache_bytes);
        let mut images = Vec::with_capacity(total);
        let mut paths = paths.into_iter();
        for done in (0..total).step_by(STRIDE) {
            observe(&Event::Scanned { done, total });
            let stride: Vec<_> = paths.by_ref().take(STRIDE).collect();
            let entries: Vec<_> = stride
                .into_par_iter()
                .map(|path| {
                    let image = read(&path, channels);
                    (
                        path,
                        image.map(|image| (image.height(), image.width(), keep(image, &room))),
                    )
                })
                .collect();
            for (path, decoded) in entries {
                match decoded {
                    Ok((height, width, kept)) => images.push(Entry {
                        path,
                        height,
                        width,
                        kept,
                    }),
                    Err(error) => observe(&Event::Skipped { error }),
                }
            }
        }
        observe(&Event::Scanned { done: total, total });
        Ok(Self { images, channels })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether no image could be decoded.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Channels of every image.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Height and width of each image.
    pub fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        self.images.iter().map(|entry| (entry.height, entry.width))
    }

    /// An image, from memory or from its file.
    pub fn image(&self, index: usize) -> Result<Cow<'_, Packed>> {
        let entry = &self.images[index];
        match &entry.kept {
            Some(image) => Ok(Cow::Borrowed(image)),
            None => read(&entry.path, self.channels).map(Cow::Owned),
        }
    }
}

fn read(path: &Path, channels: usize) -> Result<Packed> {
    let image = Image::read(path)?.with_channels(channels);
    Ok(Packed::from(&image))
}

fn keep(image: Packed, room: &AtomicUsize) -> Option<Packed> {
    let bytes = image.bytes();
    room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(bytes))
        .is_ok()
        .then_some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::image::Depth;

    fn write_grey(path: &Path, height: usize, width: usize, value: f32) {
        let image = Image {
            height,
            width,
            channels: 1,
            data: vec![value; height * width],
            depth: Depth::U8,
        };
        image.write(path).unwrap();
    }

    #[test]
    fn unreadable_files_are_reported_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        write_grey(&folder.path().join("a.png"), 3, 5, 0.2);
        std::fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not meant to be one").unwrap();
        write_grey(&folder.path().join("c.png"), 7, 2, 0.4);
        // A header that promises more than the file holds.
        let whole = std::fs::read(folder.path().join("a.png")).unwrap();
        std::fs::write(folder.path().join("d.png"), &whole[..whole.len() / 2]).unwrap();

        let mut skipped = vec![];
        let dataset = Dataset::open(folder.path(), &[], 3, 0, &mut |event| {
            if let Event::Skipped { error } = event {
                skipped.push(error.to_string());
            }
        })
        .unwrap();
        assert_eq!(dataset.sizes().collect::<Vec<_>>(), [(3, 5), (7, 2)]);
        assert_eq!(skipped.len(), 2);
        assert!(skipped[0].contains("b.jpg") && skipped[1].contains("d.png"));

        let mut crop = [0.0; 3];
        dataset.image(1).unwrap().crop(0, 0, 1, &mut crop);
        assert_eq!(crop, [102.0 / 255.0; 3]);
    }

    #[test]
    fn images_are_decoded_once_as_far_as_the_limit_goes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            write_grey(&folder.path().join(name), 10, 10, 0.5);
        }
        let dataset = Dataset::open(folder.path(), &[], 1, 250, &mut |_| {}).unwrap();
        std::fs::remove_dir_all(folder.path()).unwrap();
        let kept = (0..3).filter(|&index| dataset.image(index).is_ok());
        assert_eq!(kept.count(), 2);
    }

    #[test]
    fn a_folder_without_images_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let error = Dataset::open(folder.path(), &[], 3, 0, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Nothing { .. }), "{error}");
    }
}
