//! `n2n prepare`

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use n2n::prepare::{Prepare, Prepared, prepare};

use crate::args;
use crate::progress::Progress;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Prepare, ui: Ui) -> anyhow::Result<ExitCode> {
    let config = Prepare {
        input_dir: args.input_dir.clone(),
        save_dir: args.save_dir.clone(),
        min_size: args.min_size,
        max_size: args.max_size,
        magnification: args.magnification,
        interpolation: args.interpolation,
    };
    let progress = Mutex::new(Progress::new(ui, "image"));
    let prepared = prepare(&config, |done, total| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.show(done as f64, total, "");
    });
    drop(progress);
    let prepared = prepared?;
    render(&config, &prepared, ui)?;
    Ok(if prepared.kept() > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(config: &Prepare, prepared: &Prepared, ui: Ui) -> anyhow::Result<()> {
    for error in &prepared.unreadable {
        ui.warn(error);
    }
    let (kept, total) = (prepared.kept(), prepared.total());
    ui.result(format_args!("kept {kept} of {total} images"))?;
    ui.result(format_args!(
        "  {} written, {} already in {}",
        prepared.written.len(),
        prepared.unchanged.len(),
        config.save_dir.display()
    ))?;
    ui.result(format_args!(
        "  {} skipped: width or height outside {} to {}",
        prepared.out_of_range.len(),
        config.min_size,
        config.max_size
    ))?;
    ui.result(format_args!("  {} unreadable", prepared.unreadable.len()))?;
    if kept == 0 {
        ui.error("no training images were kept");
    }
    Ok(())
}
