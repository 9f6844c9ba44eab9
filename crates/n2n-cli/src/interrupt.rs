//! What a signal that asks the program to end does: it removes unfinished files and ends it at once.
//! The command at work may ask to be let to an end of its own, or for some last words.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use n2n::files;

use crate::ui::Ui;

/// The exit code of a program that a signal ended, as shells give it for an interrupt.
pub const STATUS: u8 = 130;

/// What a command has to do before the end.
static BEFORE_END: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// How long it may take: a pipe that nobody reads, or a disk that is gone, must not keep the program.
const PATIENCE: Duration = Duration::from_secs(2);

/// The flag of a command that ends by itself.
static STOP: OnceLock<(Arc<AtomicBool>, Ui)> = OnceLock::new();

/// Watches for the signals, from now on.
pub fn watch() {
    // Where there is no way to be told, a signal ends the program as it always did.
    let _ = ctrlc::set_handler(|| {
        if let Some((stop, ui)) = STOP.get()
            && !stop.swap(true, Relaxed)
        {
            ui.note("stopping after this step; press Ctrl-C again to stop immediately");
            return;
        }
        if let Some(last) = taken() {
            let (done, wait) = mpsc::channel();
            thread::spawn(move || {
                last();
                done.send(())
            });
            let _ = wait.recv_timeout(PATIENCE);
        }
        files::remove_unfinished();
        process::exit(STATUS.into());
    });
}

/// A flag that the first signal sets; only the second ends the process.
pub fn stop_flag(ui: Ui) -> Arc<AtomicBool> {
    Arc::clone(&STOP.get_or_init(|| (Arc::default(), ui)).0)
}

/// Has `last` done before a signal ends the process, until [`withdraw`].
pub fn before_end(last: impl FnOnce() + Send + 'static) {
    *BEFORE_END.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(last));
}

/// Takes back what [`before_end`] asked for. Does not return if a signal came first, for then the
/// process is about to end.
pub fn withdraw() {
    if taken().is_none() {
        loop {
            thread::park();
        }
    }
}

fn taken() -> Option<Box<dyn FnOnce() + Send>> {
    BEFORE_END
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}
