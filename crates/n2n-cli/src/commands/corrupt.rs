//! `n2n corrupt`

use std::process::ExitCode;

use anyhow::bail;
use n2n::corrupt::Corrupted;
use n2n::denoise::Survey;
use n2n::files;
use n2n::image::{Encoding, Limits, Pages, Reader, write_pages};

use crate::args::{Corrupt, ImageDepth};
use crate::ui::Ui;

/// Runs the command: every page of the image gets noise of its own, and is otherwise written as it is.
pub fn run(args: &Corrupt, ui: Ui) -> anyhow::Result<ExitCode> {
    let mut encoding = Encoding::of_name(&args.output)?;
    encoding.depth = args.depth.map(ImageDepth::get);
    if encoding
        .depth
        .is_some_and(|depth| !encoding.format.depths().contains(&depth))
    {
        bail!("--depth: {} does not support this depth", encoding.format);
    }
    if args.output.exists() && !args.overwrite {
        bail!(
            "{} already exists; --overwrite replaces it",
            args.output.display()
        );
    }
    let mut reader = Reader::open(&args.input, Limits::default())?;
    let values = (args.range, survey(args)?);
    let mut noisy = Corrupted::new(&mut reader, args.noisetype, values, args.seed);
    files::write_atomically(&args.output, |out| {
        write_pages(&mut noisy, encoding, &args.output, out)
    })?;
    ui.result(args.output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Surveys the whole image, if the range has to be measured on it.
fn survey(args: &Corrupt) -> anyhow::Result<Option<Survey>> {
    let open = || Reader::open(&args.input, Limits::default());
    match open()?.next_image()? {
        Some(page) if args.range.needs_survey(page.depth) => {
            let mut survey = Survey::new(Survey::OF_ALL);
            survey.add_pages(&mut open()?, None)?;
            Ok(Some(survey))
        }
        _ => Ok(None),
    }
}
