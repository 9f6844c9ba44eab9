//! `n2n man`

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use n2n::{Error, files};

use crate::args;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: &args::Man, ui: Ui) -> anyhow::Result<ExitCode> {
    let mut program = args::command();
    // The pages of commands then show the flags that every command takes.
    program.build();
    let Some(folder) = &args.save_dir else {
        ui.result_bytes(&page(&program)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    write(&program, folder, ui)?;
    for command in program.get_subcommands() {
        if command.get_name() != "help" {
            write(command, folder, ui)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(command: &clap::Command, folder: &Path, ui: Ui) -> anyhow::Result<()> {
    // For a command, this includes the name of the program.
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    let page = page(command)?;
    files::write_atomically(&path, |file| {
        file.write_all(&page).map_err(Error::io(&path))
    })?;
    ui.result(path.display())
}

fn page(command: &clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut page = vec![];
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
