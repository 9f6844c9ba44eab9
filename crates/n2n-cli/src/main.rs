//! The program `n2n`: arguments in, library called, results printed. The only crate that prints or
//! exits.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod args;
mod commands;
mod device;
mod interrupt;
mod jobs;
mod progress;
mod rten_engine;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::parse();
    let ui = ui::Ui::new(cli.global.quiet);
    interrupt::watch();
    match run(cli, ui) {
        Ok(code) => code,
        Err(error) => {
            ui.error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: args::Cli, ui: ui::Ui) -> anyhow::Result<ExitCode> {
    if let Some(threads) = cli.global.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()?;
    }
    match cli.command {
        args::Command::Prepare(args) => commands::prepare::run(&args, ui),
        args::Command::Diagnose(args) => commands::diagnose::run(&args, ui),
        args::Command::Train(args) => commands::train::run(&args, ui),
        args::Command::Val(args) => commands::val::run(&args, ui),
        args::Command::Predict(args) => commands::predict::run(&args, ui),
        args::Command::Corrupt(args) => commands::corrupt::run(&args, ui),
        args::Command::Export(args) => commands::export::run(&args, ui),
        args::Command::Infer(args) => commands::infer::run(&args, ui),
        args::Command::Bench(args) => commands::bench::run(&args, ui),
        args::Command::Info(args) => commands::info::run(&args, ui),
        args::Command::Completions(args) => commands::completions::run(&args, ui),
        args::Command::Man(args) => commands::man::run(&args, ui),
    }
}
