//! `n2n completions`

use std::process::ExitCode;

use crate::args;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Completions, ui: Ui) -> anyhow::Result<ExitCode> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut args::command(), "n2n", &mut script);
    ui.result_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
