//! Where training images come from: a folder, memory, or any other type that implements [`Source`].

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::files;
use crate::image::{self, EXTENSIONS, Image, Packed};
use crate::words::counted;

/// Images to train on, as a list of items, such as the files of a folder or arrays in memory. An item has one or
/// several images (the pages of a stack).
///
/// Items, their order, names and images must not change during a run. The loader's threads request images
/// concurrently.
pub trait Source: Debug + Send + Sync {
    /// The number of items.
    fn len(&self) -> usize;

    /// Whether there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Describes the source in errors: the path of a folder, or the number of items.
    fn description(&self) -> String {
        counted(self.len(), "item")
    }

    /// The name of an item, unique in the source: it appears in logs and errors, and identifies the item when a run is
    /// resumed.
    fn name(&self, item: usize) -> String;

    /// The path of an item in errors.
    fn path(&self, item: usize) -> PathBuf {
        self.name(item).into()
    }

    /// The images of an item, in order. An error ends the iteration.
    fn images(&self, item: usize) -> Result<Images<'_>>;

    /// One image of an item, by its index in [`Source::images`].
    fn image(&self, item: usize, place: usize) -> Result<Image> {
        let missing = || Error::Image {
            path: self.path(item),
            reason: format!("its image {} no longer exists", place + 1),
        };
        self.images(item)?.nth(place).ok_or_else(missing)?
    }

    /// An image that the source already holds in memory, of which no second copy is then kept.
    fn in_memory(&self, item: usize, place: usize) -> Option<Arc<Packed>> {
        let _ = (item, place);
        None
    }
}

/// The images of an item, decoded on demand.
pub type Images<'a> = Box<dyn Iterator<Item = Result<Image>> + Send + 'a>;

/// The images in a folder and its subfolders, in the order of their paths; or those of a list of files.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
    paths: Vec<PathBuf>,
}

impl Folder {
    /// Finds the files in `folder` and its subfolders whose extensions are those of images, except those in one of the
    /// `excluded` folders.
    ///
    /// # Errors
    /// [`Error::NoFiles`] if there are none.
    pub fn open(folder: &Path, excluded: &[&Path]) -> Result<Self> {
        let paths = files::find_outside(folder, &EXTENSIONS, excluded)?;
        if paths.is_empty() {
            return Err(image::none_in(folder));
        }
        Ok(Self {
            folder: folder.into(),
            paths,
        })
    }

    /// A list of files, each named by its path. A file must not occur twice, because names are unique.
    pub fn of_files(paths: Vec<PathBuf>) -> Self {
        Self {
            folder: PathBuf::new(),
            paths,
        }
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn description(&self) -> String {
        if self.folder.as_os_str().is_empty() {
            counted(self.len(), "file")
        } else {
            self.folder.display().to_string()
        }
    }

    /// The path relative to the folder, with `/` on every system, so that it does not change when the folder is moved.
    fn name(&self, item: usize) -> String {
        let path = &self.paths[item];
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    fn path(&self, item: usize) -> PathBuf {
        self.paths[item].clone()
    }

    fn images(&self, item: usize) -> Result<Images<'_>> {
        Ok(Box::new(image::images(&self.paths[item])?))
    }

    fn image(&self, item: usize, place: usize) -> Result<Image> {
        image::image(&self.paths[item], place)
    }
}

/// Images in memory, in their original sample type: 8-bit samples take one byte each.
///
/// ```
/// use n2n::Image;
/// use n2n::train::{Memory, Source};
///
/// let mut images = Memory::default();
/// images.push("field 1", &Image::from_u16(2, 2, 1, &[410, 398, 402, 405])?);
/// assert_eq!((images.len(), images.name(0).as_str()), (1, "field 1"));
/// assert_eq!(images.description(), "1 image");
/// # Ok::<(), n2n::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Memory {
    images: Vec<(String, Arc<Packed>)>,
}

impl Memory {
    /// Adds a copy of an image, under a unique name.
    pub fn push(&mut self, name: impl Into<String>, image: &Image) {
        let packed = Arc::new(Packed::from(image));
        self.images.push((name.into(), packed));
    }
}

impl FromIterator<Image> for Memory {
    /// Names the images by their index.
    fn from_iter<I: IntoIterator<Item = Image>>(images: I) -> Self {
        let mut memory = Self::default();
        for image in images {
            memory.push(format!("image {}", memory.images.len()), &image);
        }
        memory
    }
}

impl From<&[Image]> for Memory {
    /// Copies the images and names them by their index.
    fn from(images: &[Image]) -> Self {
        let mut memory = Self::default();
        for (place, image) in images.iter().enumerate() {
            memory.push(format!("image {place}"), image);
        }
        memory
    }
}

impl Source for Memory {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn description(&self) -> String {
        counted(self.len(), "image")
    }

    fn name(&self, item: usize) -> String {
        self.images[item].0.clone()
    }

    fn images(&self, item: usize) -> Result<Images<'_>> {
        let image = self.images[item].1.to_image();
        Ok(Box::new(std::iter::once(Ok(image))))
    }

    fn in_memory(&self, item: usize, place: usize) -> Option<Arc<Packed>> {
        (place == 0).then(|| Arc::clone(&self.images[item].1))
    }
}
