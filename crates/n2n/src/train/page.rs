//! The report of a run: curves, pictures and settings in one self-contained HTML file.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::eval::Set;
use crate::files;
use crate::html::{self, Chart, escaped};
use crate::image::Image;
use crate::noise::Noise;
use crate::train::config::Config;
use crate::train::folder::{CONFIG, HELD_OUT, LOSSES, RunFolder};
use crate::train::losses::LossRow;
use crate::words::counted;

/// Side of the parts of pictures that are shown, in pixels.
const SHOWN: usize = 192;
/// Maximum number of pictures.
const PICTURES: usize = 5;

/// Writes the report from the files in the folder; an epoch has `iterations` steps.
pub fn write(folder: &RunFolder, config: &Config, iterations: usize) -> Result<()> {
    let losses = read_losses(&folder.path().join(LOSSES))?;
    let set = Set::Bsd300.name();
    let scores = read_table(&folder.path().join(format!("validation/A_log_{set}.csv")))?;
    let held_out = read_table(&folder.path().join(HELD_OUT))?;

    let name = escaped(&config.log_name);
    let mut body = format!("<header><h1>{name}</h1><p>{}</p></header>", summary(config));
    body += &facts(&losses, &scores, &held_out);
    body += "<h2>Curves <small>over epochs</small></h2><div class=\"charts\">";
    for chart in charts(&losses, &scores, &held_out, iterations) {
        body += &chart.figure();
    }
    body += "</div>";
    body += &pictures(folder, &scores, &held_out)?;
    let path = folder.path().join(CONFIG);
    let settings = escaped(&fs::read_to_string(&path).map_err(Error::io(&path))?);
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        body,
        "<h2>Settings</h2><pre>{settings}</pre>\
         <footer>n2n {version} · training with this folder's config.toml repeats the run</footer>"
    );
    let page = html::document(&config.log_name, &body);
    let path = folder.page();
    files::write_atomically(&path, |file| {
        file.write_all(page.as_bytes()).map_err(Error::io(&path))
    })
}

fn summary(config: &Config) -> String {
    let length = match config.time_budget {
        Some(budget) => format!("for {budget}"),
        None => format!("for {}", counted(config.n_epoch, "epoch")),
    };
    let noise = match config.noise {
        Noise::NONE => "<b>noisy images</b>".into(),
        noise if config.frozen_noise => format!("noise <b>{noise}, frozen</b>"),
        noise => format!("noise <b>{noise}</b>"),
    };
    format!(
        "{noise} · {} of {side} × {side} pixels per step · {length} · network of {} channels · seed {}",
        counted(config.batchsize * config.accumulate, "patch"),
        config.n_feature,
        config.seed,
        side = config.patchsize,
    )
}

/// The most important figures.
fn facts(losses: &[LossRow], scores: &[Vec<f64>], held_out: &[Vec<f64>]) -> String {
    let mut facts = vec![];
    let mut fact = |name: &str, value: String| {
        facts.push(format!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    };
    let best = |table: &[Vec<f64>], column: usize, sign: f64| {
        let of = |row: &&Vec<f64>| sign * row[column];
        let best = table.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
        best.map(|row| (row[column], row[0]))
    };
    if let Some(last) = scores.last() {
        fact("PSNR", format!("{:.2} dB", last[1]));
        fact("SSIM", format!("{:.4}", last[2]));
    }
    if let Some((psnr, epoch)) = best(scores, 1, 1.0) {
        fact(
            "highest PSNR",
            format!("{psnr:.2} dB <small>epoch {epoch}</small>"),
        );
    }
    // Not "best", because a snapshot that fails on whole images is not kept as such. Every row of a run has the same
    // columns.
    let estimated = held_out.first().is_some_and(|row| row.len() > 4);
    let (name, at) = if estimated {
        ("lowest estimated MSE", 4)
    } else {
        ("lowest held-out loss", 3)
    };
    if let Some((value, epoch)) = best(held_out, at, -1.0) {
        fact(name, format!("{value:.6} <small>epoch {epoch}</small>"));
    }
    if let Some(last) = losses.last() {
        fact("loss", format!("{:.6}", last.loss_full));
        fact("steps", last.step.to_string());
        fact("rate", format!("{:.2} steps/s", last.steps_per_s));
        let elapsed = std::time::Duration::from_secs(last.elapsed_s as u64);
        fact("time", humantime::format_duration(elapsed).to_string());
    }
    format!("<dl>{}</dl>", facts.concat())
}

fn charts<'a>(
    losses: &[LossRow],
    scores: &[Vec<f64>],
    held_out: &[Vec<f64>],
    iterations: usize,
) -> Vec<Chart<'a>> {
    let line = |value: fn(&LossRow) -> f64| {
        let points = losses.iter();
        points
            .map(|row| (row.step as f64 / iterations as f64, value(row)))
            .collect()
    };
    let column = |table: &[Vec<f64>], column: usize| {
        let points = table.iter();
        points
            .filter_map(|row| Some((row[0], *row.get(column)?)))
            .collect()
    };
    let chart = |title, logarithmic, series| Chart {
        title,
        logarithmic,
        series,
        latest: true,
        ..Chart::default()
    };
    vec![
        chart(
            "Loss",
            true,
            vec![
                ("full", line(|row| row.loss_full)),
                ("reconstruction", line(|row| row.loss1)),
                ("regularizer", line(|row| row.loss2)),
            ],
        ),
        chart("PSNR in dB", false, vec![("BSD300", column(scores, 1))]),
        chart("SSIM", false, vec![("BSD300", column(scores, 2))]),
        chart(
            "Held-out loss",
            true,
            vec![
                ("full", column(held_out, 3)),
                ("reconstruction", column(held_out, 1)),
                ("regularizer", column(held_out, 2)),
            ],
        ),
        chart(
            "Estimated MSE of held-out images",
            false,
            vec![("SURE", column(held_out, 4))],
        ),
        chart(
            "Learning rate",
            false,
            vec![("rate", line(|row| row.learning_rate))],
        ),
        chart("Λ", false, vec![("Λ", line(|row| row.lambda))]),
        chart(
            "Speed in steps per second",
            false,
            vec![("steps/s", line(|row| row.steps_per_s))],
        ),
    ]
}

/// The middles of the pictures of the last snapshot.
fn pictures(folder: &RunFolder, scores: &[Vec<f64>], held_out: &[Vec<f64>]) -> Result<String> {
    let (set, table) = if scores.is_empty() {
        ("held_out", held_out)
    } else {
        (Set::Bsd300.name(), scores)
    };
    let Some(epoch) = table.last().map(|row| row[0] as usize) else {
        return Ok(String::new());
    };
    let mut html = format!(
        "<h2>Pictures <small>center crops, at most {SHOWN} pixels wide, after epoch {epoch}</small></h2>\
         <div class=\"pictures\">"
    );
    for index in 0..PICTURES {
        html += "<div class=\"row\">";
        let [clean, noisy, denoised] = folder.pictures(set, index, epoch);
        for (kind, path) in [("noisy", noisy), ("denoised", denoised), ("clean", clean)] {
            if path.exists() {
                let uri = picture(&path)?;
                let _ = write!(
                    html,
                    "<figure><img alt=\"{kind}\" src=\"{uri}\"><figcaption>{kind}</figcaption></figure>"
                );
            }
        }
        html += "</div>";
    }
    Ok(html + "</div>")
}

/// The middle of a picture as a data URI.
fn picture(path: &Path) -> Result<String> {
    let image = Image::read(path)?;
    let (height, width) = (image.height.min(SHOWN), image.width.min(SHOWN));
    let (top, left) = ((image.height - height) / 2, (image.width - width) / 2);
    let row = image.width * image.channels;
    let shown = (top..top + height).flat_map(|y| {
        let from = y * row + left * image.channels;
        image.data[from..from + width * image.channels]
            .iter()
            .copied()
    });
    let middle = Image {
        height,
        width,
        channels: image.channels,
        data: shown.collect(),
        depth: image.depth,
    };
    html::picture(&middle)
}

/// The table of losses. Damaged rows are skipped: a run must not end because of a point that a curve lacks.
fn read_losses(path: &Path) -> Result<Vec<LossRow>> {
    if !path.exists() {
        return Ok(vec![]);
    }
    let file = File::open(path).map_err(Error::io(path))?;
    csv::Reader::from_reader(file)
        .deserialize()
        .filter(|row: &csv::Result<_>| row.as_ref().err().is_none_or(csv::Error::is_io_error))
        .collect::<csv::Result<_>>()
        .map_err(|error| Error::io(path)(error.into()))
}

/// A table of numbers without a header; other rows are skipped.
fn read_table(path: &Path) -> Result<Vec<Vec<f64>>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        text => text.map_err(Error::io(path))?,
    };
    let row = |line: &str| {
        let numbers = line.split(',').map(|number| number.parse().ok());
        numbers.collect::<Option<Vec<f64>>>()
    };
    let mut rows: Vec<_> = text.lines().filter_map(row).collect();
    let columns = rows.last().map_or(0, Vec::len);
    rows.retain(|row| row.len() == columns && columns >= 3);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_begins_with_the_noise() {
        let of = |noise: &str, frozen_noise| {
            let noise = noise.parse().unwrap();
            let summary = summary(&Config {
                noise,
                frozen_noise,
                ..Config::default()
            });
            summary.split(" · ").next().unwrap().to_owned()
        };
        assert_eq!(of("gauss25", false), "noise <b>gauss25</b>");
        assert_eq!(of("gauss25", true), "noise <b>gauss25, frozen</b>");
        assert_eq!(of("none", false), "<b>noisy images</b>");
    }

    #[test]
    fn the_lowest_errors_are_not_called_the_best() {
        let scores = [vec![1.0, 28.5, 0.8], vec![2.0, 28.0, 0.9]];
        let losses = [vec![1.0, 0.3, 0.0, 0.3], vec![2.0, 0.2, 0.0, 0.2]];
        let risks = losses.clone().map(|row| [row, vec![0.25]].concat());
        for (scores, held_out, expected) in [
            (
                &scores[..],
                &[][..],
                "highest PSNR</dt><dd>28.50 dB <small>epoch 1<",
            ),
            (
                &[],
                &losses,
                "lowest held-out loss</dt><dd>0.200000 <small>epoch 2<",
            ),
            (
                &[],
                &risks,
                "lowest estimated MSE</dt><dd>0.250000 <small>epoch 2<",
            ),
        ] {
            let facts = facts(&[], scores, held_out);
            assert!(
                facts.contains(expected) && !facts.contains("best"),
                "{facts}"
            );
        }
    }

    #[test]
    fn a_damaged_row_of_the_table_of_losses_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOSSES);
        let header = "step,epoch,iteration,loss1,loss2,loss_full,lambda,learning_rate,steps_per_s,waited,elapsed_s";
        let row = |step| format!("{step},1,1,0.1,0.0,0.1,0.0,0.001,2.0,0.0,1.0");
        let rows = [
            header,
            &row(1),
            "2,1,2,0.3,1,1,0.1,0.0,0.1,0.0,0.001,2.0",
            "3,\0",
            &row(4),
        ];
        fs::write(&path, rows.join("\n")).unwrap();
        let steps: Vec<_> = read_losses(&path)
            .unwrap()
            .iter()
            .map(|row| row.step)
            .collect();
        assert_eq!(steps, [1, 4]);
    }
}
