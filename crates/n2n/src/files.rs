//! Files and folders: finding inputs, and writing outputs so that none is ever half-written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use walkdir::WalkDir;

use crate::error::{Error, Result};

/// Writes `path` whole or not at all: to a temporary name in the same folder, then renamed.
///
/// Missing parent folders are created. If `write` fails, nothing at `path` changes. Links are followed: their target
/// is replaced; a broken link is itself replaced. Pipes and devices (`/dev/stdout`) cannot be replaced; they are
/// written directly.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    let fill = |file: &mut File| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush().map_err(Error::io(path))
    };
    if is_device(path) {
        let file = File::options().write(true).open(path);
        return fill(&mut file.map_err(Error::io(path))?);
    }
    let (mut unfinished, target) = replacement(path)?;
    fill(unfinished.file().as_file_mut())?;
    // The new file keeps the permissions of the one it replaces.
    if let Ok(replaced) = fs::metadata(&target) {
        let file = unfinished.file().as_file();
        file.set_permissions(replaced.permissions())
            .map_err(Error::io(path))?;
    }
    unfinished
        .file()
        .as_file()
        .sync_all()
        .map_err(Error::io(path))?;
    unfinished.persist(&target).map_err(Error::io(path))
}

/// Removes files that [`write_atomically`] has started but not finished, for a program that is about to exit in the
/// middle of its work. Until it exits, every other thread that starts or finishes a file waits.
pub fn remove_unfinished() {
    let unfinished = lock();
    for path in unfinished.iter() {
        // Files that cannot be removed are left: there is no one to report it to.
        let _ = fs::remove_file(path);
    }
    std::mem::forget(unfinished);
}

/// The temporary files of this process, which a signal must not leave behind.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file that is removed unless it becomes a permanent one.
struct Unfinished(Option<tempfile::NamedTempFile>);

impl Unfinished {
    fn in_folder(folder: &Path) -> io::Result<Self> {
        let mut unfinished = lock();
        let file = temporary_file(folder)?;
        unfinished.push(file.path().to_path_buf());
        Ok(Self(Some(file)))
    }

    fn file(&mut self) -> &mut tempfile::NamedTempFile {
        self.0.as_mut().expect("there until it is finished")
    }

    fn persist(mut self, target: &Path) -> io::Result<()> {
        let mut unfinished = lock();
        let Some(file) = self.0.take() else {
            return Ok(());
        };
        unfinished.retain(|path| path != file.path());
        file.persist(target)
            .map(drop)
            .map_err(|failed| failed.error)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            let mut unfinished = lock();
            unfinished.retain(|path| path != file.path());
            drop(file);
        }
    }
}

/// Rejects a path that [`write_atomically`] could not write to, for use before long work whose result would be lost.
/// Nothing changes, except that missing parent folders are created.
pub fn check_writable(path: &Path) -> Result<()> {
    if is_device(path) {
        return Ok(());
    }
    if path.is_dir() {
        return Err(Error::io(path)(io::ErrorKind::IsADirectory.into()));
    }
    replacement(path).map(drop)
}

/// The files below `root` (searched recursively, sorted by path) whose lower-cased extension is one of `extensions`.
///
/// The order is that of the paths as byte strings. Links are followed; one that leads back to a folder above itself
/// adds nothing. A broken link is listed if its name matches, so that opening it reports the problem.
pub fn find(root: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    if !fs::metadata(root).map_err(Error::io(root))?.is_dir() {
        return Err(Error::io(root)(io::ErrorKind::NotADirectory.into()));
    }
    let wanted = |path: &Path| {
        path.extension().is_some_and(|found| {
            extensions
                .iter()
                .any(|extension| found.eq_ignore_ascii_case(extension))
        })
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(root).follow_links(true) {
        let path = match entry {
            Ok(entry) if entry.file_type().is_file() => entry.into_path(),
            Ok(_) => continue,
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => match error.path() {
                Some(path) if path.is_symlink() => path.to_path_buf(),
                path => {
                    let path = path.unwrap_or(root).to_path_buf();
                    let reason = error.into_io_error();
                    return Err(Error::io(path)(
                        reason.unwrap_or(io::ErrorKind::Other.into()),
                    ));
                }
            },
        };
        if wanted(&path) {
            files.push(path);
        }
    }
    files.sort_by(|a, b| {
        let (a, b) = (a.as_os_str(), b.as_os_str());
        a.as_encoded_bytes().cmp(b.as_encoded_bytes())
    });
    Ok(files)
}

/// Whether the path is a pipe, a device or similar.
pub fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// A temporary file in the folder of the file that `path` names or links to, and that file's path.
fn replacement(path: &Path) -> Result<(Unfinished, PathBuf)> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|error| {
        Error::io(folder)(match error.kind() {
            // Reported for a file where a folder should be.
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        })
    })?;
    let file = Unfinished::in_folder(folder).map_err(Error::io(path))?;
    Ok((file, target))
}

/// The files that [`find`] finds, except those inside the folders `excluded` below `root`: the outputs of an earlier
/// run are not inputs of this one. Folders are compared by their real location, not by the spelling of their path.
pub fn find_outside(root: &Path, extensions: &[&str], excluded: &[&Path]) -> Result<Vec<PathBuf>> {
    let mut files = find(root, extensions)?;
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let root = real(root);
    let below = |folder: &PathBuf| *folder != root && folder.starts_with(&root);
    let excluded: Vec<_> = excluded
        .iter()
        .map(|folder| real(folder))
        .filter(below)
        .collect();
    if !excluded.is_empty() {
        files.retain(|file| {
            let file = real(file);
            !excluded.iter().any(|folder| file.starts_with(folder))
        });
    }
    Ok(files)
}

fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // Not the extension of an image or weight file: a file left behind by a crash is never taken for an input.
    builder.prefix(".n2n-").suffix(".partial");
    #[cfg(unix)]
    {
        // The permissions of an ordinary new file, which the umask then restricts; the crate's default is meant for
        // secrets, readable by the owner alone.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_text(path: &Path, text: &str) -> Result<()> {
        write_atomically(path, |out| {
            out.write_all(text.as_bytes()).map_err(Error::io(path))
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn writing_makes_folders_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.txt");
        write_text(&path, "first, and longer").unwrap();
        write_text(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(names(path.parent().unwrap()), ["c.txt"]);
    }

    #[test]
    fn a_failed_write_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.txt");
        write_text(&path, "kept").unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(b"half of").unwrap();
            Err(Error::value("this", "to work", "a failure"))
        });
        assert!(matches!(error, Err(Error::Value { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        assert_eq!(names(dir.path()), ["kept.txt"]);
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder.png");
        fs::create_dir_all(folder.join("full")).unwrap();
        write_text(&dir.path().join("file"), "text").unwrap();
        let file = dir.path().join("file");
        for (path, named) in [
            (&folder, &folder),
            (&file.join("below.txt"), &file),
            (&file.join("far/below.txt"), &file),
        ] {
            for refused in [write_text(path, "text"), check_writable(path)] {
                let error = refused.unwrap_err().to_string();
                assert!(error.contains(named.to_str().unwrap()), "{error}");
            }
        }
        assert_eq!(names(dir.path()), ["file", "folder.png"]);
    }

    #[test]
    fn asking_whether_a_path_can_be_written_changes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.txt");
        write_text(&path, "kept").unwrap();
        check_writable(&path).unwrap();
        check_writable(&dir.path().join("new.txt")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        assert_eq!(names(dir.path()), ["kept.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_written_file_has_the_rights_of_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name| {
            let path = dir.path().join(name);
            fs::metadata(path).unwrap().permissions().mode()
        };
        fs::write(dir.path().join("ordinary"), "").unwrap();
        write_text(&dir.path().join("atomic"), "").unwrap();
        assert_eq!(mode("atomic"), mode("ordinary"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_stay_devices() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        write_text(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_text(&link, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");

        write_text(Path::new("/dev/null"), "nothing").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn files_are_found_below_a_folder_in_the_order_of_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.png", "a/z.JPEG", "a.b/y.Jpg", "B.PNG", "c.txt", "png"] {
            write_text(&dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("folder.png")).unwrap();
        let found = find(dir.path(), &["jpeg", "jpg", "png"]).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap())
            .collect();
        // '.' sorts before '/', and upper case before lower case.
        assert_eq!(found, ["B.PNG", "a.b/y.Jpg", "a/z.JPEG", "b.png"]);
    }

    #[test]
    fn a_root_that_is_no_folder_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file.png");
        write_text(&file, "").unwrap();
        for root in [&file, &dir.path().join("missing")] {
            let error = find(root, &["png"]).unwrap_err().to_string();
            assert!(error.contains(root.to_str().unwrap()), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_to_folders_are_searched_once_and_dangling_ones_are_listed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        write_text(&elsewhere.path().join("far.png"), "").unwrap();
        write_text(&dir.path().join("near.png"), "").unwrap();
        symlink(elsewhere.path(), dir.path().join("link")).unwrap();
        symlink(dir.path(), elsewhere.path().join("loop")).unwrap();
        symlink(dir.path(), dir.path().join("self")).unwrap();
        symlink("nowhere", dir.path().join("lost.png")).unwrap();
        symlink("nowhere", dir.path().join("lost.txt")).unwrap();
        let found = find(dir.path(), &["png"]).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(found, ["link/far.png", "lost.png", "near.png"]);
    }
}
